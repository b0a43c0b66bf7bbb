//! The state of every alert: a pure function of signals and time.
//!
//! ```text
//! inactive --counted--> pending --threshold reached--> firing --below it--> resolved
//!                                                         ^                    |
//!                                                         +--reached again-----+
//! ```
//!
//! An alert fires when its count within the sliding window reaches the threshold, and is resolved
//! when the count falls below it. An alert about traces with threshold 1 is about each of them:
//! it tells every trace apart, once, and the trace's own alert ends when the window has passed.

use std::collections::VecDeque;

use mesh_config::policy::{Alert, AlertQuery};
use serde::{Deserialize, Serialize};

use super::fired::Fired;
use super::window::Window;
use crate::assembly::{Crossing, Signals};

/// Traces shown as examples.
const MAX_EXAMPLES: usize = 20;
/// Traces with an alert of their own at a time; further ones are counted, and named in the page's
/// SQL only.
const MAX_OPEN: usize = 100;
/// How long a resolved alert is shown as such.
const RESOLVED_S: u64 = 3_600;
/// How often a firing alert is told again, so that a receiver does not take silence for the end.
const REPEAT_S: u64 = 60;
/// When a receiver may forget a firing alert it hears no more of.
const FORGET_S: u64 = 300;

pub(super) const NS_PER_S: u64 = 1_000_000_000;

/// The state of an alert.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    /// Nothing is counted.
    #[default]
    Inactive,
    /// Something is counted, less than the threshold.
    Pending,
    /// The threshold is reached.
    Firing,
    /// It was firing not long ago.
    Resolved,
}

/// A trace behind an alert.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Example {
    /// The trace, as 32 hex digits.
    #[serde(with = "hex")]
    pub(super) trace: u128,
    /// When it was counted.
    pub(super) at_s: u64,
    /// When its own alert began, if it has one.
    #[serde(default)]
    pub(super) starts_ns: u64,
    /// Its number; for counts of spans 0.
    #[serde(default)]
    pub(super) value: f64,
}

mod hex {
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(trace: &u128, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&format_args!("{trace:032x}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u128, D::Error> {
        let text = String::deserialize(from)?;
        u128::from_str_radix(&text, 16).map_err(serde::de::Error::custom)
    }
}

/// What is remembered of an alert across restarts.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Memory {
    pub(super) name: String,
    /// The query and window it belongs to: another query begins anew.
    pub(super) query: String,
    pub(super) state: State,
    pub(super) since_ns: u64,
    pub(super) window: Window,
    pub(super) examples: VecDeque<Example>,
    /// Traces with an alert of their own.
    pub(super) open: VecDeque<Example>,
    pub(super) fired: Fired,
    /// When receivers were told last.
    pub(super) told_s: u64,
    /// When it began to fire.
    #[serde(default)]
    pub(super) began_ns: u64,
}

/// Something a receiver should hear.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Notice {
    /// Number of the alert.
    pub(super) alert: usize,
    /// True when it begins or goes on, false when it is over.
    pub(super) is_firing: bool,
    /// True for the repetition of a notice.
    pub(super) is_repeated: bool,
    /// The trace, for alerts about single traces.
    pub(super) trace: Option<u128>,
    /// The trace's number, or the count.
    pub(super) value: f64,
    pub(super) starts_ns: u64,
    pub(super) ends_ns: u64,
}

/// All alerts.
#[derive(Debug)]
pub(super) struct Board {
    pub(super) alerts: Vec<Alert>,
    pub(super) memory: Vec<Memory>,
    /// Value of the moment, by alert.
    pub(super) values: Vec<u64>,
    /// How often each has fired since the start.
    pub(super) fired_total: Vec<u64>,
    /// Traces that were counted without an alert of their own: too many at a time.
    pub(super) unnamed: u64,
}

fn tells_traces_apart(alert: &Alert) -> bool {
    let is_about_traces = matches!(
        alert.query,
        AlertQuery::ByTrace { .. } | AlertQuery::TraceDepth { .. }
    );
    is_about_traces && alert.threshold == 1
}

/// True when the query's number is money, counted in nano-USD.
pub(super) fn is_money(query: &AlertQuery) -> bool {
    use mesh_config::policy::Aggregate;
    matches!(query, AlertQuery::ByTrace { attribute, aggregate, .. }
        if attribute == "cost_usd" && *aggregate != Aggregate::Count)
}

impl Board {
    /// The alerts of a policy, with what is remembered of them. Values are those of `now_s`, so that
    /// whoever asks before the first look does not see a firing alert that counts nothing.
    pub(super) fn new(alerts: Vec<Alert>, remembered: Vec<Memory>, now_s: u64) -> Self {
        let mut memory = Vec::with_capacity(alerts.len());
        for alert in &alerts {
            let window_s = alert.window.as_secs();
            let query = alert.query.to_string();
            let same = remembered.iter().find(|known| {
                known.name == alert.name
                    && known.query == query
                    && known.window.seconds() == window_s.max(1)
            });
            memory.push(same.cloned().unwrap_or_else(|| Memory {
                name: alert.name.clone(),
                query,
                window: Window::new(window_s),
                ..Memory::default()
            }));
        }
        Self {
            values: memory
                .iter_mut()
                .map(|memory| memory.window.value(now_s))
                .collect(),
            fired_total: vec![0; alerts.len()],
            alerts,
            memory,
            unnamed: 0,
        }
    }

    /// Takes signals in and looks at the time; returns what receivers should hear, and whether
    /// there is something new to remember.
    #[must_use]
    pub(super) fn take(&mut self, signals: &Signals, now_ns: u64) -> (Vec<Notice>, bool) {
        let mut notices = Vec::new();
        let mut is_changed = !signals.crossings.is_empty();
        let now_s = now_ns / NS_PER_S;
        for (memory, counted) in self.memory.iter_mut().zip(&signals.counted) {
            is_changed |= counted.count > 0 || !counted.taken_back.is_empty();
            memory.window.add(now_s, counted.count);
            for (at_s, count) in &counted.taken_back {
                memory.window.take_back(u64::from(*at_s), *count);
            }
            for trace in &counted.examples {
                memory.example(*trace, now_s, 0.0);
            }
        }
        for crossing in &signals.crossings {
            self.cross(crossing, now_ns, &mut notices);
        }
        for alert in 0..self.alerts.len() {
            is_changed |= self.look(alert, now_ns, &mut notices);
        }
        (notices, is_changed)
    }

    fn cross(&mut self, crossing: &Crossing, now_ns: u64, notices: &mut Vec<Notice>) {
        let (Some(alert), Some(memory)) = (
            self.alerts.get(crossing.watch),
            self.memory.get_mut(crossing.watch),
        ) else {
            return;
        };
        if !memory.fired.insert(crossing.trace) {
            return;
        }
        let now_s = now_ns / NS_PER_S;
        let value = if is_money(&alert.query) {
            crossing.value / 1e9
        } else {
            crossing.value
        };
        memory.window.add(now_s, 1);
        memory.example(crossing.trace, now_s, value);
        if !tells_traces_apart(alert) {
            return;
        }
        if let Some(total) = self.fired_total.get_mut(crossing.watch) {
            *total += 1;
        }
        if memory.open.len() >= MAX_OPEN {
            self.unnamed += 1;
            return;
        }
        let starts_ns = crossing.at_ns.min(now_ns);
        memory.open.push_back(Example {
            trace: crossing.trace,
            at_s: now_s,
            starts_ns,
            value,
        });
        notices.push(Notice {
            alert: crossing.watch,
            is_firing: true,
            is_repeated: false,
            trace: Some(crossing.trace),
            value,
            starts_ns,
            ends_ns: now_ns + memory.window.seconds() * NS_PER_S,
        });
    }

    /// Looks at one alert; true when there is something new to remember.
    fn look(&mut self, at: usize, now_ns: u64, notices: &mut Vec<Notice>) -> bool {
        let (Some(alert), Some(memory)) = (self.alerts.get(at), self.memory.get_mut(at)) else {
            return false;
        };
        let now_s = now_ns / NS_PER_S;
        let value = memory.window.value(now_s);
        let window_s = memory.window.seconds();
        let mut is_changed = false;
        while let Some(open) = memory.open.front().copied()
            && open.at_s + window_s <= now_s
        {
            memory.open.pop_front();
            is_changed = true;
            notices.push(Notice {
                alert: at,
                is_firing: false,
                is_repeated: false,
                trace: Some(open.trace),
                value: open.value,
                starts_ns: open.starts_ns,
                ends_ns: now_ns,
            });
        }
        let shown_s = window_s.max(RESOLVED_S);
        memory
            .examples
            .retain(|example| example.at_s + shown_s > now_s);
        let before = memory.state;
        memory.state = memory.next(value, alert.threshold, now_ns);
        if let Some(slot) = self.values.get_mut(at) {
            *slot = value;
        }
        if memory.state != before {
            is_changed = true;
            memory.since_ns = now_ns;
        }
        let begins = memory.state == State::Firing && before != State::Firing;
        let ends = before == State::Firing && memory.state != State::Firing;
        let goes_on = memory.state == State::Firing && memory.told_s + REPEAT_S <= now_s;
        if tells_traces_apart(alert) || !(begins || ends || goes_on) {
            return is_changed;
        }
        if begins && let Some(total) = self.fired_total.get_mut(at) {
            *total += 1;
        }
        memory.told_s = now_s;
        if begins {
            memory.began_ns = now_ns;
        }
        notices.push(Notice {
            alert: at,
            is_firing: !ends,
            is_repeated: !begins && !ends,
            trace: None,
            value: value as f64,
            starts_ns: memory.began_ns,
            ends_ns: if ends {
                now_ns
            } else {
                now_ns + FORGET_S * NS_PER_S
            },
        });
        true
    }
}

impl Memory {
    fn next(&self, value: u64, threshold: u64, now_ns: u64) -> State {
        let quiet = if value > 0 {
            State::Pending
        } else {
            State::Inactive
        };
        match self.state {
            _ if value >= threshold => State::Firing,
            State::Firing => State::Resolved,
            State::Resolved if now_ns < self.since_ns + RESOLVED_S * NS_PER_S => State::Resolved,
            _ => quiet,
        }
    }

    /// Shows a trace among the examples, the youngest last.
    fn example(&mut self, trace: u128, at_s: u64, value: f64) {
        self.examples.retain(|example| example.trace != trace);
        self.examples.push_back(Example {
            trace,
            at_s,
            starts_ns: 0,
            value,
        });
        while self.examples.len() > MAX_EXAMPLES {
            self.examples.pop_front();
        }
    }
}

#[cfg(test)]
mod tests;
