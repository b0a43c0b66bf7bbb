//! The published table: what filters are told, cut by service.
//!
//! A service's part changes its version only when its own rates change, so filters of a quiet
//! service go on getting 304.
//!
//! Limits: the [`MAX_ROUTES`] busiest routes of a service have entries of their own. If there are
//! more, the rest gets the lowest rate of any of them, so that many small routes do not exceed the
//! target; an answer is at most [`MAX_BODY`] bytes, cut the same way.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use mesh_config::adaptive::Controller;
use serde::de::Error as _;
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use w3c_traceparent_parser::otel::Threshold;

/// Routes of one answer.
pub(super) const MAX_ROUTES: usize = 512;
/// Bytes of one answer.
const MAX_BODY: usize = 64 << 10;

/// What has a rate of its own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    /// `service.name`.
    pub(super) service: Arc<str>,
    /// `http.route`.
    pub(super) route: Arc<str>,
}

/// A threshold as it stands in `ot=th:`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Th(pub(super) Threshold);

impl fmt::Display for Th {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Th {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Th {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let parsed = Threshold::parse(text.as_bytes());
        parsed
            .map(Self)
            .map_err(|_| D::Error::custom(format!("`{text}` is no threshold")))
    }
}

/// The rates of one service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Slice {
    /// Version of the table in which these rates last changed.
    pub(super) version: u64,
    /// Rate of routes that are not named.
    pub(super) unlisted: Th,
    /// Rates by route, the busiest first.
    pub(super) routes: Vec<(String, Th)>,
}

/// The rates of all services.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Table {
    /// Grows with every change of any rate.
    pub(crate) version: u64,
    /// When the window ended that it was made from, milliseconds since the epoch.
    pub(crate) made_ms: u64,
    /// Services without traffic so far.
    pub(super) others: Slice,
    /// Services with traffic.
    pub(super) services: BTreeMap<String, Slice>,
}

/// Traffic per second, name and rate of a route.
type Route = (f64, Arc<str>, Th);

impl Table {
    /// The controller's table, cut by service. What did not change since `before` keeps its
    /// version.
    pub(super) fn publish(
        controller: &Controller<Key>,
        before: Option<&Self>,
        now_ms: u64,
    ) -> Self {
        let version = controller.table().version();
        let unlisted = Th(controller.table().unlisted());
        let mut by_service: BTreeMap<Arc<str>, Vec<Route>> = BTreeMap::new();
        for key in controller.snapshot().keys {
            let threshold = Th(controller.table().threshold(&key.key));
            by_service.entry(key.key.service).or_default().push((
                key.per_second,
                key.key.route,
                threshold,
            ));
        }
        let services = by_service.into_iter().map(|(service, routes)| {
            let known = before.and_then(|table| table.services.get(&*service));
            let slice = Slice::cut(version, unlisted, routes).or_unchanged(known);
            (service.as_ref().to_owned(), slice)
        });
        let others = Slice::cut(version, unlisted, Vec::new());
        Self {
            version,
            made_ms: now_ms,
            services: services.collect(),
            others: others.or_unchanged(before.map(|table| &table.others)),
        }
    }

    /// The rates of a service.
    pub(super) fn slice(&self, service: &str) -> &Slice {
        self.services.get(service).unwrap_or(&self.others)
    }
}

impl Slice {
    fn cut(version: u64, unlisted: Th, mut routes: Vec<Route>) -> Self {
        routes.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
        let mut slice = Self {
            version,
            unlisted,
            routes: Vec::new(),
        };
        let (mut bytes, mut full) = (128, false);
        let mut entries = Vec::new();
        for (_, route, threshold) in routes {
            // JSON may escape every byte of a route to six, and adds quotes, colon and threshold.
            bytes += route.len() * 6 + 24;
            full = full || entries.len() == MAX_ROUTES || bytes > MAX_BODY;
            if full {
                slice.unlisted = slice.unlisted.max(threshold);
            } else {
                entries.push((route.as_ref().to_owned(), threshold));
            }
        }
        entries.retain(|(_, threshold)| *threshold != slice.unlisted);
        slice.routes = entries;
        slice
    }

    fn or_unchanged(self, before: Option<&Self>) -> Self {
        match before {
            Some(before)
                if before.unlisted == self.unlisted && same(&before.routes, &self.routes) =>
            {
                before.clone()
            }
            _ => self,
        }
    }

    /// The answer to a filter, and its entity tag.
    pub(super) fn answer(&self, service: &str) -> (Vec<u8>, String) {
        let body = serde_json::to_vec(&Answer {
            version: self.version,
            service,
            unlisted: self.unlisted,
            routes: Routes(&self.routes),
        });
        // Text and numbers only: this cannot fail.
        let body = body.unwrap_or_default();
        let tag = format!("\"{:016x}\"", fnv1a(&body));
        (body, tag)
    }
}

/// Whether two lists name the same rates; the order says who is busier, which does not matter.
fn same(left: &[(String, Th)], right: &[(String, Th)]) -> bool {
    let sorted = |routes: &[(String, Th)]| {
        let mut routes = routes.to_vec();
        routes.sort();
        routes
    };
    left.len() == right.len() && sorted(left) == sorted(right)
}

#[derive(Serialize)]
struct Answer<'a> {
    version: u64,
    service: &'a str,
    unlisted: Th,
    routes: Routes<'a>,
}

struct Routes<'a>(&'a [(String, Th)]);

impl Serialize for Routes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (route, threshold) in self.0 {
            map.serialize_entry(route, threshold)?;
        }
        map.end()
    }
}

/// A hash that is the same in every process and version (64-bit FNV-1a). Not for hostile input:
/// a collision here costs a filter one unchanged table, or one proxy in a count of proxies.
pub(super) fn fnv1a(bytes: &[u8]) -> u64 {
    const OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    bytes.iter().fold(OFFSET_BASIS, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(PRIME)
    })
}

#[cfg(test)]
mod tests {
    use mesh_config::adaptive::{Settings, Window};

    use super::*;

    fn key(service: &str, route: &str) -> Key {
        Key {
            service: service.into(),
            route: route.into(),
        }
    }

    fn update(controller: &mut Controller<Key>, counts: &[(Key, u64)]) {
        let window = Window {
            duration_ns: 60_000_000_000,
            counts,
            overflow: 0,
            reported: 1,
            expected: 1,
        };
        let settings = Settings {
            target_per_second: 10.0,
            ..Settings::default()
        };
        assert_eq!(controller.update(&window, &settings, |_| false).held, None);
    }

    #[test]
    fn a_service_is_told_its_own_rates_as_the_controller_made_them() {
        let mut controller = Controller::new(&Settings::default());
        let counts = [
            (key("a", "/busy"), 60_000),
            (key("a", "/rare"), 6),
            (key("b", "/x"), 30_000),
        ];
        update(&mut controller, &counts);
        let table = Table::publish(&controller, None, 7);
        let (body, tag) = table.slice("a").answer("a");
        let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(json["service"], "a");
        assert_eq!(json["version"], controller.table().version());
        assert_eq!(json["unlisted"], controller.table().unlisted().to_string());
        let busy = controller.table().threshold(&key("a", "/busy"));
        assert_eq!(json["routes"]["/busy"], busy.to_string());
        assert_eq!(json["routes"]["/rare"], "0");
        assert!(json["routes"].get("/x").is_none());
        assert!(tag.starts_with('"') && tag.len() == 18);
        let unknown = table.slice("nobody").answer("nobody");
        assert!(
            String::from_utf8(unknown.0)
                .unwrap()
                .ends_with("\"routes\":{}}")
        );
    }

    #[test]
    fn a_service_whose_rates_did_not_change_keeps_its_version_and_tag() {
        let mut controller = Controller::new(&Settings::default());
        for _ in 0..3 {
            update(
                &mut controller,
                &[(key("a", "/x"), 60), (key("b", "/x"), 60_000)],
            );
        }
        let first = Table::publish(&controller, None, 1);
        update(
            &mut controller,
            &[(key("a", "/x"), 60), (key("b", "/x"), 300_000)],
        );
        let second = Table::publish(&controller, Some(&first), 2);
        assert!(second.version > first.version);
        assert_eq!(second.slice("a").answer("a"), first.slice("a").answer("a"));
        assert_ne!(
            second.slice("b").answer("b").1,
            first.slice("b").answer("b").1
        );
    }

    #[test]
    fn of_too_many_routes_the_busiest_are_listed_and_the_rest_gets_their_lowest_rate() {
        let th = |rate| Th(Threshold::from_probability(rate).unwrap());
        let routes = (0..MAX_ROUTES + 50).map(|index| {
            let rate = if index < 10 { 0.01 } else { 0.5 };
            (1_000.0 - index as f64, format!("/{index}").into(), th(rate))
        });
        let slice = Slice::cut(3, th(1.0), routes.collect());
        assert_eq!(slice.unlisted, th(0.5));
        assert_eq!(
            slice.routes.len(),
            10,
            "the others have the rate of what is not listed"
        );
        let long: Vec<_> = (0..400)
            .map(|index| {
                (
                    1.0,
                    format!("/{index}/{}", "\u{1}".repeat(400)).into(),
                    th(0.01),
                )
            })
            .collect();
        let slice = Slice::cut(3, th(1.0), long);
        assert!(slice.answer("a").0.len() <= MAX_BODY);
        assert_eq!(slice.unlisted, th(0.01));
    }
}
