//! The ledger as counters: what Prometheus needs to show cost and traffic by service, route and
//! data class without asking for SQL.
//!
//! Every delta counts once, when its log is synced; nothing is sampled. The counters begin at 0
//! with each start of the collector, which is what Prometheus expects of counters; the stored
//! ledger keeps the sums.
//!
//! Limits: [`MAX_KEYS`] keys, further ones are counted under `other` in every label, and how many
//! rows that were is a counter. Texts are cut at [`MAX_LABEL_BYTES`] and escaped.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

use crate::otlp::metrics::{Delta, Key, Sums};

/// Keys: at about 1 kB of text each a page stays below 3 MB.
const MAX_KEYS: usize = 2_000;
/// Longest value of a label.
const MAX_LABEL_BYTES: usize = 128;
/// What keys beyond the limit are counted under, as in the filter's ledger.
const OTHER: &str = "other";

const NANOS: u64 = 1_000_000_000;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Totals(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    keys: HashMap<Labels, Counts>,
    other: Counts,
    overflowed: u64,
}

/// Service, direction, route, data class, status class.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Labels([String; 5]);

const NAMES: [&str; 5] = [
    "service_name",
    "direction",
    "route",
    "data_tag",
    "status_class",
];

#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    requests: u64,
    errors: u64,
    cost_nanos: u64,
    request_bytes: u64,
    response_bytes: u64,
    duration_ns: f64,
}

impl Counts {
    fn add(&mut self, sums: &Sums) {
        self.requests = self.requests.saturating_add(sums.requests);
        self.errors = self.errors.saturating_add(sums.errors);
        self.cost_nanos = self.cost_nanos.saturating_add(sums.cost_nanos);
        self.request_bytes = self.request_bytes.saturating_add(sums.request_bytes);
        self.response_bytes = self.response_bytes.saturating_add(sums.response_bytes);
        self.duration_ns += sums.duration_ns;
    }
}

/// A family: its name, help, and what it shows of the counts.
type Family = (&'static str, &'static str, fn(&Counts) -> String);

const FAMILIES: [Family; 6] = [
    ("requests_total", "Requests.", |counts| {
        counts.requests.to_string()
    }),
    (
        "errors_total",
        "Requests that are errors by the policy.",
        |counts| counts.errors.to_string(),
    ),
    ("cost_usd_total", "Exclusive cost in USD.", |counts| {
        let (whole, rest) = (counts.cost_nanos / NANOS, counts.cost_nanos % NANOS);
        format!("{whole}.{rest:09}")
    }),
    (
        "request_bytes_total",
        "Bytes of request bodies.",
        |counts| counts.request_bytes.to_string(),
    ),
    (
        "response_bytes_total",
        "Bytes of response bodies.",
        |counts| counts.response_bytes.to_string(),
    ),
    ("duration_seconds_total", "Time of requests.", |counts| {
        (counts.duration_ns / 1e9).to_string()
    }),
];

impl Totals {
    /// Counts deltas that were not counted before.
    pub(crate) fn add(&self, deltas: &[&Delta]) {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for delta in deltas {
            for (key, sums) in &delta.rows {
                table.add(labels(&delta.service, key), sums);
            }
        }
    }

    /// Appends every counter in Prometheus' text format, in the order of the labels.
    pub(crate) fn render(&self, page: &mut String) {
        let table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut keys: Vec<(&Labels, &Counts)> = table.keys.iter().collect();
        keys.sort_unstable_by_key(|(labels, _)| *labels);
        let other = Labels(std::array::from_fn(|_| OTHER.to_owned()));
        if table.overflowed > 0 {
            keys.push((&other, &table.other));
        }
        let texts: Vec<String> = keys.iter().map(|(labels, _)| labels.text()).collect();
        for (name, help, value) in FAMILIES {
            let _ = writeln!(
                page,
                "# HELP tracemeter_ledger_{name} {help} Exact, by the filters' ledger.\n\
                 # TYPE tracemeter_ledger_{name} counter"
            );
            for (text, (_, counts)) in texts.iter().zip(&keys) {
                let _ = writeln!(page, "tracemeter_ledger_{name}{{{text}}} {}", value(counts));
            }
        }
        let name = "tracemeter_collector_ledger_keys_overflow_total";
        let _ = writeln!(
            page,
            "# HELP {name} Ledger rows shown under `other`: more than {MAX_KEYS} keys.\n\
             # TYPE {name} counter\n{name} {}",
            table.overflowed
        );
    }
}

impl Table {
    fn add(&mut self, labels: Labels, sums: &Sums) {
        if self.keys.len() >= MAX_KEYS && !self.keys.contains_key(&labels) {
            self.overflowed += 1;
            self.other.add(sums);
        } else {
            self.keys.entry(labels).or_default().add(sums);
        }
    }
}

impl Labels {
    fn text(&self) -> String {
        let mut text = String::new();
        for (name, value) in NAMES.iter().zip(&self.0) {
            let comma = if text.is_empty() { "" } else { "," };
            let _ = write!(text, "{comma}{name}=\"{value}\"");
        }
        text
    }
}

fn labels(service: &str, key: &Key) -> Labels {
    let texts = [
        service,
        &key.direction,
        &key.route,
        &key.data_tag,
        &key.status_class,
    ];
    Labels(texts.map(escaped))
}

/// A label's value as the text format wants it.
fn escaped(text: &str) -> String {
    let mut value = String::with_capacity(text.len());
    for character in text.chars() {
        if value.len() >= MAX_LABEL_BYTES {
            break;
        }
        match character {
            '\\' => value.push_str("\\\\"),
            '"' => value.push_str("\\\""),
            '\n' => value.push_str("\\n"),
            _ => value.push(character),
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delta(service: &str, route: &str, requests: u64, cost_nanos: u64) -> Delta {
        let key = Key {
            direction: "inbound".to_owned(),
            route: route.to_owned(),
            data_tag: "PII".to_owned(),
            status_class: "2xx".to_owned(),
            ..Key::default()
        };
        let sums = Sums {
            requests,
            cost_nanos,
            ..Sums::default()
        };
        Delta {
            service: service.to_owned(),
            rows: [(key, sums)].into(),
            ..Delta::default()
        }
    }

    fn page(totals: &Totals) -> String {
        let mut page = String::new();
        totals.render(&mut page);
        page
    }

    #[test]
    fn sums_of_a_key_are_exact_decimals() {
        let totals = Totals::default();
        totals.add(&[&delta("shop", "GET /cart", 2, 1_000_000_001)]);
        totals.add(&[&delta("shop", "GET /cart", 3, 2)]);
        let labels = "{service_name=\"shop\",direction=\"inbound\",route=\"GET /cart\",\
                      data_tag=\"PII\",status_class=\"2xx\"}";
        let page = page(&totals);
        for line in [
            format!("tracemeter_ledger_requests_total{labels} 5"),
            format!("tracemeter_ledger_cost_usd_total{labels} 1.000000003"),
            "tracemeter_collector_ledger_keys_overflow_total 0".to_owned(),
        ] {
            assert!(page.lines().any(|one| one == line), "`{line}`: {page}");
        }
    }

    #[test]
    fn keys_beyond_the_limit_are_counted_together_and_none_is_lost() {
        let totals = Totals::default();
        let more = MAX_KEYS + 7;
        for route in 0..more {
            totals.add(&[&delta("shop", &format!("/{route}"), 1, 5)]);
        }
        let page = page(&totals);
        let requests: u64 = page
            .lines()
            .filter(|line| line.starts_with("tracemeter_ledger_requests_total"))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
            .sum();
        assert_eq!(requests, more as u64);
        assert!(page.contains("service_name=\"other\""), "{page}");
        assert!(page.contains("tracemeter_collector_ledger_keys_overflow_total 7"));
    }

    #[test]
    fn a_hostile_route_cannot_forge_a_line() {
        let totals = Totals::default();
        let route = format!("x\"}} 1\nforged 1\\{}", "y".repeat(500));
        totals.add(&[&delta("shop", &route, 1, 0)]);
        let page = page(&totals);
        assert!(
            !page.lines().any(|line| line.starts_with("forged")),
            "{page}"
        );
        assert!(page.contains("x\\\"} 1\\nforged 1\\\\yyy"), "{page}");
        assert!(page.lines().all(|line| line.len() < 500));
    }
}
