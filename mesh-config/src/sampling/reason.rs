//! The one list of reasons why a trace was kept or dropped: equal in code, metric labels, span
//! attributes and documentation.

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $label:literal, $kept:literal;)+) => {
        /// Why a trace was kept, or why not.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason {
            $( $(#[doc = $doc])+ $variant, )+
        }

        impl Reason {
            /// Every reason; metric families have exactly these labels.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The label: metric label, value of `sampling.reason`.
            pub const fn as_str(self) -> &'static str {
                match self { $( Self::$variant => $label, )+ }
            }

            /// Whether a trace with this reason was kept.
            pub const fn kept(self) -> bool {
                match self { $( Self::$variant => $kept, )+ }
            }

            /// Reference text.
            pub const fn doc(self) -> &'static str {
                match self { $( Self::$variant => concat!($($doc),+), )+ }
            }

            /// Its place in [`Reason::ALL`], for tables of counters.
            pub const fn index(self) -> usize {
                self as usize
            }
        }
    };
}

reasons! {
    /// A trusted parent had the sampled flag.
    ParentSampled = "parent_sampled", true;
    /// By `sampling.default_rate`.
    DefaultRate = "default_rate", true;
    /// By `sampling.service_rates`.
    ServiceRate = "service_rate", true;
    /// By a class of `sampling.route_classes`.
    RouteRate = "route_rate", true;
    /// By `sampling.environments`.
    EnvironmentRate = "environment_rate", true;
    /// By the rate that follows the traffic, see `sampling.adaptive`.
    AdaptiveRate = "adaptive_rate", true;
    /// By the floor for routes with little traffic, see `sampling.low_volume`.
    LowVolumeFloor = "low_volume_floor", true;
    /// By a condition of `sampling.critical_flows`.
    CriticalFlow = "critical_flow", true;
    /// By a rule of `sampling.priority_rules` that is none of the following.
    PriorityRule = "priority_rule", true;
    /// By a priority rule about errors, or by `sampling.error_classes`.
    Error = "error", true;
    /// By a priority rule about duration.
    Slow = "slow", true;
    /// By a priority rule about cost.
    Expensive = "expensive", true;
    /// By a priority rule about the data class.
    DataClass = "data_class", true;
    /// By a priority rule about human review.
    HumanReview = "human_review", true;
    /// A call further down was kept for one of the five reasons above, and its response said so;
    /// see `propagation.return_channel`.
    Descendant = "descendant", true;
    /// Nothing was left of the trace's budget, see `cost.budget`.
    OverBudget = "over_budget", true;
    /// Its randomness is below the threshold of every rate that holds.
    NotSampled = "not_sampled", false;
    /// The rate that holds is 0.
    RateZero = "rate_zero", false;
    /// An error above the cap of `sampling.error_flood`.
    ErrorFlood = "error_flood", false;
    /// The configuration was refused and there was none before: the filter only passes on.
    Disabled = "disabled", false;
    /// Not metered: traffic of the exporter itself, CONNECT tunnels.
    Excluded = "excluded", false;
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
