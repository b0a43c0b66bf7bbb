//! Section `propagation`: what is written to the trace headers.

use super::ReturnChannel;
use crate::choice::choice;
use crate::section::section;

choice! {
    /// Who owns the trace headers.
    Mode {
        /// the filter: Envoy's own tracing is off, or has `no_context_propagation`
        Owner = "owner",
        /// Envoy's tracer: the filter writes baggage and puts cost and class on Envoy's span
        Companion = "companion",
    }
}

choice! {
    /// How cost and class are written to tracestate.
    TracestateForm {
        /// two members, `cost_usd=0.0001,data_tag=PII`
        Members = "members",
        /// one member, `tm=c:0.0001;d:PII`, which takes one of the 32 places instead of two
        Compact = "compact",
        /// not at all; baggage carries both
        Off = "off",
    }
}

section! {
    /// What is written to the trace headers.
    Propagation {
        /// Who owns the trace headers.
        mode: Mode = Mode::Owner;
        /// Values carried in baggage: `cost_usd`, `data_tag`, or none of them.
        baggage: Vec<String> = vec!["cost_usd".to_owned(), "data_tag".to_owned()];
        /// How cost and class are written to tracestate. Every form is read.
        tracestate: TracestateForm = TracestateForm::Members;
        /// Whether new traces carry the W3C random flag. Go services with opentelemetry-go
        /// before 1.42 take such a context as invalid: switch it off in front of them.
        random_flag: bool = true;
        /// Longest tracestate that is sent; whole members are dropped above it, longest first.
        tracestate_max_bytes: u32 = 512, in 128..=8192;
        /// Longest baggage that is sent; whole members are dropped from the right above it.
        baggage_max_bytes: u32 = 8192, in 256..=16384;
        /// What a response tells the caller's proxy.
        return_channel: ReturnChannel = ReturnChannel::default();
    }
}
