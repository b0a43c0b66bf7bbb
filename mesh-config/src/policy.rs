//! The policy: every option of Tracemeter as a type, one section per file.
//!
//! Each section is defined once by `section!`: its fields, their defaults, bounds and reference
//! text. [`Policy::default`] is what an empty document means.

#[cfg(feature = "collector")]
mod alerts;
mod attributes;
mod budget;
mod classification;
#[cfg(feature = "collector")]
mod control;
mod cost;
mod debug;
mod export;
#[cfg(feature = "collector")]
mod forward;
mod llm;
mod prices;
mod propagation;
mod return_channel;
mod sampling;
mod service;
#[cfg(not(feature = "collector"))]
mod skipped;
#[cfg(feature = "collector")]
mod trace_storage;
mod trust;

pub use crate::decode::Table;
#[cfg(feature = "collector")]
pub use alerts::{Aggregate, Alert, AlertQuery, AlertSeverity, Comparison};
pub use attributes::{Attributes, Mapping, TagMapping, Tenant};
pub use budget::{Budget, BudgetGrant, OverBudget};
pub use classification::{Classification, Detectors, Redaction, RedactionMode, RetentionDays};
#[cfg(feature = "collector")]
pub use control::Control;
pub use cost::{ChargeSide, Cost, PriceVersion, Settle, TokenPrice};
pub use debug::Debug;
pub use export::Export;
#[cfg(feature = "collector")]
pub use forward::{Forward, ForwardCompression, ForwardProtocol};
pub use llm::{Llm, LlmUpstream};
pub use propagation::{Mode, Propagation, TracestateForm};
pub use return_channel::{ReturnChannel, ReturnDetail};
pub use sampling::{
    Adaptive, ErrorClasses, ErrorFlood, LowVolume, PriorityRule, RouteClass, Sampling,
};
pub use service::{Direction, Service};
#[cfg(feature = "collector")]
pub use trace_storage::{Backend, Compression, Tier, TraceStorage};
pub use trust::{Egress, SampledFlag, TraceIdTrust, Trust, TrustLevel};

use crate::section::section;
#[cfg(feature = "collector")]
use alerts::Alerts;
#[cfg(not(feature = "collector"))]
use skipped::{self as alerts, Alerts, Control, Forward, TraceStorage};

section! {
    /// What a mesh operator says should happen; an empty document means every default.
    Policy {
        /// Whom the proxy stands beside.
        service: Service = Service::default();
        /// Which traces are kept.
        sampling: Sampling = Sampling::default();
        /// What a request costs.
        cost: Cost = Cost::default();
        /// How operation type, data class and other attributes are read from a request.
        attributes: Attributes = Attributes::default();
        /// Data classes, how they are detected and how long they may be kept.
        classification: Classification = Classification::default();
        /// What is written to the trace headers.
        propagation: Propagation = Propagation::default();
        /// Whose trace headers are believed, and who may see ours.
        trust: Trust = Trust::default();
        /// How spans and counts reach the collector.
        export: Export = Export::default();
        /// Help for finding lost context.
        debug: Debug = Debug::default();
        /// How long the collector keeps traces, and where.
        trace_storage: TraceStorage = TraceStorage::default();
        /// How several collectors agree on the adaptive rates.
        control: Control = Control::default();
        /// Where the collector sends traces on to.
        forward: Forward = Forward::default();
        /// Conditions on stored traces that somebody wants to hear about.
        alerts: Alerts = alerts::defaults();
    }
}
