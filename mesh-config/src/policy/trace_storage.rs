//! Section `trace_storage`: how long the collector keeps traces, and where.

use std::time::Duration;

use crate::choice::choice;
use crate::section::section;
use crate::units::Probability;

choice! {
    /// Where a tier is stored. `s3` is in effect for warm and cold; a tier with `redis` or
    /// `elasticsearch` stays in the collector's data folder so far, and so does the hot tier,
    /// whatever is named here.
    Backend {
        /// in the collector's own data folder
        Embedded = "embedded",
        /// in a Redis server
        Redis = "redis",
        /// in Elasticsearch or a compatible server
        Elasticsearch = "elasticsearch",
        /// in S3 or a compatible object store
        S3 = "s3",
    }
}

choice! {
    /// How a tier is compressed.
    Compression {
        /// not at all
        None = "none",
        /// with Zstandard
        Zstd = "zstd",
    }
}

const DAY: Duration = Duration::from_secs(86_400);

section! {
    /// How long the collector keeps traces, and where. Tiers are nested: what a later tier keeps
    /// is a subset of the earlier one, chosen by the trace's own randomness.
    TraceStorage {
        /// Immediate access.
        hot: Tier = Tier { duration: DAY, full_fidelity: true, ..Tier::default() };
        /// Quick retrieval.
        warm: Tier = Tier {
            duration: DAY * 7,
            sampling: Probability::ppm(100_000),
            ..Tier::default()
        };
        /// Archive.
        cold: Tier = Tier {
            duration: DAY * 30,
            sampling: Probability::ppm(10_000),
            compression: Compression::Zstd,
            ..Tier::default()
        };
        /// How long counts per minute are kept.
        aggregates: Duration = DAY * 30;
        /// How long traces with an error are kept, whatever the tiers keep of them; data classes
        /// still cap it.
        errors: Duration = DAY * 30;
    }
}

section! {
    /// A storage tier.
    Tier {
        /// Age, counted from the trace's start, at which the tier ends.
        duration: Duration = DAY;
        /// Where the tier is stored.
        backend: Backend = Backend::Embedded;
        /// Address of the back end, such as
        /// `s3://bucket/prefix?endpoint=http://minio:9000&region=us-east-1` (without `endpoint`:
        /// Amazon's); empty means the collector's environment (`TRACEMETER_S3_URL`), and the data
        /// folder when that names none.
        url: String = String::new();
        /// Whether every received trace is kept; `sampling` then has to be 1.
        full_fidelity: bool = false;
        /// Share of the received traces that the tier keeps.
        sampling: Probability = Probability::ONE;
        /// How the tier's columns are compressed; `none` leaves zstd at level 1.
        compression: Compression = Compression::None;
        /// Level for `zstd`.
        compression_level: u32 = 3, in 1..=19;
    }
}
