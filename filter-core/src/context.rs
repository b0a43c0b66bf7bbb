//! The three headers: what comes in, and what leaves.
//!
//! [`Incoming`] reads traceparent, tracestate and baggage of one request (W3C Trace Context Level 2,
//! W3C Baggage, OTel `ot` member) and this product's own members; [`Writer`] writes them anew into
//! buffers that live as long as the filter. Foreign members keep their bytes and their order.
//!
//! What it is not: a decision. Trust and sampling are decided elsewhere; this module is told.
//! Limits: tracestate leaves with at most the policy's bytes and 32 members, baggage with at most
//! 8192 bytes and 64 members; what does not fit is counted.

mod ot;

use std::borrow::Cow;

use mesh_config::DataTag;
use mesh_config::money::NanoUsd;
use mesh_config::policy::TracestateForm;
use w3c_traceparent_parser::baggage::{self, Baggage, percent_decode};
use w3c_traceparent_parser::otel::{OtState, Randomness, Threshold};
use w3c_traceparent_parser::tracestate::{Member, TraceState};
use w3c_traceparent_parser::{TraceId, TraceParent, TraceParentErrorReason};

use crate::counters::{Counter, Counters};
use crate::headers::RequestHeaders;
use ot::{Ot, ot_member};

/// Key of the accumulated cost in tracestate and baggage.
pub const COST_KEY: &str = "cost_usd";
/// Key of the data class in tracestate and baggage.
pub const TAG_KEY: &str = "data_tag";
/// Key of what is left of a trace's budget, in baggage.
pub const BUDGET_KEY: &str = "cost_budget_usd";
/// Key of the single member of the compact form: `c:<cost>;d:<tag>`.
pub const COMPACT_KEY: &str = "tm";
/// Field of the compact member, or its only one: the caller's proxy takes replies
/// ([`crate::reply`]).
const TAKES_REPLIES: &[u8] = b"r:1";
/// Key of the OpenTelemetry member.
pub const OT_KEY: &str = "ot";

/// What became of the incoming traceparent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParentContext {
    /// No traceparent line.
    Absent,
    /// A valid one.
    Valid(TraceParent),
    /// One that has to be ignored; the label says why.
    Invalid(TraceParentErrorReason),
}

impl ParentContext {
    /// The valid context, if there is one.
    #[must_use]
    pub fn valid(self) -> Option<TraceParent> {
        match self {
            Self::Valid(parent) => Some(parent),
            Self::Absent | Self::Invalid(_) => None,
        }
    }
}

/// The propagated context of one request as it came in.
#[derive(Debug)]
pub struct Incoming<'a> {
    /// The traceparent.
    pub parent: ParentContext,
    /// The tracestate; empty when there is none, it is invalid or the traceparent is not valid.
    state: Option<TraceState<'a>>,
    /// Whether the tracestate was refused as a whole.
    pub state_invalid: bool,
    /// The baggage, independent of the traceparent; large, so absent without a line.
    baggage: Option<Baggage<'a>>,
    /// Value of the `ot` member, empty when absent.
    pub ot: &'a [u8],
    /// What of the baggage is asked for here, found in one pass.
    found: Found<'a>,
}

/// The members of the baggage that somebody asks for; of several with one key the first.
#[derive(Debug, Default)]
struct Found<'a> {
    cost: Option<&'a [u8]>,
    tag: Option<&'a [u8]>,
    budget: Option<&'a [u8]>,
    /// Keys that rules ask for, with their values percent-decoded.
    named: Vec<(&'a [u8], Cow<'a, [u8]>)>,
}

impl<'a> Found<'a> {
    fn read(baggage: &Baggage<'a>, keys: &[Box<str>]) -> Self {
        let mut found = Self::default();
        for member in baggage.iter() {
            if member.key == COST_KEY.as_bytes() {
                found.cost.get_or_insert(member.value);
            } else if member.key == TAG_KEY.as_bytes() {
                found.tag.get_or_insert(member.value);
            } else if member.key == BUDGET_KEY.as_bytes() {
                found.budget.get_or_insert(member.value);
            }
            let asked = keys.iter().any(|key| key.as_bytes() == member.key);
            if asked && !found.named.iter().any(|(key, _)| *key == member.key) {
                found.named.push((member.key, decoded(member.value)));
            }
        }
        found
    }
}

/// A percent-encoded baggage value longer than this is not decoded for rules.
const MAX_DECODED_BYTES: usize = 1024;

impl<'a> Incoming<'a> {
    /// Reads the context; counts what is invalid. `baggage_keys` are those that rules ask for.
    #[must_use]
    pub fn read(
        headers: &RequestHeaders<'a>,
        baggage_keys: &[Box<str>],
        counters: &mut Counters,
    ) -> Self {
        let parent = match (headers.traceparent, headers.traceparent_lines) {
            (None, _) => ParentContext::Absent,
            (Some(value), 1) => match TraceParent::parse(value) {
                Ok(parent) => ParentContext::Valid(parent),
                Err(error) => ParentContext::Invalid(error.reason()),
            },
            (Some(_), _) => ParentContext::Invalid(TraceParentErrorReason::Repeated),
        };
        if let ParentContext::Invalid(reason) = parent {
            counters.invalid_traceparent(reason);
        }
        let (state, state_invalid) = match parent {
            ParentContext::Valid(_) if !headers.tracestate.is_empty() => {
                match TraceState::parse_lines(headers.tracestate) {
                    Ok(state) => (Some(state), false),
                    Err(error) => {
                        counters.invalid_tracestate(error.reason());
                        (None, true)
                    }
                }
            }
            _ => (None, false),
        };
        let baggage = (!headers.baggage.is_empty()).then(|| Baggage::parse_lines(headers.baggage));
        if let Some(baggage) = &baggage {
            counters.add(Counter::InvalidBaggage, baggage.malformed() as u64);
        }
        let ot = state
            .as_ref()
            .and_then(|state| state.get(OT_KEY.as_bytes()));
        Self {
            parent,
            state,
            state_invalid,
            found: baggage
                .as_ref()
                .map_or_else(Found::default, |baggage| Found::read(baggage, baggage_keys)),
            baggage,
            ot: ot.unwrap_or_default(),
        }
    }

    /// The value of a baggage member as rules see it: percent-decoded. Only for the keys that were
    /// given to [`Incoming::read`].
    #[must_use]
    pub fn baggage_value(&self, key: &str) -> Option<&[u8]> {
        let mut named = self.found.named.iter();
        let found = named.find(|(known, _)| *known == key.as_bytes());
        found.map(|(_, value)| &**value)
    }

    /// The tracestate.
    #[must_use]
    pub fn state(&self) -> &TraceState<'a> {
        static NONE: TraceState<'static> = TraceState::empty();
        self.state.as_ref().unwrap_or(&NONE)
    }

    /// Takes the tracestate out: it belongs to a trace that does not go on.
    pub fn forget_state(&mut self) {
        self.state = None;
        self.ot = b"";
    }

    /// The value of a member of the tracestate.
    fn in_state(&self, key: &str) -> Option<&'a [u8]> {
        self.state.as_ref()?.get(key.as_bytes())
    }

    /// The baggage.
    #[must_use]
    pub fn baggage(&self) -> &Baggage<'a> {
        static NONE: Baggage<'static> = Baggage::empty();
        self.baggage.as_ref().unwrap_or(&NONE)
    }

    /// Whether any member of ours came in.
    #[must_use]
    pub fn has_own_members(&self) -> bool {
        let in_state = |key: &str| self.in_state(key).is_some();
        in_state(COST_KEY)
            || in_state(TAG_KEY)
            || in_state(COMPACT_KEY)
            || self.found.cost.is_some()
            || self.found.tag.is_some()
            || self.found.budget.is_some()
    }

    fn compact(&self, name: u8) -> Option<&'a [u8]> {
        let value = self.in_state(COMPACT_KEY)?;
        let mut parts = value.split(|byte| *byte == b';');
        parts.find_map(|part| part.strip_prefix(&[name, b':']))
    }

    /// The accumulated cost that came in: tracestate first (either form), then baggage. A value
    /// that is not a plain decimal is counted and taken as absent.
    #[must_use]
    pub fn path_cost(&self, counters: &mut Counters) -> NanoUsd {
        let candidates = [self.in_state(COST_KEY), self.compact(b'c'), self.found.cost];
        for value in candidates.into_iter().flatten() {
            match NanoUsd::parse_decimal(value) {
                Ok(cost) => return cost,
                Err(_) => counters.bump(Counter::InvalidCost),
            }
        }
        NanoUsd::ZERO
    }

    /// The strictest data class that came in, in either header. One outside the three names is
    /// counted and taken as `unknown`.
    #[must_use]
    pub fn data_tag(&self, unknown: DataTag, counters: &mut Counters) -> Option<DataTag> {
        let candidates = [self.in_state(TAG_KEY), self.compact(b'd'), self.found.tag];
        let tags = candidates.into_iter().flatten().map(|value| {
            DataTag::parse(value).unwrap_or_else(|| {
                counters.bump(Counter::InvalidDataTag);
                unknown
            })
        });
        tags.max()
    }

    /// What is left of the trace's budget; one that is not a plain decimal is counted and absent.
    #[must_use]
    pub fn budget(&self, counters: &mut Counters) -> Option<NanoUsd> {
        let parsed = self.found.budget.map(NanoUsd::parse_decimal)?;
        parsed
            .inspect_err(|_| counters.bump(Counter::InvalidCost))
            .ok()
    }

    /// Whether the caller's proxy said that it takes replies.
    #[must_use]
    pub fn takes_replies(&self) -> bool {
        self.compact(b'r') == Some(b"1")
    }

    /// The trace's explicit randomness, a valid `rv`.
    #[must_use]
    pub fn explicit_randomness(&self) -> Option<Randomness> {
        OtState::parse(self.ot).randomness()
    }

    /// The trace's randomness: a valid `rv`, else the low 56 bits of the trace id.
    #[must_use]
    pub fn randomness(&self, trace_id: TraceId) -> Randomness {
        OtState::parse(self.ot).randomness_or(trace_id)
    }

    /// The incoming threshold claim.
    #[must_use]
    pub fn threshold(&self) -> Option<Threshold> {
        OtState::parse(self.ot).threshold()
    }
}

fn decoded(value: &[u8]) -> Cow<'_, [u8]> {
    if value.len() > MAX_DECODED_BYTES || !value.contains(&b'%') {
        return Cow::Borrowed(value);
    }
    let mut buffer = vec![0; 3 * value.len()];
    let length = percent_decode(value, &mut buffer).map_or(0, <[u8]>::len);
    buffer.truncate(length);
    Cow::Owned(buffer)
}

/// The policy's choices about what is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WriterSettings {
    /// How own members are written to tracestate.
    pub form: TracestateForm,
    /// Longest tracestate that is sent.
    pub state_limit_bytes: usize,
    /// Longest baggage that is sent.
    pub baggage_limit_bytes: usize,
    /// Whether baggage carries `cost_usd`.
    pub baggage_cost: bool,
    /// Whether baggage carries `data_tag`.
    pub baggage_tag: bool,
}

/// What this hop adds to the context.
#[derive(Debug, Clone, Copy)]
pub struct Outgoing {
    /// Cost accumulated over the path so far, this hop's estimate included.
    pub path_cost: NanoUsd,
    /// The data class that leaves.
    pub tag: DataTag,
    /// Threshold to write; `None` removes an incoming one.
    pub threshold: Option<Threshold>,
    /// False at the way out of the mesh: own members are stripped instead of written.
    pub with_own_members: bool,
    /// Whether the callee's proxy may answer with the internal return header: this proxy will take
    /// it away.
    pub takes_replies: bool,
    /// What is left of the trace's budget.
    pub budget_left: Option<NanoUsd>,
}

/// Room for the own part of tracestate: two members with keys, and the `ot` member. The buffer is
/// never smaller, whatever the policy's limit.
const OWN_STATE_BYTES: usize = 512;

/// Buffers for the headers that leave; they are reused by every request of the filter.
#[derive(Debug)]
pub struct Writer {
    settings: WriterSettings,
    state: Vec<u8>,
    state_len: usize,
    baggage: Vec<u8>,
    baggage_len: usize,
    /// Scratch for the `ot` member.
    ot: [u8; 256],
}

impl Writer {
    /// A writer with buffers for the policy's limits.
    #[must_use]
    pub fn new(settings: WriterSettings) -> Self {
        Self {
            settings,
            state: vec![0; settings.state_limit_bytes.max(OWN_STATE_BYTES)],
            state_len: 0,
            baggage: vec![0; settings.baggage_limit_bytes],
            baggage_len: 0,
            ot: [0; 256],
        }
    }

    /// The tracestate written last; empty means that the header has to be removed.
    #[must_use]
    pub fn tracestate(&self) -> &[u8] {
        self.state.get(..self.state_len).unwrap_or_default()
    }

    /// The baggage written last; empty means that the header has to be removed.
    #[must_use]
    pub fn baggage(&self) -> &[u8] {
        self.baggage.get(..self.baggage_len).unwrap_or_default()
    }

    /// Writes both headers for one request.
    pub fn write(&mut self, incoming: &Incoming<'_>, out: &Outgoing, counters: &mut Counters) {
        let mut digits = [0; 24];
        let cost = out.path_cost.write_decimal(&mut digits);
        let tag = out.tag.as_str().as_bytes();
        self.write_state(incoming, out, cost, tag, counters);
        self.write_baggage(incoming, out, cost, tag, counters);
    }

    fn write_state(
        &mut self,
        incoming: &Incoming<'_>,
        out: &Outgoing,
        cost: &[u8],
        tag: &[u8],
        counters: &mut Counters,
    ) {
        let ot = ot_member(incoming, out.threshold, &mut self.ot, counters);
        let mut compact = [0; 64];
        let absent = Member {
            key: b"",
            value: b"",
        };
        let mut own = [absent; 4];
        let mut count = 0;
        let mut push = |key: &'static str, value| {
            if let Some(slot) = own.get_mut(count) {
                *slot = Member {
                    key: key.as_bytes(),
                    value,
                };
                count += 1;
            }
        };
        if out.with_own_members {
            match self.settings.form {
                TracestateForm::Members => {
                    push(COST_KEY, cost);
                    push(TAG_KEY, tag);
                    if out.takes_replies {
                        push(COMPACT_KEY, TAKES_REPLIES);
                    }
                }
                TracestateForm::Compact => push(
                    COMPACT_KEY,
                    compact_value(cost, tag, out.takes_replies, &mut compact),
                ),
                TracestateForm::Off => {}
            }
        }
        if let Ot::Changed(value) = ot
            && !value.is_empty()
        {
            push(OT_KEY, value);
        }
        let own = own.get(..count).unwrap_or_default();
        let remove: [&[u8]; 4] = [
            COST_KEY.as_bytes(),
            TAG_KEY.as_bytes(),
            COMPACT_KEY.as_bytes(),
            if matches!(ot, Ot::Changed(_)) {
                OT_KEY.as_bytes()
            } else {
                b""
            },
        ];
        let remove = if matches!(ot, Ot::Changed(_)) {
            &remove[..]
        } else {
            &remove[..3]
        };
        let limit = self.settings.state_limit_bytes;
        let written = incoming
            .state()
            .write_with(own, remove, limit, &mut self.state);
        self.state_len = match written {
            Ok(written) => {
                counters.add(Counter::TracestateTruncated, written.dropped as u64);
                written.len
            }
            Err(_) => 0,
        };
    }

    fn write_baggage(
        &mut self,
        incoming: &Incoming<'_>,
        out: &Outgoing,
        cost: &[u8],
        tag: &[u8],
        counters: &mut Counters,
    ) {
        let mut digits = [0; 24];
        let left = out.budget_left.map(|left| left.write_decimal(&mut digits));
        let candidates: [(bool, &[u8], &[u8]); 3] = [
            (self.settings.baggage_cost, COST_KEY.as_bytes(), cost),
            (self.settings.baggage_tag, TAG_KEY.as_bytes(), tag),
            (
                left.is_some(),
                BUDGET_KEY.as_bytes(),
                left.unwrap_or_default(),
            ),
        ];
        let mut own: [(&[u8], &[u8]); 3] = [(b"", b""); 3];
        let mut count = 0;
        for (written, key, value) in candidates {
            if let (true, true, Some(slot)) = (written, out.with_own_members, own.get_mut(count)) {
                *slot = (key, value);
                count += 1;
            }
        }
        let own = own.get(..count).unwrap_or_default();
        let remove = [
            COST_KEY.as_bytes(),
            TAG_KEY.as_bytes(),
            BUDGET_KEY.as_bytes(),
        ];
        let (members, bytes) = (baggage::MAX_MEMBERS, self.settings.baggage_limit_bytes);
        let written =
            incoming
                .baggage()
                .write_with(own, &remove, members, bytes, &mut self.baggage);
        self.baggage_len = match written {
            Ok(written) => {
                counters.add(Counter::BaggageTruncated, written.dropped as u64);
                written.len
            }
            Err(_) => 0,
        };
    }
}

fn compact_value<'b>(
    cost: &[u8],
    tag: &[u8],
    takes_replies: bool,
    out: &'b mut [u8; 64],
) -> &'b [u8] {
    let mut length = 0;
    let (separator, replies) = if takes_replies {
        (&b";"[..], TAKES_REPLIES)
    } else {
        (&b""[..], &b""[..])
    };
    let fields = b"c:".iter().chain(cost).chain(b";d:").chain(tag);
    for byte in fields.chain(separator).chain(replies) {
        if let Some(slot) = out.get_mut(length) {
            *slot = *byte;
            length += 1;
        }
    }
    out.get(..length).unwrap_or_default()
}
