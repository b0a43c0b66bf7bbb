//! The adaptive rates inside the engine: they hold where a trace begins, and nowhere else.

use mesh_config::sampling::BaseRate;

use super::Engine;
use crate::rates::{Answer, Rates, Request, Shared};

impl Engine {
    /// Which base rate holds for a request; counts the trace that begins with it.
    pub(super) fn base_rate(&mut self, undecided: bool, route: &[u8]) -> BaseRate {
        match &mut self.rates {
            None => BaseRate::Policy,
            Some(_) if !undecided => BaseRate::Decided,
            Some(rates) => {
                let threshold = rates.root(route, &mut self.counters);
                threshold.map_or(BaseRate::Policy, BaseRate::Adaptive)
            }
        }
    }

    /// A rule keeps the trace that was just counted whatever the rate.
    pub(super) fn rate_was_forced(&mut self, route: &[u8]) {
        if let Some(rates) = &mut self.rates {
            rates.forced(route);
        }
    }

    /// Moves the counts of decided traces to the ledger, which sends them.
    pub(super) fn settle_decided(&mut self) {
        if let Some(rates) = &mut self.rates {
            let outlet = &mut self.outlet;
            rates.take_unsent(|route, traces| outlet.count_decided(route, traces));
        }
    }

    /// The service whose table another worker may have shared, if this is the time to ask for one.
    #[must_use]
    pub fn rates_due(&self, now_unix_nanos: u64) -> Option<&str> {
        let rates = self.rates.as_ref()?;
        rates
            .is_due(now_unix_nanos)
            .then_some(self.identity.service.as_str())
    }

    /// Takes what [`Engine::rates_answer`] gave to another worker.
    pub fn adopt_rates(&mut self, shared: &[u8], now_unix_nanos: u64, entropy: u64) {
        if let Some(rates) = &mut self.rates {
            rates.adopt(shared, now_unix_nanos, entropy);
        }
    }

    /// The request for the collector's rates that has to be sent now, if any.
    pub fn poll_rates(&mut self, now_unix_nanos: u64) -> Option<Request<'_>> {
        let rates = self.rates.as_mut()?;
        rates.poll(now_unix_nanos, &mut self.counters)
    }

    /// Takes its answer; what comes back is to be shared with the other workers of the proxy.
    pub fn rates_answer(
        &mut self,
        answer: &Answer<'_>,
        now_unix_nanos: u64,
        entropy: u64,
    ) -> Option<Shared<'_>> {
        let rates = self.rates.as_mut()?;
        rates.on_answer(answer, now_unix_nanos, entropy, &mut self.counters)
    }

    /// Version of the collector's table that decides here; `None` where none can.
    #[must_use]
    pub fn rates_version(&self) -> Option<u64> {
        self.rates.as_ref().map(Rates::version)
    }
}
