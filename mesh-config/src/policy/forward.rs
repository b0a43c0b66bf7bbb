//! Section `forward`: where the collector sends received traces on to.

use std::time::Duration;

use crate::Secret;
use crate::choice::choice;
use crate::decode::Table;
use crate::section::section;
use crate::units::ByteSize;

choice! {
    /// How the back end is spoken to.
    ForwardProtocol {
        /// OTLP/gRPC
        Grpc = "grpc",
        /// OTLP/HTTP with protobuf
        HttpProtobuf = "http/protobuf",
    }
}

choice! {
    /// How requests to the back end are compressed.
    ForwardCompression {
        /// gzip
        Gzip = "gzip",
        /// zstd
        Zstd = "zstd",
        /// not at all
        None = "none",
    }
}

section! {
    /// Where the collector sends traces on to, by OTLP: any back end, or another collector. Spans
    /// are sent as they were received, each request at least once; a back end that is away holds
    /// up nothing: beyond `queue_bytes` the oldest requests are dropped and counted.
    Forward {
        /// Address of the back end, such as `http://tempo:4317`; empty switches forwarding off.
        endpoint: String = String::new();
        /// How the back end is spoken to.
        protocol: ForwardProtocol = ForwardProtocol::Grpc;
        /// Path of OTLP/HTTP.
        path: String = "/v1/traces".to_owned();
        /// Further headers (gRPC: metadata) of every request, such as an authorization.
        headers: Table<Secret> = Table::default();
        /// How requests are compressed.
        compression: ForwardCompression = ForwardCompression::Gzip;
        /// How long a request may take.
        timeout: Duration = Duration::from_secs(10);
        /// How long spans wait for a batch to fill.
        linger: Duration = Duration::from_secs(1);
        /// Bytes, before compression, from which a batch is full. One received request is never
        /// divided, so a batch may be as large as the largest of them.
        batch_bytes: ByteSize = ByteSize::mib(1);
        /// Bytes that wait for the back end, compressed as they are in the collector's log.
        queue_bytes: ByteSize = ByteSize::mib(64);
        /// Batches under way at once.
        max_in_flight: u32 = 4, in 1..=64;
        /// How long a batch is tried before it is dropped and counted; `0s` means for as long as
        /// there is room.
        give_up_after: Duration = Duration::ZERO;
    }
}
