//! The memory of the whole process: who may take how much, and what gives way first.
//!
//! Every part keeps to a share of its own: rows (`--hot-mib`), known spans (`--dedup-mib`), traces
//! under way (`--assembly-mib`), requests in work (`--in-flight-mib`), queries, footers of files
//! that they leave for the next ones. Beside them are the buffers of the log and of Parquet files,
//! and what the allocator has not given back yet. So the sum is watched, too, as the system counts
//! it ([`Memory::look`]):
//!
//! 1. above seven eighths of the limit, rows are moved to a partition early;
//! 2. above the limit, new queries are refused;
//! 3. above it and with many rows in memory, clients are asked to wait until those are written.
//!
//! What is counted is one number for all; nothing that was acknowledged is ever given up.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How often the system is asked.
const EVERY: Duration = Duration::from_millis(100);

/// How the allocator gives back what is free.
static GIVE_BACK: OnceLock<fn()> = OnceLock::new();

/// Says how free memory goes back to the system.
pub(crate) fn set_give_back(how: fn()) {
    // Once per process; a second one says the same.
    let _ = GIVE_BACK.set(how);
}

/// Gives free memory back to the system: after work that took and freed much of it.
pub(crate) fn give_back() {
    if let Some(how) = GIVE_BACK.get() {
        how();
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Memory {
    limit: usize,
    resident: AtomicUsize,
    start: Instant,
    /// Milliseconds since the start.
    looked_ms: AtomicU64,
}

impl Memory {
    /// Memory of at most `limit` bytes.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            resident: AtomicUsize::new(0),
            start: Instant::now(),
            looked_ms: AtomicU64::new(0),
        }
    }

    /// Asks the system how much is resident, unless it was asked a moment ago.
    pub(crate) fn look(&self) {
        let now_ms = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        let looked_ms = self.looked_ms.load(Ordering::Relaxed);
        let every_ms = EVERY.as_millis() as u64;
        if looked_ms > 0 && now_ms.saturating_sub(looked_ms) < every_ms {
            return;
        }
        self.looked_ms.store(now_ms.max(1), Ordering::Relaxed);
        self.resident.store(resident(), Ordering::Relaxed);
    }

    /// Bytes resident at the last look.
    pub(crate) fn resident(&self) -> usize {
        self.resident.load(Ordering::Relaxed)
    }

    /// The most that should be resident.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// When to give back at once what is free; before it, that waits until there is less to do.
    pub(crate) fn is_high(&self) -> bool {
        self.resident() > self.limit - self.limit / 4
    }

    /// The first stage.
    pub(crate) fn is_tight(&self) -> bool {
        self.resident() > self.limit - self.limit / 8
    }

    /// The second stage.
    pub(crate) fn is_over(&self) -> bool {
        self.resident() > self.limit
    }
}

/// Resident bytes of this process; 0 where the system does not say.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_ascii_whitespace().next()?.parse().ok());
    kib.map_or(0, |kib: usize| kib.saturating_mul(1024))
}

/// Bytes of a part now, and the most it takes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Part {
    /// Its name in metrics.
    pub(crate) name: &'static str,
    /// Now.
    pub(crate) bytes: usize,
    /// At most.
    pub(crate) limit: usize,
}

/// What metrics show.
#[derive(Debug, Clone, Default)]
pub(crate) struct Status {
    /// Of the whole process.
    pub(crate) resident: usize,
    /// Of the whole process.
    pub(crate) limit: usize,
    /// What is accounted for.
    pub(crate) parts: [Part; 6],
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stages_follow_what_the_system_counts() {
        let roomy = Memory::new(1 << 40);
        roomy.look();
        assert!(roomy.resident() > 1 << 20);
        assert!(!roomy.is_tight() && !roomy.is_over());
        let tight = Memory::new(roomy.resident() + roomy.resident() / 32);
        tight.look();
        assert!(tight.is_tight());
        let over = Memory::new(1 << 20);
        assert!(!over.is_over(), "nothing is known before the first look");
        over.look();
        assert!(over.is_tight() && over.is_over());
    }
}
