//! Section `alerts`: conditions on stored traces. The specification's `trace_alerts.yaml` is this
//! section as it stands; its English queries are a small grammar, see [`AlertQuery`].

use std::time::Duration;

use crate::choice::choice;
use crate::node::{Node, Value};
use crate::rule::Condition;
use crate::section::section;
use crate::setting::{Context, Setting, shorten};

choice! {
    /// How bad it is when an alert fires.
    AlertSeverity {
        /// somebody should look at it
        Warning = "warning",
        /// good to know
        Info = "info",
        /// somebody has to look at it now
        Critical = "critical",
    }
}

section! {
    /// A condition on stored traces that somebody wants to hear about. One about traces with
    /// threshold 1 tells each trace apart, once. Without the section the specification's four
    /// alerts are in effect.
    Alert {
        /// Name.
        name: String = String::new(), @required;
        /// What is counted; in the grammar of alert queries.
        query: AlertQuery = AlertQuery::OrphanedSpans, @required;
        /// The alert fires when the count within the window reaches this number.
        threshold: u64 = 1, @required;
        /// The window.
        window: Duration = Duration::from_secs(300), @required;
        /// How bad it is.
        severity: AlertSeverity = AlertSeverity::Warning;
        /// Address that is told, `http://..`, in the form of Alertmanager (without a path:
        /// `/api/v2/alerts`); empty means the collector's `--alert-webhook`, and without that
        /// only the log and the page.
        webhook: String = String::new();
    }
}

/// The section.
pub(super) type Alerts = Vec<Alert>;

/// The four alerts of the specification.
pub(super) fn defaults() -> Alerts {
    let alert = |name: &str, query: &str, threshold, minutes: u64, severity| Alert {
        name: name.to_owned(),
        query: AlertQuery::parse(query).unwrap_or(AlertQuery::OrphanedSpans),
        threshold,
        window: Duration::from_secs(minutes * 60),
        severity,
        webhook: String::new(),
    };
    let (warning, critical) = (AlertSeverity::Warning, AlertSeverity::Critical);
    vec![
        alert(
            "Orphaned Spans",
            "traces without parent_id and not root",
            100,
            5,
            warning,
        ),
        alert(
            "Trace Cost Anomaly",
            "sum(cost_usd) by trace_id > 0.1",
            1,
            1,
            critical,
        ),
        alert(
            "Missing Cost Attribution",
            "spans without cost_usd attribute",
            1000,
            10,
            warning,
        ),
        alert("Trace Depth Exceeded", "trace depth > 50", 1, 5, warning),
    ]
}

choice! {
    /// How the values of a trace are combined.
    Aggregate {
        /// their sum
        Sum = "sum",
        /// the largest
        Max = "max",
        /// the mean
        Avg = "avg",
        /// how many there are
        Count = "count",
    }
}

choice! {
    /// How a number is compared.
    Comparison {
        /// greater
        Greater = ">",
        /// greater or equal
        GreaterOrEqual = ">=",
        /// less
        Less = "<",
        /// less or equal
        LessOrEqual = "<=",
        /// equal
        Equal = "=",
    }
}

impl Comparison {
    /// Whether `left` stands in this relation to `right`.
    pub fn holds(self, left: f64, right: f64) -> bool {
        match self {
            Self::Greater => left > right,
            Self::GreaterOrEqual => left >= right,
            Self::Less => left < right,
            Self::LessOrEqual => left <= right,
            Self::Equal => left == right,
        }
    }
}

/// What an alert counts. The reference page has the grammar.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum AlertQuery {
    /// Spans that name a parent which has not arrived.
    #[default]
    OrphanedSpans,
    /// Spans that lack an attribute.
    SpansWithout {
        /// The attribute.
        attribute: String,
    },
    /// Traces by the length of their longest chain of spans.
    TraceDepth {
        /// The relation.
        comparison: Comparison,
        /// The number compared with.
        value: f64,
    },
    /// Traces by a combination of their spans' values.
    ByTrace {
        /// How values are combined.
        aggregate: Aggregate,
        /// The attribute whose values are combined.
        attribute: String,
        /// The relation.
        comparison: Comparison,
        /// The number compared with.
        value: f64,
    },
    /// Spans that meet a condition of the rule language.
    SpansWhere(Condition),
}

impl AlertQuery {
    /// The grammar of queries, as Markdown.
    #[cfg(feature = "docs")]
    pub const GRAMMAR: &'static str = "\
Words are separated by blanks; their letter case does not count.

```text
query = \"traces without parent_id and not root\"         spans whose parent never arrived
      | \"spans without\" NAME \"attribute\"                cost_usd: spans that no price names
      | \"trace depth\" CMP NUMBER                         traces, once each
      | AGGREGATE \"(\" NAME \")\" \"by trace_id\" CMP NUMBER  traces, once each
      | \"spans where\" CONDITION                          in the rule language
CMP = \">\" | \">=\" | \"<\" | \"<=\" | \"=\"      AGGREGATE = \"sum\" | \"max\" | \"avg\" | \"count\"
```

Sums of `cost_usd` are exact. `>` and `>=` of a sum, a largest value, a count or the depth are judged
as spans arrive; everything that a later span could take back is judged when the trace has been
quiet for the collector's `--orphan-grace`, which is also how long a parent may take to arrive.
";

    /// Reads a query; the error says what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let lower = text.to_ascii_lowercase();
        let words: Vec<&str> = lower.split_whitespace().collect();
        match words.as_slice() {
            [
                "traces" | "spans",
                "without",
                "parent_id",
                "and",
                "not",
                "root",
            ] => Ok(Self::OrphanedSpans),
            ["spans", "without", name, "attribute"] => Ok(Self::SpansWithout {
                attribute: (*name).to_owned(),
            }),
            ["trace", "depth", comparison, number] => {
                let (comparison, value) = compared(comparison, number)?;
                Ok(Self::TraceDepth { comparison, value })
            }
            ["spans", "where", ..] => Self::spans_where(text),
            [call, "by", "trace_id", comparison, number] => {
                let (comparison, value) = compared(comparison, number)?;
                let (aggregate, attribute) = called(call)?;
                Ok(Self::ByTrace {
                    aggregate,
                    attribute,
                    comparison,
                    value,
                })
            }
            _ => Err(format!("query `{}` is not understood", shorten(text))),
        }
    }

    fn spans_where(text: &str) -> Result<Self, String> {
        let lower = text.to_ascii_lowercase();
        let start = lower
            .find("where")
            .map_or(text.len(), |at| at + "where".len());
        let condition = text.get(start..).unwrap_or_default();
        match Condition::parse(condition.trim()) {
            Ok(condition) => Ok(Self::SpansWhere(condition)),
            Err(error) => Err(error.message().to_owned()),
        }
    }
}

fn compared(comparison: &str, number: &str) -> Result<(Comparison, f64), String> {
    let found = Comparison::parse(comparison)
        .ok_or_else(|| format!("`{}` is not a comparison", shorten(comparison)))?;
    let value = number.parse::<f64>().ok().filter(|value| value.is_finite());
    let value = value.ok_or_else(|| format!("`{}` is not a number", shorten(number)))?;
    Ok((found, value))
}

fn called(call: &str) -> Result<(Aggregate, String), String> {
    let parts = call.strip_suffix(')').and_then(|rest| rest.split_once('('));
    let found = parts.and_then(|(name, attribute)| {
        Aggregate::parse(name).map(|aggregate| (aggregate, attribute.to_owned()))
    });
    found.ok_or_else(|| {
        format!(
            "`{}` is not one of `sum(..)`, `max(..)`, `avg(..)`, `count(..)`",
            shorten(call)
        )
    })
}

impl std::fmt::Display for AlertQuery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::OrphanedSpans => f.write_str("traces without parent_id and not root"),
            Self::SpansWithout { attribute } => write!(f, "spans without {attribute} attribute"),
            Self::TraceDepth { comparison, value } => {
                write!(f, "trace depth {} {value}", comparison.as_str())
            }
            Self::ByTrace {
                aggregate,
                attribute,
                comparison,
                value,
            } => {
                let (name, sign) = (aggregate.as_str(), comparison.as_str());
                write!(f, "{name}({attribute}) by trace_id {sign} {value}")
            }
            Self::SpansWhere(condition) => write!(f, "spans where {}", condition.source()),
        }
    }
}

impl Setting for AlertQuery {
    fn decode(&mut self, node: &Node, context: &mut Context) {
        let (Value::Plain(text) | Value::Text(text)) = &node.value else {
            return context.wrong_kind(node, "an alert query");
        };
        match Self::parse(text) {
            Ok(query) => *self = query,
            Err(message) => context.error(
                node.mark,
                message,
                "allowed: `traces without parent_id and not root`, `spans without NAME attribute`, \
                 `trace depth > N`, `sum(NAME) by trace_id > N`, `spans where CONDITION`",
            ),
        }
    }

    fn encode(&self) -> Node {
        crate::decode::text_node(&self.to_string())
    }

    #[cfg(feature = "docs")]
    fn shape() -> crate::docs::Shape {
        crate::docs::Shape::AlertQuery
    }
}
