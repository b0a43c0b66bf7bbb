//! The filter's counters in Envoy's statistics (`wasmcustom.tracemeter_*`), flushed once per tick.

use filter_core::counters::{Counters, Metric};
use proxy_wasm::hostcalls;
use proxy_wasm::types::MetricType;

/// Name of the gauge of bytes that wait for the collector, summed over all workers.
const QUEUE_BYTES: &str = "tracemeter_queue_bytes";

/// Name of the gauge of the version of the rate table that decides; 0 while another source does.
const RATES_VERSION: &str = "tracemeter_rates_version";

/// Metric ids, in the order of [`Metric::all`].
pub(crate) struct Metrics {
    ids: Vec<Option<u32>>,
    queue_bytes: Option<u32>,
    reported_queue_bytes: i64,
    rates_version: Option<u32>,
    reported_rates_version: u64,
}

impl Metrics {
    /// Defines every metric, so that all of them are visible from the start; defining one again
    /// yields the same id.
    pub(crate) fn define() -> Self {
        let counter =
            |metric: Metric| hostcalls::define_metric(MetricType::Counter, &metric.name());
        Self {
            ids: Metric::all().map(|metric| counter(metric).ok()).collect(),
            queue_bytes: hostcalls::define_metric(MetricType::Gauge, QUEUE_BYTES).ok(),
            reported_queue_bytes: 0,
            rates_version: hostcalls::define_metric(MetricType::Gauge, RATES_VERSION).ok(),
            reported_rates_version: 0,
        }
    }

    /// Shows the version of the rates in force, where it has changed. Workers share the gauge and
    /// their table; the last change is what it shows.
    pub(crate) fn rates_version(&mut self, version: Option<u64>) {
        let Some(version) = version.filter(|version| *version != self.reported_rates_version)
        else {
            return;
        };
        self.reported_rates_version = version;
        if let Some(id) = self.rates_version {
            let _ = hostcalls::record_metric(id, version);
        }
    }

    /// Adds what was counted since the last flush.
    pub(crate) fn flush(&mut self, counters: &mut Counters, queue_bytes: usize) {
        counters.drain(|index, _, value| {
            if let Some(id) = self.ids.get(index).copied().flatten() {
                let _ = hostcalls::increment_metric(id, i64::try_from(value).unwrap_or(i64::MAX));
            }
        });
        // All workers share the gauge: each adds its own change.
        let queue_bytes = i64::try_from(queue_bytes).unwrap_or(i64::MAX);
        let change = queue_bytes - self.reported_queue_bytes;
        if let (Some(id), true) = (self.queue_bytes, change != 0) {
            let _ = hostcalls::increment_metric(id, change);
            self.reported_queue_bytes = queue_bytes;
        }
    }
}
