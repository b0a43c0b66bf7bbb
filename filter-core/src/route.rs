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

/// Most names that have numbers, with two numbers to spare.
const MAX_NUMBERED: usize = u16::MAX as usize - 2;

/// A set of names with a cap: what keeps client supplied text from becoming unbounded dimensions.
/// Each has a number, which stands for it where a text would be compared with every request.
#[derive(Debug)]
pub(crate) struct CappedNames {
    /// The same kind of map as that of [`crate::per_minute`]: a second kind is 8 kB of code.
    seen: BTreeMap<Vec<u8>, u32>,
    max: usize,
}

impl CappedNames {
    /// No name seen yet, at most `max` of them and not more than numbers.
    pub(crate) fn new(max: usize) -> Self {
        Self {
            seen: BTreeMap::new(),
            max: max.min(MAX_NUMBERED),
        }
    }

    /// The number of `name` if it was admitted before.
    pub(crate) fn number(&self, name: &[u8]) -> Option<u16> {
        self.seen.get(name).map(|number| *number as u16)
    }

    /// Whether no further name is admitted.
    pub(crate) fn is_full(&self) -> bool {
        self.seen.len() >= self.max
    }

    /// The number of `name` if it is one of those that keep their name: from 0, one after the other.
    pub(crate) fn admit(&mut self, name: &[u8]) -> Option<u16> {
        if let Some(number) = self.number(name) {
            return Some(number);
        }
        if self.is_full() {
            return None;
        }
        let number = self.seen.len() as u32;
        self.seen.insert(name.to_vec(), number);
        Some(number as u16)
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
    pub fn find(&mut self, path: &[u8], grpc: bool) -> Route<'_> {
        if path.is_empty() {
            return Route::NONE;
        }
        self.scratch.clear();
        if !self.settings.templates.is_empty()
            && let Some(template) = template(&self.settings.templates, path)
        {
            self.scratch.extend_from_slice(template);
        } else if grpc || !self.settings.collapse_identifiers {
            self.scratch.extend_from_slice(path);
        } else {
            collapse(path, &mut self.scratch);
        }
        match self.names.number(&self.scratch) {
            Some(number) => Route::named(number, &self.scratch),
            None => self.meet(),
        }
    }

    /// The route in the scratch as it may leave; it was not seen as it stands.
    #[cold]
    #[inline(never)]
    fn meet(&mut self) -> Route<'_> {
        // Beyond the cap nothing is looked at: a flood of new paths costs no more than others.
        if self.names.is_full() {
            return Route::OTHER;
        }
        match self.settings.redactor.value("http.route", &self.scratch) {
            None => return Route::OTHER,
            Some(Cow::Owned(treated)) => self.scratch = treated,
            Some(Cow::Borrowed(_)) => {}
        }
        match self.names.admit(&self.scratch) {
            Some(number) => Route::named(number, &self.scratch),
            None => Route::OTHER,
        }
    }
}

/// A route and its number; equal numbers mean equal names as long as its [`Routes`] live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route<'r> {
    /// The number.
    pub number: u16,
    /// The name.
    pub name: &'r [u8],
}

impl<'r> Route<'r> {
    /// That of a request without a path.
    const NONE: Self = Self {
        number: 0,
        name: b"",
    };
    /// That of the requests beyond the cap.
    const OTHER: Self = Self {
        number: 1,
        name: OTHER,
    };

    fn named(number: u16, name: &'r [u8]) -> Self {
        Self {
            number: number.saturating_add(2),
            name,
        }
    }
}

/// The first template that a path has the shape of.
#[inline(never)]
fn template<'t>(templates: &'t [String], path: &[u8]) -> Option<&'t [u8]> {
    let found = templates.iter().find(|template| fits(template, path));
    found.map(String::as_bytes)
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

/// What a byte may be part of; everything is read in one pass.
mod class {
    /// 0 to 9.
    pub(super) const DIGIT: u8 = 1;
    /// A hexadecimal digit of either case.
    pub(super) const HEX: u8 = 1 << 1;
    /// A hexadecimal digit or a dash.
    pub(super) const DASHED_HEX: u8 = 1 << 2;
    /// Part of a token.
    pub(super) const TOKEN: u8 = 1 << 3;
    /// `@`, as in an e-mail address.
    pub(super) const AT: u8 = 1 << 4;
    /// A bare percent sign marks encoded data: an identifier as far as cardinality goes.
    pub(super) const PERCENT: u8 = 1 << 5;
    /// Ends a segment.
    pub(super) const SLASH: u8 = 1 << 6;

    /// By byte.
    pub(super) static OF: [u8; 256] = table();

    const fn table() -> [u8; 256] {
        let mut table = [0; 256];
        let mut byte = 0_u8;
        while byte < 0x80 {
            #[expect(
                clippy::indexing_slicing,
                reason = "evaluated at compile time, the index is below 128"
            )]
            {
                table[byte as usize] = of(byte);
            }
            byte += 1;
        }
        table
    }

    const fn of(byte: u8) -> u8 {
        match byte {
            b'0'..=b'9' => DIGIT | HEX | DASHED_HEX | TOKEN,
            b'a'..=b'f' | b'A'..=b'F' => HEX | DASHED_HEX | TOKEN,
            b'-' => DASHED_HEX | TOKEN,
            b'g'..=b'z' | b'G'..=b'Z' | b'_' | b'.' | b'~' | b'=' => TOKEN,
            b'@' => AT,
            b'%' => PERCENT,
            b'/' => SLASH,
            _ => 0,
        }
    }
}

fn collapse(path: &[u8], out: &mut Vec<u8>) {
    if path.first() != Some(&b'/') {
        return collapse_rootless(path, out);
    }
    // Begins with a slash, here and after each segment.
    let mut rest = path;
    for _ in 0..MAX_SEGMENTS {
        let (mut any, mut all) = (0, u8::MAX);
        let end = rest.iter().skip(1).position(|byte| {
            let class = class::OF.get(usize::from(*byte)).copied().unwrap_or(0);
            if class == class::SLASH {
                return true;
            }
            any |= class;
            all &= class;
            false
        });
        let end = end.map_or(rest.len(), |len| len.wrapping_add(1));
        let (segment, behind) = rest.split_at_checked(end).unwrap_or((rest, &[]));
        out.extend_from_slice(if is_identifier(segment.len().wrapping_sub(1), any, all) {
            b"/{id}"
        } else {
            segment
        });
        if behind.is_empty() {
            return;
        }
        rest = behind;
    }
    out.extend_from_slice(b"/*");
}

/// A path that does not begin with a slash is read as if it did.
#[cold]
#[inline(never)]
fn collapse_rootless(path: &[u8], out: &mut Vec<u8>) {
    collapse(&[b"/", path].concat(), out);
}

/// Whether a segment is an identifier, by the classes that any and all of its bytes have.
fn is_identifier(len: usize, any: u8, all: u8) -> bool {
    if any & class::AT != 0 {
        return true;
    }
    if any & class::DIGIT == 0 {
        return len >= 2 * MIN_HEX_IDENTIFIER && all & class::HEX != 0;
    }
    all & class::DIGIT != 0
        || (all & class::DASHED_HEX != 0 && len >= MIN_HEX_IDENTIFIER)
        || (all & class::TOKEN != 0 && len >= MIN_MIXED_IDENTIFIER)
        || any & class::PERCENT != 0
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
            ("//", "//"),
            ("/users//42/", "/users//{id}/"),
            ("users/42", "/users/{id}"),
            ("*", "/*"),
        ] {
            assert_eq!(
                routes.find(path.as_bytes(), false).name,
                wanted.as_bytes(),
                "{path}"
            );
        }
    }

    #[test]
    fn what_is_personal_is_no_route() {
        let mut routes = routes(&[], 3);
        assert_eq!(
            routes.find(b"/users/al@example.com", false).name,
            b"/users/{id}"
        );
        assert_eq!(
            routes.find(b"/ssn/078-05-1120/x", false).name,
            b"/ssn/***/x"
        );
        assert_eq!(
            routes.find(b"/ssn/078-05-1121/x", false).name,
            b"/ssn/***/x"
        );
        assert_eq!(
            routes.find(b"/al@example.com/Call", true).name,
            b"/***/Call"
        );
        assert_eq!(routes.find(b"/new/078-05-1120", false).name, OTHER);
    }

    #[test]
    fn the_first_template_that_fits_wins() {
        let mut routes = routes(&["/users/{name}", "/files/*"], 100);
        assert_eq!(routes.find(b"/users/alice", false).name, b"/users/{name}");
        assert_eq!(
            routes.find(b"/users/alice/x", false).name,
            b"/users/alice/x"
        );
        assert_eq!(routes.find(b"/files/a/b/c", false).name, b"/files/*");
    }

    #[test]
    fn above_the_cap_further_routes_are_other() {
        let mut routes = routes(&[], 2);
        assert_eq!(routes.find(b"/a", false).name, b"/a");
        assert_eq!(routes.find(b"/b", false).name, b"/b");
        assert_eq!(routes.find(b"/c", false).name, OTHER);
        assert_eq!(routes.find(b"/a", false).name, b"/a");
    }

    #[test]
    fn a_path_of_many_segments_is_cut() {
        let mut routes = routes(&[], 2);
        let path = "/a".repeat(500);
        assert!(routes.find(path.as_bytes(), false).name.len() < 50);
    }
}
