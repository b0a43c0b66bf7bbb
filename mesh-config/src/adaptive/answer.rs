//! The table of one service as the collector answers it to a filter (`GET export.rates_path`).
//!
//! ```json
//! {"version":12,"service":"checkout","unlisted":"e666","routes":{"/cart":"f5c3","/pay":"0"}}
//! ```
//!
//! Thresholds are written as in `ot=th:`, hexadecimal digits without zeros at the right; keys of
//! `routes` are routes as the filter counts them. Members that this reader does not know are
//! passed over, so that a newer collector may say more.
//!
//! What it is not: lenient. A table with anything wrong in it is refused as a whole, because half
//! of a table would move the other half's traces.
//!
//! Limits: [`MAX_ANSWER_BYTES`] and [`MAX_ANSWER_ROUTES`].

use core::fmt;

use w3c_traceparent_parser::otel::Threshold;

use super::Table;
use crate::json;
use crate::node::{Node, Value};

/// Longest answer that is read.
pub const MAX_ANSWER_BYTES: usize = 64 << 10;

/// Most routes of an answer.
pub const MAX_ANSWER_ROUTES: usize = 512;

/// Why an answer was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AnswerError {
    /// It is for another service.
    Service,
    /// It is no JSON object.
    Syntax,
    /// A threshold is missing or not one.
    Threshold,
    /// It has more than [`MAX_ANSWER_BYTES`].
    TooLong,
    /// It lists more than [`MAX_ANSWER_ROUTES`].
    TooManyRoutes,
    /// Its version is missing or no number.
    Version,
}

impl AnswerError {
    /// A stable label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Service => "another_service",
            Self::Syntax => "syntax",
            Self::Threshold => "threshold",
            Self::TooLong => "too_long",
            Self::TooManyRoutes => "too_many_routes",
            Self::Version => "version",
        }
    }
}

impl fmt::Display for AnswerError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl core::error::Error for AnswerError {}

impl Table<Vec<u8>> {
    /// Reads the table of `service`.
    ///
    /// # Errors
    /// See [`AnswerError`].
    pub fn from_answer(bytes: &[u8], service: &str) -> Result<Self, AnswerError> {
        if bytes.len() > MAX_ANSWER_BYTES {
            return Err(AnswerError::TooLong);
        }
        let answer = json::parse(bytes).map_err(|_| AnswerError::Syntax)?;
        if !matches!(answer.value, Value::Map(_)) {
            return Err(AnswerError::Syntax);
        }
        let text = |key: &str| answer.get(key).and_then(Node::text);
        let version = text("version").and_then(|version| version.parse().ok());
        let version = version.ok_or(AnswerError::Version)?;
        if text("service") != Some(service) {
            return Err(AnswerError::Service);
        }
        let unlisted = threshold(answer.get("unlisted"))?;
        let routes: &[_] = match answer.get("routes").map(|routes| &routes.value) {
            None => &[],
            Some(Value::Map(routes)) => routes,
            Some(_) => return Err(AnswerError::Syntax),
        };
        if routes.len() > MAX_ANSWER_ROUTES {
            return Err(AnswerError::TooManyRoutes);
        }
        let mut entries = Vec::with_capacity(routes.len());
        for route in routes {
            let key = route.key.as_bytes().to_vec();
            entries.push((key, threshold(Some(&route.value))?));
        }
        Ok(Self::from_entries(version, entries, unlisted))
    }
}

fn threshold(node: Option<&Node>) -> Result<Threshold, AnswerError> {
    let Some(Value::Text(text)) = node.map(|node| &node.value) else {
        return Err(AnswerError::Threshold);
    };
    Threshold::parse(text.as_bytes()).map_err(|_| AnswerError::Threshold)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(answer: &str) -> AnswerError {
        Table::from_answer(answer.as_bytes(), "shop").unwrap_err()
    }

    #[test]
    fn a_table_is_read_with_its_rates() {
        let answer = br#"{"version":12,"service":"shop","unlisted":"e666",
            "routes":{"/cart":"8","/pay":"0"},"later":[1]}"#;
        let table = Table::from_answer(answer, "shop").unwrap();
        assert_eq!(table.version(), 12);
        let text = |route: &[u8]| table.threshold(route).to_string();
        assert_eq!(
            [text(b"/cart"), text(b"/pay"), text(b"/else")],
            ["8", "0", "e666"]
        );
    }

    #[test]
    fn anything_wrong_refuses_all_of_it() {
        let table = [
            ("", AnswerError::Syntax),
            ("[]", AnswerError::Syntax),
            ("{\"version\":1", AnswerError::Syntax),
            (r#"{"service":"shop","unlisted":"0"}"#, AnswerError::Version),
            (
                r#"{"version":-1,"service":"shop","unlisted":"0"}"#,
                AnswerError::Version,
            ),
            (
                r#"{"version":1,"service":"cart","unlisted":"0"}"#,
                AnswerError::Service,
            ),
            (r#"{"version":1,"unlisted":"0"}"#, AnswerError::Service),
            (r#"{"version":1,"service":"shop"}"#, AnswerError::Threshold),
            (
                r#"{"version":1,"service":"shop","unlisted":0}"#,
                AnswerError::Threshold,
            ),
            (
                r#"{"version":1,"service":"shop","unlisted":"0","routes":{"/a":"g"}}"#,
                AnswerError::Threshold,
            ),
            (
                r#"{"version":1,"service":"shop","unlisted":"0","routes":[]}"#,
                AnswerError::Syntax,
            ),
            (
                r#"{"version":1,"service":"shop","unlisted":"0","routes":{"/a":"0","/a":"8"}}"#,
                AnswerError::Syntax,
            ),
        ];
        for (answer, wanted) in table {
            assert_eq!(refused(answer), wanted, "{answer}");
        }
        let long = " ".repeat(MAX_ANSWER_BYTES + 1);
        assert_eq!(refused(&long), AnswerError::TooLong);
        let routes: Vec<String> = (0..=MAX_ANSWER_ROUTES)
            .map(|route| format!("\"/{route}\":\"0\""))
            .collect();
        let many = format!(
            r#"{{"version":1,"service":"shop","unlisted":"0","routes":{{{}}}}}"#,
            routes.join(",")
        );
        assert_eq!(refused(&many), AnswerError::TooManyRoutes);
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let answer = br#"{"version":12,"service":"shop","unlisted":"e666","routes":{"/cart":"8"}}"#;
        let mut rng = fastrand::Rng::with_seed(3);
        for _ in 0..20_000 {
            let mut bytes = answer.to_vec();
            for _ in 0..rng.usize(1..6) {
                let at = rng.usize(..bytes.len());
                bytes[at] = rng.u8(..);
            }
            bytes.truncate(rng.usize(..=bytes.len()));
            let _ = Table::from_answer(&bytes, "shop");
        }
    }
}
