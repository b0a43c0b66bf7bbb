//! The pause after a failed request to the collector: doubled each time, with jitter, and never
//! shorter than what the server asks for (OTLP, "OTLP/HTTP Throttling").

/// First delay after a failure; doubled with each further one.
const FIRST_NANOS: u64 = 1_000_000_000;

/// Longest delay between two tries.
const MAX_NANOS: u64 = 30_000_000_000;

/// Longest `Retry-After` that is honoured: a collector cannot silence a proxy for longer.
const RETRY_AFTER_MAX_NANOS: u64 = 300_000_000_000;

/// When the next try may happen.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Backoff {
    failures: u32,
    not_before_nanos: u64,
}

impl Backoff {
    /// Whether the last try failed.
    #[must_use]
    pub(crate) fn is_failing(&self) -> bool {
        self.failures > 0
    }

    /// Whether the pause is over.
    #[must_use]
    pub(crate) fn is_over(&self, now_nanos: u64) -> bool {
        now_nanos >= self.not_before_nanos
    }

    /// A try worked: no pause any more.
    pub(crate) fn reset(&mut self) {
        *self = Self::default();
    }

    /// A try failed. `entropy` is any random number, for the jitter.
    pub(crate) fn fail(&mut self, retry_after_nanos: Option<u64>, now_nanos: u64, entropy: u64) {
        let doubled = FIRST_NANOS << self.failures.min(5);
        let full = doubled.min(MAX_NANOS);
        // Half fixed, half random: retries of many proxies spread out, none comes at once.
        let jittered = full / 2 + entropy % (full / 2 + 1);
        let asked = retry_after_nanos.map_or(0, |nanos| nanos.min(RETRY_AFTER_MAX_NANOS));
        self.failures = self.failures.saturating_add(1);
        let until = now_nanos.saturating_add(jittered.max(asked));
        self.not_before_nanos = self.not_before_nanos.max(until);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn pauses_double_up_to_the_longest_and_end_with_a_success() {
        let mut backoff = Backoff::default();
        for wanted in [1, 2, 4, 8, 16, 30, 30] {
            let mut alone = backoff;
            alone.not_before_nanos = 0;
            alone.fail(None, 0, u64::MAX / 2);
            let pause = alone.not_before_nanos;
            assert!(
                pause >= wanted * SECOND / 2 && pause <= wanted * SECOND,
                "{pause} {wanted}"
            );
            backoff.fail(None, 0, 0);
        }
        backoff.reset();
        assert!(backoff.is_over(0) && !backoff.is_failing());
    }

    #[test]
    fn a_longer_retry_after_is_honoured_up_to_its_cap() {
        let mut backoff = Backoff::default();
        backoff.fail(Some(60 * SECOND), 0, 0);
        assert!(!backoff.is_over(59 * SECOND) && backoff.is_over(60 * SECOND));
        backoff.fail(Some(u64::MAX), 60 * SECOND, 0);
        assert!(backoff.is_over(360 * SECOND));
    }
}
