//! Section `sampling`: which traces are kept. The specification's `sampling_rules.yaml` is this
//! section as it stands.

use std::time::Duration;

use crate::decode::Table;
use crate::rule::Condition;
use crate::section::section;
use crate::units::Probability;

section! {
    /// Which traces are kept. A trace is kept when its own randomness R is at least the threshold
    /// of p, and p is the largest of: the base rate (service rate, else route class, else
    /// default, raised by the environment; the adaptive rate in its place when that is on) and
    /// the rates of all matching rules.
    Sampling {
        /// Share of traces to keep where nothing more special is said.
        default_rate: Probability = Probability::ppm(100_000);
        /// Rate by service name; `-` and `_` are taken as equal. A service at rate 1 is exempt
        /// from the adaptive controller.
        service_rates: Table<Probability> = Table::default();
        /// Rates for groups of requests; the first class whose condition holds counts.
        route_classes: Vec<RouteClass> = Vec::new();
        /// Rate by environment. One above `default_rate` is a floor for every request there, one
        /// below it takes the place of `default_rate`.
        environments: Table<Probability> = Table::new(vec![
            ("development".to_owned(), Probability::ONE),
            ("staging".to_owned(), Probability::ONE),
        ]);
        /// Business flows that are always kept: a request that meets one of these conditions has
        /// rate 1.
        critical_flows: Vec<Condition> = Vec::new();
        /// Rates that hold only when their condition does; the largest one wins, never the first.
        priority_rules: Vec<PriorityRule> = Vec::new();
        /// Floor for routes with little traffic.
        low_volume: LowVolume = LowVolume::default();
        /// What counts as an error, and the rate of errors.
        error_classes: ErrorClasses = ErrorClasses::default();
        /// Cap for floods of client errors.
        error_flood: ErrorFlood = ErrorFlood::default();
        /// Rates that follow the traffic.
        adaptive: Adaptive = Adaptive::default();
    }
}

section! {
    /// A group of requests with a rate of its own.
    RouteClass {
        /// Name, for the decision's explanation.
        name: String = String::new(), @required;
        /// Which requests belong to it. What is unknown at request time does not belong.
        when: Condition = Condition::never(), @required;
        /// Share of their traces to keep.
        rate: Probability = Probability::ONE, @required;
    }
}

section! {
    /// A rate that holds when a condition does.
    PriorityRule {
        /// Name, for the decision's explanation.
        name: String = String::new(), @required;
        /// The condition, in the rule language. What is not known at request time is decided when
        /// the response has ended, or by the collector for the whole trace.
        condition: Condition = Condition::never(), @required;
        /// Share of the matching traces to keep.
        sample_rate: Probability = Probability::ONE, @required;
    }
}

section! {
    /// Floor for routes with little traffic: rates count only above it.
    LowVolume {
        /// Traces per minute, route and proxy that are kept whatever the rate; 0 switches the
        /// floor off.
        traces_per_minute: u32 = 1, in 0..=6000;
        /// Routes that are followed at most; requests on further routes have no floor.
        max_routes: u32 = 500, in 1..=10000;
    }
}

section! {
    /// What counts as an error: the attribute `error` of the rule language, the span status and
    /// the error counts.
    ErrorClasses {
        /// Client errors: HTTP status 400 to 499.
        http_4xx: bool = true;
        /// Server errors: HTTP status 500 to 599.
        http_5xx: bool = true;
        /// gRPC status other than 0 (OK).
        grpc: bool = true;
        /// Streams that were reset, and timeouts.
        reset: bool = true;
        /// Share of error traces to keep, decided when the response has ended.
        rate: Probability = Probability::ONE;
    }
}

impl ErrorClasses {
    /// Whether a response is an error by these classes. `http` is the HTTP status, `grpc` the
    /// gRPC status of gRPC calls only, `reset` whether the stream ended early.
    pub fn is_error(&self, http: Option<u16>, grpc: Option<u32>, reset: bool) -> bool {
        let by_status = match http {
            Some(400..=499) => self.http_4xx,
            Some(500..=599) => self.http_5xx,
            _ => false,
        };
        by_status || (self.grpc && grpc.is_some_and(|code| code != 0)) || (self.reset && reset)
    }
}

section! {
    /// Cap for floods of client errors (a scanner that collects 404 answers): above it such a
    /// request counts as any other. The ledger counts all of them.
    ErrorFlood {
        /// Client errors (4xx) per minute, route and proxy that are kept because they are
        /// errors; 0 means no cap.
        kept_per_minute: u32 = 60, in 0..=1000000;
    }
}

section! {
    /// Rates that follow the traffic, so that the mesh as a whole keeps a steady number of traces.
    /// They take the place of the base rate; rules, critical flows, services at rate 1 and
    /// environments above the default rate are exempt. The collector computes them from the counts
    /// of all proxies and the filters ask it for them; they hold where a trace begins, so that a
    /// change never splits one. Until the first answer the static rates hold; without an answer
    /// for three intervals each worker follows its own traffic.
    Adaptive {
        /// Whether rates follow the traffic; off means the static rates, bit for bit.
        enabled: bool = false;
        /// Traces per second that the whole mesh should keep.
        target_traces_per_second: f64 = 100.0, in 0..=10000000;
        /// No rate goes below this one, even when the target is exceeded.
        min_sampling_rate: Probability = Probability::ppm(1_000);
        /// No rate goes above this one.
        max_sampling_rate: Probability = Probability::ONE;
        /// How often rates are computed anew.
        adjustment_interval: Duration = Duration::from_secs(60);
        /// The part of the target that one worker of a proxy takes upon itself while no collector
        /// answers; about one by the number of workers at which traces begin.
        local_share: Probability = Probability::ppm(100_000);
        /// Services that keep their static rate.
        exempt: Vec<String> = Vec::new();
    }
}
