//! Routes: templates from the policy, else the path with its identifiers collapsed.
//!
//! `http.route` must have few values (OTel HTTP conventions). A policy template such as
//! `/users/{id}` wins; otherwise segments that look like identifiers (numbers, UUIDs, long hex,
//! long mixed tokens) become `{id}`. Only templates that were seen count: above
//! [`RouteSettings::max_routes`] different ones a further one is called [`OTHER`].
//!
//! Limits: a path is read up to [`MAX_SEGMENTS`] segments and `Facts::MAX_VALUE_BYTES` bytes.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::redact::Redactor;

/// The route of requests beyond the cardinality cap.
pub const OTHER: &[u8] = b"other";

/// Segments of a path that are looked at; the rest becomes `/*`.
pub const MAX_SEGMENTS: usize = 16;

/// A segment of this many hex digits or more is an identifier.
const MIN_HEX_IDENTIFIER: usize = 16;

/// A segment of letters and digits mixed, of this length or more, is an identifier.
const MIN_MIXED_IDENTIFIER: usize = 20;

/// The policy's part.
#[derive(Debug, Clone, Default)]
pub struct RouteSettings {
    /// Templates, in order of preference.
    pub templates: Vec<String>,
    /// Whether identifiers are collapsed where no template fits.
    pub collapse_identifiers: bool,
    /// Different routes at most.
    pub max_routes: usize,
    /// Treats a route when it is first seen.
    pub redactor: Redactor,
}

/// A set of names with a cap: what keeps client supplied text from becoming unbounded dimensions.
#[derive(Debug)]
pub(crate) struct CappedNames {
    /// The same kind of map as that of [`crate::per_minute`]: a second kind is 8 kB of code.
    seen: BTreeMap<Vec<u8>, u32>,
    max: usize,
}

impl CappedNames {
    /// No name seen yet, at most `max` of them.
    pub(crate) const fn new(max: usize) -> Self {
        Self {
            seen: BTreeMap::new(),
            max,
        }
    }

    /// Whether `name` was admitted before.
    pub(crate) fn knows(&self, name: &[u8]) -> bool {
        self.seen.contains_key(name)
    }

    /// Whether no further name is admitted.
    pub(crate) fn is_full(&self) -> bool {
        self.seen.len() >= self.max
    }

    /// Whether `name` is one of those that keep their name.
    pub(crate) fn admits(&mut self, name: &[u8]) -> bool {
        if self.seen.contains_key(name) {
            return true;
        }
        let free = self.seen.len() < self.max;
        if free {
            self.seen.insert(name.to_vec(), 0);
        }
        free
    }
}

/// Finds routes and remembers which ones were seen.
#[derive(Debug)]
pub struct Routes {
    settings: RouteSettings,
    names: CappedNames,
    scratch: Vec<u8>,
}

impl Routes {
    /// No route seen yet.
    #[must_use]
    pub fn new(settings: RouteSettings) -> Self {
        Self {
            names: CappedNames::new(settings.max_routes),
            settings,
            scratch: Vec::new(),
        }
    }

    /// The route of a path (without query). gRPC paths are routes as they stand.
    pub fn find(&mut self, path: &[u8], grpc: bool) -> &[u8] {
        self.scratch.clear();
        if path.is_empty() {
            return b"";
        }
        let template = self
            .settings
            .templates
            .iter()
            .find(|template| fits(template, path));
        match template {
            Some(template) => self.scratch.extend_from_slice(template.as_bytes()),
            None if grpc || !self.settings.collapse_identifiers => {
                self.scratch.extend_from_slice(path);
            }
            None => collapse(path, &mut self.scratch),
        }
        if self.names.knows(&self.scratch) {
            return &self.scratch;
        }
        // Beyond the cap nothing is looked at: a flood of new paths costs no more than others.
        if self.names.is_full() {
            return OTHER;
        }
        match self.settings.redactor.value("http.route", &self.scratch) {
            None => return OTHER,
            Some(Cow::Owned(treated)) => self.scratch = treated,
            Some(Cow::Borrowed(_)) => {}
        }
        if self.names.admits(&self.scratch) {
            &self.scratch
        } else {
            OTHER
        }
    }
}

fn segments(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.strip_prefix(b"/")
        .unwrap_or(path)
        .split(|byte| *byte == b'/')
}

/// Whether `path` has the shape of `template`: `{name}` stands for one segment, a last `*` for
/// any rest.
fn fits(template: &str, path: &[u8]) -> bool {
    let mut wanted = segments(template.as_bytes());
    let mut found = segments(path);
    loop {
        match (wanted.next(), found.next()) {
            (None, None) => return true,
            (Some(b"*"), Some(_)) => return true,
            (Some(want), Some(have)) if is_variable(want) && !have.is_empty() => {}
            (Some(want), Some(have)) if want == have => {}
            _ => return false,
        }
    }
}

fn is_variable(segment: &[u8]) -> bool {
    segment.starts_with(b"{") && segment.ends_with(b"}")
}

fn collapse(path: &[u8], out: &mut Vec<u8>) {
    for (index, segment) in segments(path).enumerate() {
        out.push(b'/');
        if index >= MAX_SEGMENTS {
            out.push(b'*');
            return;
        }
        out.extend_from_slice(if is_identifier(segment) {
            b"{id}"
        } else {
            segment
        });
    }
}

fn is_identifier(segment: &[u8]) -> bool {
    // An e-mail address, or the like.
    if segment.contains(&b'@') {
        return true;
    }
    let digits = segment.iter().filter(|byte| byte.is_ascii_digit()).count();
    if digits == 0 {
        return segment.len() >= 2 * MIN_HEX_IDENTIFIER
            && segment.iter().all(u8::is_ascii_hexdigit);
    }
    let hex = segment
        .iter()
        .all(|byte| byte.is_ascii_hexdigit() || *byte == b'-');
    let token = |byte: &u8| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~' | b'=')
    };
    digits == segment.len()
        || (hex && segment.len() >= MIN_HEX_IDENTIFIER)
        || (segment.len() >= MIN_MIXED_IDENTIFIER && segment.iter().all(token))
        // A bare percent sign marks encoded data: an identifier as far as cardinality goes.
        || segment.contains(&b'%')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes(templates: &[&str], max_routes: usize) -> Routes {
        Routes::new(RouteSettings {
            templates: templates
                .iter()
                .map(|template| (*template).to_owned())
                .collect(),
            collapse_identifiers: true,
            max_routes,
            redactor: Redactor::new(&mesh_config::Policy::default()),
        })
    }

    #[test]
    fn identifiers_collapse_and_words_stay() {
        let mut routes = routes(&[], 100);
        for (path, wanted) in [
            ("/", "/"),
            ("/users/42", "/users/{id}"),
            ("/users/42/orders/7", "/users/{id}/orders/{id}"),
            ("/v1/pay", "/v1/pay"),
            ("/o/550e8400-e29b-41d4-a716-446655440000", "/o/{id}"),
            ("/o/deadbeefdeadbeef0", "/o/{id}"),
            ("/files/report2024.pdf", "/files/report2024.pdf"),
            ("/t/eyJhbGciOiJIUzI1NiJ9xyz", "/t/{id}"),
            ("/users/", "/users/"),
        ] {
            assert_eq!(
                routes.find(path.as_bytes(), false),
                wanted.as_bytes(),
                "{path}"
            );
        }
    }

    #[test]
    fn what_is_personal_is_no_route() {
        let mut routes = routes(&[], 3);
        assert_eq!(routes.find(b"/users/al@example.com", false), b"/users/{id}");
        assert_eq!(routes.find(b"/ssn/078-05-1120/x", false), b"/ssn/***/x");
        assert_eq!(routes.find(b"/ssn/078-05-1121/x", false), b"/ssn/***/x");
        assert_eq!(routes.find(b"/al@example.com/Call", true), b"/***/Call");
        assert_eq!(routes.find(b"/new/078-05-1120", false), OTHER);
    }

    #[test]
    fn the_first_template_that_fits_wins() {
        let mut routes = routes(&["/users/{name}", "/files/*"], 100);
        assert_eq!(routes.find(b"/users/alice", false), b"/users/{name}");
        assert_eq!(routes.find(b"/users/alice/x", false), b"/users/alice/x");
        assert_eq!(routes.find(b"/files/a/b/c", false), b"/files/*");
    }

    #[test]
    fn above_the_cap_further_routes_are_other() {
        let mut routes = routes(&[], 2);
        assert_eq!(routes.find(b"/a", false), b"/a");
        assert_eq!(routes.find(b"/b", false), b"/b");
        assert_eq!(routes.find(b"/c", false), OTHER);
        assert_eq!(routes.find(b"/a", false), b"/a");
    }

    #[test]
    fn a_path_of_many_segments_is_cut() {
        let mut routes = routes(&[], 2);
        let path = "/a".repeat(500);
        assert!(routes.find(path.as_bytes(), false).len() < 50);
    }
}
