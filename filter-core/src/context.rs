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
use w3c_traceparent_parser::tracestate::TraceState;
use w3c_traceparent_parser::{TraceId, TraceParent, TraceParentErrorReason};

use crate::counters::{Counter, Counters};
use crate::headers::{RequestHeaders, Values, position};
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

/// Keys of members that are read and written here, by header. The `ot` member is written only when
/// it changes, the others go whenever they come.
const STATE_KEYS: [&[u8]; 4] = [
    COST_KEY.as_bytes(),
    TAG_KEY.as_bytes(),
    COMPACT_KEY.as_bytes(),
    OT_KEY.as_bytes(),
];
const BAGGAGE_KEYS: [&[u8]; 3] = [
    COST_KEY.as_bytes(),
    TAG_KEY.as_bytes(),
    BUDGET_KEY.as_bytes(),
];

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
    state: TraceState<'a>,
    /// Whether the tracestate was refused as a whole.
    pub state_invalid: bool,
    /// The baggage, independent of the traceparent.
    baggage: Baggage<'a>,
    /// Values of [`STATE_KEYS`]; of several members with one key the first.
    in_state: [Option<&'a [u8]>; STATE_KEYS.len()],
    /// Values of [`BAGGAGE_KEYS`], likewise.
    in_baggage: [Option<&'a [u8]>; BAGGAGE_KEYS.len()],
    /// The `ot` member as it came, and what it says.
    ot_value: &'a [u8],
    ot: OtState<'a>,
    /// Members of the baggage that rules ask for, with their values percent-decoded.
    named: Vec<(&'a [u8], Cow<'a, [u8]>)>,
}

/// Takes a member if it is asked for and the first one of its key.
#[inline(never)]
fn take<'a>(slots: &mut [Option<&'a [u8]>], keys: &[&[u8]], key: &[u8], value: &'a [u8]) {
    if let Some(slot) = slots.get_mut(position(keys, key)) {
        slot.get_or_insert(value);
    }
}

/// Takes a member if a rule asks for it and it is the first one of its key.
#[inline(never)]
fn name<'a>(
    named: &mut Vec<(&'a [u8], Cow<'a, [u8]>)>,
    keys: &[Box<str>],
    key: &'a [u8],
    value: &'a [u8],
) {
    if keys.iter().any(|asked| asked.as_bytes() == key) {
        name_found(named, key, value);
    }
}

#[cold]
#[inline(never)]
fn name_found<'a>(named: &mut Vec<(&'a [u8], Cow<'a, [u8]>)>, key: &'a [u8], value: &'a [u8]) {
    if !named.iter().any(|(known, _)| *known == key) {
        named.push((key, decoded(value)));
    }
}

/// A percent-encoded baggage value longer than this is not decoded for rules.
const MAX_DECODED_BYTES: usize = 1024;

impl<'a> Incoming<'a> {
    /// Nothing came in.
    #[inline(always)]
    #[must_use]
    pub const fn empty() -> Self {
        // Constants are made in one piece.
        Self {
            parent: ParentContext::Absent,
            state: const { TraceState::empty() },
            state_invalid: false,
            baggage: const { Baggage::empty() },
            in_state: const { [None; STATE_KEYS.len()] },
            in_baggage: const { [None; BAGGAGE_KEYS.len()] },
            ot_value: b"",
            ot: OtState::empty(),
            named: Vec::new(),
        }
    }

    /// Reads the context, in place as it is large; counts what is invalid. `baggage_keys` are those
    /// that rules ask for.
    pub fn read(
        &mut self,
        headers: &RequestHeaders<'a>,
        baggage_keys: &[Box<str>],
        counters: &mut Counters,
    ) {
        self.parent = match headers.traceparent().len() {
            0 => ParentContext::Absent,
            1 => match TraceParent::parse(headers.traceparent().first()) {
                Ok(parent) => ParentContext::Valid(parent),
                Err(error) => ParentContext::Invalid(error.reason()),
            },
            _ => ParentContext::Invalid(TraceParentErrorReason::Repeated),
        };
        match self.parent {
            ParentContext::Absent => {}
            ParentContext::Valid(_) => self.read_state(&headers.tracestate(), counters),
            ParentContext::Invalid(reason) => counters.invalid_traceparent(reason),
        }
        self.read_baggage(&headers.baggage(), baggage_keys);
        counters.add(Counter::InvalidBaggage, self.baggage.malformed() as u64);
    }

    fn read_state(&mut self, lines: &Values<'a>, counters: &mut Counters) {
        let found = &mut self.in_state;
        let read = self.state.read_lines(lines.iter(), |key, value| {
            take(found, &STATE_KEYS, key, value);
        });
        if let Err(error) = read {
            counters.invalid_tracestate(error.reason());
            self.forget_state();
            self.state_invalid = true;
        }
        let [.., ot] = self.in_state;
        if let Some(ot) = ot {
            self.ot_value = ot;
            self.ot = OtState::parse(ot);
        }
    }

    fn read_baggage(&mut self, lines: &Values<'a>, keys: &[Box<str>]) {
        let (found, named) = (&mut self.in_baggage, &mut self.named);
        self.baggage.read_lines(lines.iter(), |key, value| {
            take(found, &BAGGAGE_KEYS, key, value);
            if !keys.is_empty() {
                name(named, keys, key, value);
            }
        });
    }

    /// The value of a baggage member as rules see it: percent-decoded. Only for the keys that were
    /// given to [`Incoming::read`].
    #[must_use]
    pub fn baggage_value(&self, key: &str) -> Option<&[u8]> {
        let mut named = self.named.iter();
        let found = named.find(|(known, _)| *known == key.as_bytes());
        found.map(|(_, value)| &**value)
    }

    /// The tracestate.
    #[must_use]
    pub fn state(&self) -> &TraceState<'a> {
        &self.state
    }

    /// Takes the tracestate out: it belongs to a trace that does not go on.
    #[cold]
    pub fn forget_state(&mut self) {
        self.state = TraceState::empty();
        self.in_state = [None; STATE_KEYS.len()];
        self.ot_value = b"";
        self.ot = OtState::empty();
    }

    /// The baggage.
    #[must_use]
    pub fn baggage(&self) -> &Baggage<'a> {
        &self.baggage
    }

    /// Whether any member of ours came in.
    #[must_use]
    pub fn has_own_members(&self) -> bool {
        let [own @ .., _ot] = &self.in_state;
        own.iter().chain(&self.in_baggage).any(Option::is_some)
    }

    fn compact(&self, name: u8) -> Option<&'a [u8]> {
        let [_, _, compact, _] = self.in_state;
        compact_field(compact?, name)
    }

    /// The accumulated cost that came in: tracestate first (either form), then baggage. A value
    /// that is not a plain decimal is counted and taken as absent.
    #[must_use]
    pub fn path_cost(&self, counters: &mut Counters) -> NanoUsd {
        let ([in_state, ..], [in_baggage, ..]) = (self.in_state, self.in_baggage);
        amount(in_state, counters)
            .or_else(|| amount(self.compact(b'c'), counters))
            .or_else(|| amount(in_baggage, counters))
            .unwrap_or_default()
    }

    /// The strictest data class that came in, in either header. One outside the three names is
    /// counted and taken as `unknown`.
    #[must_use]
    pub fn data_tag(&self, unknown: DataTag, counters: &mut Counters) -> Option<DataTag> {
        let ([_, in_state, ..], [_, in_baggage, _]) = (self.in_state, self.in_baggage);
        let strictest = stricter(None, in_state, unknown, counters);
        let strictest = stricter(strictest, self.compact(b'd'), unknown, counters);
        stricter(strictest, in_baggage, unknown, counters)
    }

    /// What is left of the trace's budget; one that is not a plain decimal is counted and absent.
    #[must_use]
    pub fn budget(&self, counters: &mut Counters) -> Option<NanoUsd> {
        let [.., budget] = self.in_baggage;
        amount(budget, counters)
    }

    /// Whether the caller's proxy said that it takes replies.
    #[must_use]
    pub fn takes_replies(&self) -> bool {
        self.compact(b'r') == Some(b"1")
    }

    /// The trace's explicit randomness, a valid `rv`.
    #[must_use]
    pub fn explicit_randomness(&self) -> Option<Randomness> {
        self.ot.randomness()
    }

    /// The trace's randomness: a valid `rv`, else the low 56 bits of the trace id.
    #[must_use]
    pub fn randomness(&self, trace_id: TraceId) -> Randomness {
        self.ot.randomness_or(trace_id)
    }

    /// The incoming threshold claim.
    #[must_use]
    pub fn threshold(&self) -> Option<Threshold> {
        self.ot.threshold()
    }
}

/// A plain decimal; anything else is counted and absent.
#[inline(never)]
fn amount(value: Option<&[u8]>, counters: &mut Counters) -> Option<NanoUsd> {
    let parsed = NanoUsd::parse_decimal(value?);
    if parsed.is_err() {
        counters.bump(Counter::InvalidCost);
    }
    parsed.ok()
}

/// The stricter one of two data classes; one outside the three names is counted and taken as
/// `unknown`.
#[inline(never)]
fn stricter(
    other: Option<DataTag>,
    value: Option<&[u8]>,
    unknown: DataTag,
    counters: &mut Counters,
) -> Option<DataTag> {
    let Some(value) = value else {
        return other;
    };
    let class = DataTag::parse(value);
    if class.is_none() {
        counters.bump(Counter::InvalidDataTag);
    }
    other.max(Some(class.unwrap_or(unknown)))
}

/// The value of a field of the compact member.
#[cold]
#[inline(never)]
fn compact_field(value: &[u8], name: u8) -> Option<&[u8]> {
    let mut parts = value.split(|byte| *byte == b';');
    parts.find_map(|part| part.strip_prefix(&[name, b':']))
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
        // In the order of their keys.
        let mut values: [Option<&[u8]>; STATE_KEYS.len()] = const { [None; STATE_KEYS.len()] };
        let [cost_slot, tag_slot, compact_slot, ot_slot] = &mut values;
        if out.with_own_members {
            match self.settings.form {
                TracestateForm::Members => {
                    (*cost_slot, *tag_slot) = (Some(cost), Some(tag));
                    *compact_slot = out.takes_replies.then_some(TAKES_REPLIES);
                }
                TracestateForm::Compact => {
                    let value = compact_value(cost, tag, out.takes_replies, &mut compact);
                    *compact_slot = Some(value);
                }
                TracestateForm::Off => {}
            }
        }
        // What does not change is a foreign member here.
        let [foreign_ot @ .., _] = &STATE_KEYS;
        let mut keys: &[&[u8]] = foreign_ot;
        if let Ot::Changed(value) = ot {
            *ot_slot = Some(value).filter(|value| !value.is_empty());
            keys = &STATE_KEYS;
        }
        let limit = self.settings.state_limit_bytes;
        let written = incoming
            .state()
            .write_valid(keys, &values, limit, &mut self.state);
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
        let WriterSettings {
            baggage_cost,
            baggage_tag,
            ..
        } = self.settings;
        let own_members = out.with_own_members;
        let values = [
            Some(cost).filter(|_| own_members && baggage_cost),
            Some(tag).filter(|_| own_members && baggage_tag),
            left.filter(|_| own_members),
        ];
        let (members, bytes) = (baggage::MAX_MEMBERS, self.settings.baggage_limit_bytes);
        let written = incoming.baggage().write_valid(
            &BAGGAGE_KEYS,
            &values,
            members,
            bytes,
            &mut self.baggage,
        );
        self.baggage_len = match written {
            Ok(written) => {
                counters.add(Counter::BaggageTruncated, written.dropped as u64);
                written.len
            }
            Err(_) => 0,
        };
    }
}

#[cold]
#[inline(never)]
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
