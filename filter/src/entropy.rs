//! Random numbers from the host's cryptographic generator (WASI `random_get`), read in blocks so
//! that most requests cost no host call for their ids.
//!
//! Trace ids need all 56 low bits uniform (W3C random flag, OTel sampling): no counter, clock or
//! seeded generator stands behind them. Should the host refuse, the block is filled from
//! `fastrand`, seeded by the VM's start: ids stay unique, and the failure is counted.

use filter_core::Entropy;

/// Bytes fetched at once: ids of 21 new traces, or of 64 continued ones.
const BLOCK_BYTES: usize = 512;

/// A block of random bytes that is used up front to back.
pub(crate) struct HostEntropy {
    block: [u8; BLOCK_BYTES],
    used: usize,
    fallback: fastrand::Rng,
    failures: u64,
}

impl HostEntropy {
    pub(crate) fn new() -> Self {
        Self {
            block: [0; BLOCK_BYTES],
            used: BLOCK_BYTES,
            fallback: fastrand::Rng::new(),
            failures: 0,
        }
    }

    /// Blocks that the host refused to fill since the last call.
    pub(crate) fn take_failures(&mut self) -> u64 {
        std::mem::take(&mut self.failures)
    }

    fn refill(&mut self) {
        if getrandom::fill(&mut self.block).is_err() {
            self.fallback.fill(&mut self.block);
            self.failures += 1;
        }
        self.used = 0;
    }
}

impl Entropy for HostEntropy {
    fn next_u64(&mut self) -> u64 {
        if self.used + 8 > BLOCK_BYTES {
            self.refill();
        }
        let bytes = self.block.get(self.used..self.used + 8);
        self.used += 8;
        bytes
            .and_then(|bytes| bytes.try_into().ok())
            .map_or(0, u64::from_le_bytes)
    }
}
