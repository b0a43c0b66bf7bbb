//! The budgets, all in one place. Committed: a change that needs more has to say so here.
//!
//! Numbers are those of the shipped module as `make build` leaves it, with a little room (about
//! 5 %) for another version of the compiler. Instructions are WebAssembly operators executed
//! (`count.rs`), allocation on behalf of the host included; code is the bytes of operators that run at
//! least once (`footprint.rs`): they have to be fetched into the processor's caches anew by a proxy
//! that does other things in between. Host calls are those of all callbacks of one request.

/// What one request may take.
pub(crate) struct PerRequest {
    pub(crate) case: &'static str,
    pub(crate) instructions: u64,
    pub(crate) code_bytes: u64,
    pub(crate) host_calls: u64,
}

/// By path through the filter.
pub(crate) const PER_REQUEST: [PerRequest; 5] = [
    PerRequest {
        case: "unsampled",
        instructions: 25_900,
        code_bytes: 19_300,
        host_calls: 10,
    },
    PerRequest {
        case: "sampled",
        instructions: 45_300,
        code_bytes: 27_000,
        host_calls: 10,
    },
    PerRequest {
        case: "new trace",
        instructions: 16_800,
        code_bytes: 16_000,
        host_calls: 10,
    },
    PerRequest {
        case: "kept as an error",
        instructions: 45_800,
        code_bytes: 28_800,
        host_calls: 12,
    },
    PerRequest {
        case: "hostile headers",
        instructions: 156_000,
        code_bytes: 20_400,
        host_calls: 10,
    },
];

/// Bytes of the whole module. Envoy's memory grows with the code.
pub(crate) const MODULE_BYTES: u64 = 560_000;

/// Bytes of the module's code.
pub(crate) const CODE_BYTES: u64 = 475_000;

/// Bytes that one more span adds to a batch before compression.
pub(crate) const SPAN_BYTES: u64 = 730;

/// Bytes of a span as it is sent, a hundred to a batch: its share of the envelope, compressed.
pub(crate) const SENT_SPAN_BYTES: u64 = 40;

/// Bytes of a batch beside its spans: resource, scope, schema.
pub(crate) const BATCH_BYTES: u64 = 280;

/// Pages of 64 KiB that the module's memory may have after [`GROWTH_REQUESTS`] requests.
pub(crate) const MEMORY_PAGES: u64 = 19;

/// Requests after which the memory is looked at again: none of them may add a page.
pub(crate) const GROWTH_REQUESTS: u32 = 20_000;
