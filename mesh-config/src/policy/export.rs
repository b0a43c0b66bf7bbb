//! Section `export`: how spans and counts reach the collector.

use std::time::Duration;

use crate::Secret;
use crate::decode::Table;
use crate::section::section;
use crate::units::ByteSize;

section! {
    /// How spans and counts reach the collector. Requests never wait for it: what does not fit is
    /// dropped, oldest first, and counted.
    Export {
        /// Envoy cluster of the collector (OTLP/HTTP); empty switches export off.
        cluster: String = String::new();
        /// Value of the `:authority` header.
        authority: String = "tracemeter-collector".to_owned();
        /// Path for spans.
        path: String = "/v1/traces".to_owned();
        /// Path for counts.
        metrics_path: String = "/v1/metrics".to_owned();
        /// Path of the adaptive rate table, asked for when `sampling.adaptive` is on.
        rates_path: String = "/v1/rates".to_owned();
        /// How long a batch may take.
        timeout: Duration = Duration::from_secs(5);
        /// How long a span waits for its batch to fill.
        linger: Duration = Duration::from_secs(1);
        /// Spans of a full batch.
        batch_spans: u32 = 512, in 100..=1000;
        /// Bytes that wait for the collector, per worker of the proxy.
        queue_bytes: ByteSize = ByteSize::mib(4);
        /// Batches under way at once, per worker of the proxy.
        max_in_flight: u32 = 4, in 1..=64;
        /// Whether what is sent is compressed when that makes it smaller; every OTLP receiver reads
        /// gzip. Off, the proxy spends less time and more bytes.
        gzip: bool = true;
        /// How often counts are sent.
        ledger_interval: Duration = Duration::from_secs(5);
        /// Different keys (route, status class, ..) that are counted apart, per worker; further
        /// ones are counted together as `other`.
        ledger_keys: u32 = 2000, in 10..=100000;
        /// Further headers of every export request, such as an authorization of the collector.
        headers: Table<Secret> = Table::default();
    }
}
