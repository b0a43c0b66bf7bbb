//! A span's attributes: those that become columns, those that decide cost and class, the rest.
//!
//! Attributes that have a column of their own are lifted out; the rest is kept as JSON.
//! A lifted attribute whose value makes no sense (a negative cost) stays in the JSON, so
//! that nobody has to guess what the sender said.

use mesh_config::DataTag;

use super::any::{self, Any};
use super::batch::kind::{CLIENT, CONSUMER, PRODUCER, SERVER};
use super::batch::{Arena, CostSource, SpanRow, Text};
use super::decode::{Context, write_member};
use super::inspect;
use super::keys::Key;
use super::known::{Known, KnownAttributes};
use super::limits::{Limits, Refusal};
use super::span::{Scope, SpanError, refuse};
use super::wire::Value;
use crate::policy::{Facts, nanos_from_usd};

/// Attributes with columns of their own, as far as seen.
#[derive(Default)]
struct Lifted<'a> {
    cost_usd: Option<u64>,
    cost_path: Option<u64>,
    cost_source: &'a str,
    price_version: &'a str,
    operation_type: &'a str,
    sampling_reason: &'a str,
    retention_days: Option<u16>,
    class: Option<DataTag>,
    detected: Option<DataTag>,
    http_status: u16,
    grpc_status: Option<u32>,
    endpoints: Endpoints,
    facts: Facts<'a>,
}

/// Where a span was served or what it called, as pieces of its JSON; the first of a name counts.
#[derive(Default)]
struct Endpoints {
    route: Option<Text>,
    server: Option<Text>,
    peer: Option<Text>,
}

impl Endpoints {
    /// Takes an attribute whose `"key":value` is in the arena.
    fn note(&mut self, key: Key, any: Any<'_>, json: Text) {
        let (slot, name) = match key {
            Key::Route => (&mut self.route, "http.route"),
            Key::ServerAddress => (&mut self.server, "server.address"),
            Key::PeerService => (&mut self.peer, "peer.service"),
            _ => return,
        };
        let Any::Str(value) = any else {
            return;
        };
        // Text that had to be escaped is longer, and does not count.
        let is_plain = json.len() as usize == name.len() + value.len() + r#""":"""#.len();
        let piece = json.part(name.len() as u32 + 4, value.len() as u32);
        slot.get_or_insert(if is_plain { piece } else { Text::default() });
    }

    fn of(&self, kind: u8) -> Text {
        let set = |piece: Option<Text>| piece.filter(|piece| !piece.is_unset());
        match kind {
            SERVER | CONSUMER => self.route.unwrap_or_default(),
            CLIENT | PRODUCER => set(self.server).or(self.peer).unwrap_or_default(),
            _ => Text::default(),
        }
    }
}

/// The attributes of one span while they are read.
pub(super) struct Attributes<'a> {
    lifted: Lifted<'a>,
    start: usize,
    first: bool,
    count: usize,
}

impl<'a> Attributes<'a> {
    /// Opens the JSON object. Until [`Attributes::end`] nothing else may be written to `text`.
    pub(super) fn begin(text: &mut Arena) -> Self {
        let start = text.len();
        text.buffer().push('{');
        Self {
            lifted: Lifted::default(),
            start,
            first: true,
            count: 0,
        }
    }

    /// Takes one encoded `KeyValue`.
    pub(super) fn add(
        &mut self,
        value: Value<'a>,
        context: &Context<'_>,
        text: &mut Arena,
        seen: &mut KnownAttributes<'a>,
    ) -> Result<(), SpanError> {
        self.count += 1;
        if let Some(known) = seen.get(value.bytes()?) {
            return self.again(known, context, text, seen);
        }
        let (key, any) = attribute(value, self.count, context.limits)?;
        let of_key = seen.key(key, context.rules);
        let mut known = Known {
            bytes: value.bytes()?,
            key: of_key.key,
            named: of_key.place,
            any,
            detected: None,
            json: Text::default(),
        };
        if known.key != Key::DataTag || any.as_str().is_none() {
            let named = of_key.named;
            known.detected = inspect::class_of_named(named, any, context.rules, context.limits)?;
        }
        if !self.take(&known, context) {
            known.json = self.write(key, any, context.limits, text)?;
            self.lifted.endpoints.note(known.key, any, known.json);
        }
        seen.put(known);
        Ok(())
    }

    /// Takes an attribute that another span of the request had, too.
    fn again(
        &mut self,
        mut known: Known<'a>,
        context: &Context<'_>,
        text: &mut Arena,
        seen: &mut KnownAttributes<'a>,
    ) -> Result<(), SpanError> {
        within(self.count, context.limits)?;
        if self.take(&known, context) {
            return Ok(());
        }
        if known.json.is_empty() {
            // Written only now: the first time it had a column of its own.
            let (key, any) = any::key_value(Value::Bytes(known.bytes))?;
            known.json = self.write(key, any, context.limits, text)?;
            seen.put(known);
        } else {
            any::separate(&mut self.first, text.buffer());
            text.repeat(known.json);
        }
        let Known { key, any, json, .. } = known;
        self.lifted.endpoints.note(key, any, json);
        Ok(())
    }

    /// Notes what the attribute says; true when it has a column of its own.
    fn take(&mut self, known: &Known<'a>, context: &Context<'_>) -> bool {
        if known.key == Key::DataTag
            && let Some(tag) = known.any.as_str()
        {
            self.lifted.class = Some(context.rules.class_of_tag(tag));
            return true;
        }
        self.lifted.detected = self.lifted.detected.max(known.detected);
        lift(known.key, known.any, &mut self.lifted)
    }

    fn write(
        &mut self,
        key: &str,
        any: Any<'_>,
        limits: &Limits,
        text: &mut Arena,
    ) -> Result<Text, SpanError> {
        any::separate(&mut self.first, text.buffer());
        let start = text.len();
        // Its separator is written already, so that the text can be used again.
        write_member(key, any, limits, &mut true, text.buffer())?;
        Ok(text.since(start))
    }

    /// Adds a class that was found elsewhere in the span.
    pub(super) fn detect(&mut self, found: Option<DataTag>) {
        self.lifted.detected = self.lifted.detected.max(found);
    }

    /// The strictest class that a detector found.
    pub(super) fn detected(&self) -> Option<DataTag> {
        self.lifted.detected
    }

    /// Closes the JSON object.
    pub(super) fn end(&mut self, text: &mut Arena) -> Text {
        text.buffer().push('}');
        text.since(self.start)
    }

    /// Decides error, class, retention and cost once everything is known.
    pub(super) fn settle(
        &self,
        scope: Scope,
        context: &Context<'_>,
        text: &mut Arena,
        row: &mut SpanRow,
    ) {
        let lifted = &self.lifted;
        row.http_status = lifted.http_status;
        row.endpoint = lifted.endpoints.of(row.kind);
        let rules = context.rules;
        let http = (lifted.http_status != 0).then_some(lifted.http_status);
        row.error = row.status == 2 || rules.is_error(http, lifted.grpc_status);
        // A sender may say more than the detectors find, never less.
        row.class = lifted
            .class
            .max(lifted.detected)
            .unwrap_or_else(|| rules.default_class());
        let cap = rules.retention_days(row.class);
        row.retention_days = lifted.retention_days.map_or(cap, |days| days.min(cap));
        row.operation_type = text.push(lifted.operation_type);
        row.sampling_reason = text.push(lifted.sampling_reason);
        row.cost_path_nanos = lifted.cost_path;
        row.price_version = text.push(lifted.price_version);
        (row.cost_nanos, row.cost_source) = match lifted.cost_usd {
            // The filter has read the tokens of a language model from its response.
            Some(nanos)
                if scope.is_filter && lifted.cost_source == CostSource::TokenPrice.as_str() =>
            {
                (Some(nanos), CostSource::TokenPrice)
            }
            Some(nanos)
                if lifted.cost_source == CostSource::MeshEstimate.as_str() || scope.is_filter =>
            {
                (Some(nanos), CostSource::MeshEstimate)
            }
            Some(nanos) => (Some(nanos), CostSource::App),
            // The filter charges a request once; its other hop carries no cost on purpose.
            None if scope.is_filter => (None, CostSource::NotCharged),
            None => {
                let mut facts = lifted.facts;
                facts.operation_type = lifted.operation_type;
                let duration_ns = row.end_ns.saturating_sub(row.start_ns).unsigned_abs();
                let (nanos, source, version) =
                    rules.price(&facts, row.start_ns.unsigned_abs(), duration_ns);
                row.price_version = text.push(version);
                (Some(nanos), source)
            }
        };
    }
}

/// Reads an encoded `KeyValue` within the limits; `count` says which one it is.
pub(super) fn attribute<'a>(
    value: Value<'a>,
    count: usize,
    limits: &Limits,
) -> Result<(&'a str, Any<'a>), SpanError> {
    within(count, limits)?;
    let len = value.bytes()?.len();
    let (key, any) = any::key_value(value)?;
    if key.len() > limits.key_bytes || len > limits.value_bytes.saturating_add(key.len()) {
        return Err(refuse(
            Refusal::TooLarge,
            format!("attribute has `{len}` bytes"),
        ));
    }
    Ok((key, any))
}

/// Refuses an attribute too many.
fn within(count: usize, limits: &Limits) -> Result<(), SpanError> {
    if count > limits.attributes {
        return Err(refuse(
            Refusal::TooMany,
            format!("more than `{}` attributes", limits.attributes),
        ));
    }
    Ok(())
}

/// Takes what has a column or decides the cost; true when the JSON need not repeat it.
fn lift<'a>(key: Key, any: Any<'a>, to: &mut Lifted<'a>) -> bool {
    fn set<T>(slot: &mut Option<T>, value: Option<T>) -> bool {
        let found = value.is_some();
        if found {
            *slot = value;
        }
        found
    }
    fn text<'a>(slot: &mut &'a str, any: Any<'a>) -> bool {
        any.as_str().map(|text| *slot = text).is_some()
    }
    let facts = &mut to.facts;
    match key {
        Key::Cost => set(&mut to.cost_usd, any.as_f64().and_then(nanos_from_usd)),
        Key::CostPath => set(&mut to.cost_path, any.as_f64().and_then(nanos_from_usd)),
        Key::CostSource => text(&mut to.cost_source, any),
        Key::PriceVersion => text(&mut to.price_version, any),
        Key::OperationType => text(&mut to.operation_type, any),
        Key::SamplingReason => text(&mut to.sampling_reason, any),
        Key::RetentionDays => set(
            &mut to.retention_days,
            any.as_int().and_then(|days| u16::try_from(days).ok()),
        ),
        Key::HttpStatus => any
            .as_int()
            .and_then(|status| u16::try_from(status).ok())
            .map(|status| to.http_status = status)
            .is_some(),
        Key::GrpcStatus => {
            to.grpc_status = any.as_int().and_then(|status| u32::try_from(status).ok());
            false
        }
        // The rest decides the cost and stays visible in the JSON.
        _ => {
            facts.note(key, any);
            false
        }
    }
}
