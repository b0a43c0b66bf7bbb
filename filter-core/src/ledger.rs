//! The exact ledger: every request is counted here, whatever sampling decides.
//!
//! What it is: integer sums per key (direction, peer, route, status class, data class, charge side,
//! tenant) with a latency histogram each, flushed as numbered deltas. Sums are additive over
//! workers, proxies and time, so totals are exact at any sampling rate.
//! What it is not: a store. Once the collector has acknowledged a delta it is forgotten here.
//!
//! **Exactly once:** a sealed delta keeps its number and its bytes until it is acknowledged, and is
//! sent again unchanged; the receiver ignores a number it has seen from this instance. Meanwhile
//! requests go into the next delta, so nothing is dropped however long the collector is away.
//!
//! Limits: at most `max_keys` keys per delta; further ones are counted together under the key
//! `other` and the overflow is counted. Texts of a key are cut at [`MAX_TEXT_BYTES`]. One delta is
//! sealed at a time, so memory is at most two full deltas.

mod encode;
mod flush;
mod histogram;

use std::collections::BTreeMap;

use mesh_config::DataTag;
use mesh_config::money::NanoUsd;
use mesh_config::policy::Direction;

pub use flush::{Flush, LedgerSettings};
pub use histogram::{Histogram, MAX_BUCKETS};

use crate::view::direction_name;

/// Longest peer, route or tenant of a key.
pub const MAX_TEXT_BYTES: usize = 128;

/// Separates the texts of an encoded key; header values cannot hold it.
const SEPARATOR: u8 = 0;

/// Text of every dimension beyond the key limit.
const OVERFLOW: &[u8] = b"other";

/// The dimensions of one count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key<'a> {
    /// Side of the service that this proxy stands on.
    pub direction: Direction,
    /// Called host of an outbound request; empty otherwise.
    pub peer: &'a [u8],
    /// Route.
    pub route: &'a [u8],
    /// See [`StatusClass`].
    pub status: StatusClass,
    /// Data class.
    pub tag: DataTag,
    /// Whether this side charged the request.
    pub charged: bool,
    /// Tenant; empty when the policy names none.
    pub tenant: &'a [u8],
}

/// Numbers of the texts of a key: equal ones mean equal texts as long as a ledger lives.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Numbers {
    /// Of the route.
    pub route: u16,
    /// Of the peer.
    pub peer: u16,
    /// Of the tenant.
    pub tenant: u16,
}

impl Key<'_> {
    /// All of the key in one number; its texts are those that have these numbers.
    #[must_use]
    pub fn packed(&self, numbers: Numbers) -> u64 {
        // Of each class there are at most eight, and the bit above them says that this is a key.
        let classes = 1 << 12
            | (self.direction as u32) << 9
            | (self.status as u32) << 6
            | (self.tag as u32) << 3
            | u32::from(self.charged);
        let Numbers {
            route,
            peer,
            tenant,
        } = numbers;
        let texts = u32::from(peer) << 16 | u32::from(tenant);
        u64::from(classes << 16 | u32::from(route)) << 32 | u64::from(texts)
    }
}

/// No key packs to it: a key whose texts have no numbers.
pub const UNNUMBERED: u64 = 0;

/// How a request ended, coarsely.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatusClass {
    /// HTTP 1xx, protocol upgrades included.
    Informational,
    /// HTTP 2xx, gRPC OK.
    Success,
    /// HTTP 3xx.
    Redirection,
    /// HTTP 4xx.
    ClientError,
    /// HTTP 5xx.
    ServerError,
    /// gRPC status other than OK.
    GrpcError,
    /// The stream was reset or timed out before a status.
    Reset,
    /// The client went away before a status.
    ClientLeft,
}

impl StatusClass {
    /// Every class.
    pub const ALL: [Self; 8] = [
        Self::Informational,
        Self::Success,
        Self::Redirection,
        Self::ClientError,
        Self::ServerError,
        Self::GrpcError,
        Self::Reset,
        Self::ClientLeft,
    ];

    /// The class of an ended stream.
    #[must_use]
    pub fn of(http: Option<u16>, grpc: Option<u32>, reset: bool) -> Self {
        const BY_HUNDRED: [StatusClass; 5] = [
            StatusClass::Informational,
            StatusClass::Informational,
            StatusClass::Success,
            StatusClass::Redirection,
            StatusClass::ClientError,
        ];
        let Some(http) = http else {
            return if reset { Self::Reset } else { Self::ClientLeft };
        };
        let class = BY_HUNDRED.get(usize::from(http / 100)).copied();
        match class.unwrap_or(Self::ServerError) {
            Self::Success if grpc.is_some_and(|code| code != 0) => Self::GrpcError,
            class => class,
        }
    }

    /// Value of the attribute `tracemeter.status_class`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Informational => "1xx",
            Self::Success => "2xx",
            Self::Redirection => "3xx",
            Self::ClientError => "4xx",
            Self::ServerError => "5xx",
            Self::GrpcError => "grpc_error",
            Self::Reset => "reset",
            Self::ClientLeft => "client_left",
        }
    }
}

/// What one request adds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amounts {
    /// Whether it is an error by the policy's classes.
    pub error: bool,
    /// Exclusive cost; zero where the other side charges.
    pub cost: NanoUsd,
    /// Request body.
    pub request_bytes: u64,
    /// Response body.
    pub response_bytes: u64,
    /// Time from headers to end.
    pub duration_nanos: u64,
}

/// Sums of one key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    pub(crate) errors: u64,
    pub(crate) cost_nanos: u64,
    pub(crate) request_bytes: u64,
    pub(crate) response_bytes: u64,
    /// Holds the number of requests as well.
    pub(crate) durations: Histogram,
}

impl Sums {
    fn add(&mut self, amounts: &Amounts) {
        self.errors += u64::from(amounts.error);
        self.cost_nanos = self.cost_nanos.saturating_add(amounts.cost.as_nanos());
        self.request_bytes = self.request_bytes.saturating_add(amounts.request_bytes);
        self.response_bytes = self.response_bytes.saturating_add(amounts.response_bytes);
        self.durations.record(amounts.duration_nanos);
    }
}

/// Places in which a ledger remembers where it has counted a key.
const PLACES: usize = 256;

/// A packed key and where its sums stand.
type Place = (u64, u32);

/// Neither a packed key nor [`UNNUMBERED`].
const NO_PLACE: Place = (u64::MAX, 0);

/// Counts since the last seal.
#[derive(Debug)]
pub struct Ledger {
    max_keys: usize,
    sums: Vec<Sums>,
    /// Where the sums of an encoded key stand. A map of the same kind as that of
    /// [`crate::per_minute`].
    keys: BTreeMap<Vec<u8>, u32>,
    /// The last key of each place that was counted; none or [`PLACES`]. What is not found here is
    /// found by its text, so two that want one place cost only time.
    recent: Vec<Place>,
    /// Traces whose decision the adaptive rates made, by route.
    decided: Decided,
    scratch: Vec<u8>,
    overflowed: u64,
}

impl Ledger {
    /// An empty ledger of at most `max_keys` keys, the overflow key not counted.
    #[must_use]
    pub fn new(max_keys: usize) -> Self {
        Self {
            max_keys,
            sums: Vec::new(),
            keys: BTreeMap::new(),
            recent: Vec::new(),
            decided: Vec::new(),
            scratch: Vec::new(),
            overflowed: 0,
        }
    }

    /// Counts one request if its packed key was counted lately; else [`Ledger::add`] has to.
    #[must_use]
    pub fn add_packed(&mut self, packed: u64, amounts: &Amounts) -> bool {
        if let Some((known, at)) = self.recent.get(place_of(packed))
            && *known == packed
            && let Some(sums) = self.sums.get_mut(*at as usize)
        {
            sums.add(amounts);
            return true;
        }
        false
    }

    /// Counts one request by the texts of its key, and remembers where by its packed key.
    pub fn add(&mut self, key: &Key<'_>, packed: u64, amounts: &Amounts) {
        let at = self.find(key, packed);
        if let Some(sums) = self.sums.get_mut(at as usize) {
            sums.add(amounts);
        }
    }

    /// Where a key is counted that was not counted lately.
    fn find(&mut self, key: &Key<'_>, packed: u64) -> u32 {
        write_key(key, &mut self.scratch);
        let mut found = self.keys.get(&self.scratch).copied();
        if found.is_none() && self.keys.len() >= self.max_keys {
            self.overflowed += 1;
            let overflow = Key {
                peer: OVERFLOW,
                route: OVERFLOW,
                tenant: OVERFLOW,
                ..*key
            };
            write_key(&overflow, &mut self.scratch);
            return self.find_or_insert();
        }
        let at = found.take().unwrap_or_else(|| self.find_or_insert());
        if packed == UNNUMBERED {
            return at;
        }
        if self.recent.is_empty() {
            self.recent.resize(PLACES, NO_PLACE);
        }
        if let Some(place) = self.recent.get_mut(place_of(packed)) {
            *place = (packed, at);
        }
        at
    }

    /// Where the key stands that was written.
    fn find_or_insert(&mut self) -> u32 {
        if let Some(at) = self.keys.get(&self.scratch) {
            return *at;
        }
        let at = self.sums.len() as u32;
        self.sums.push(Sums::default());
        self.keys.insert(self.scratch.clone(), at);
        at
    }

    /// Counts traces that began here on `route` and whose decision the adaptive rates made, kept or
    /// not.
    pub fn add_decided(&mut self, route: &[u8], traces: u64) {
        let route = cut(route);
        let find = |decided: &Decided, route: &[u8]| {
            decided.binary_search_by(|(name, _)| name.as_slice().cmp(route))
        };
        let (mut route, mut found) = (route, find(&self.decided, route));
        if found.is_err() && self.decided.len() >= self.max_keys {
            route = OVERFLOW;
            found = find(&self.decided, route);
        }
        match found {
            Ok(at) => {
                if let Some((_, sum)) = self.decided.get_mut(at) {
                    *sum = sum.saturating_add(traces);
                }
            }
            Err(at) => self.decided.insert(at, (route.to_vec(), traces)),
        }
    }

    /// Whether anything was counted since the last seal.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sums.is_empty() && self.decided.is_empty()
    }

    /// Requests counted under the overflow key since the last call.
    pub fn take_overflowed(&mut self) -> u64 {
        std::mem::take(&mut self.overflowed)
    }

    /// Takes the counts out and starts again from zero.
    pub(crate) fn take(&mut self) -> Counted {
        self.recent.clear();
        let mut sums = std::mem::take(&mut self.sums);
        let keys = std::mem::take(&mut self.keys).into_iter();
        let sums =
            keys.filter_map(|(key, at)| Some((key, std::mem::take(sums.get_mut(at as usize)?))));
        Counted {
            sums: sums.collect(),
            decided: std::mem::take(&mut self.decided),
        }
    }
}

/// What a delta holds.
#[derive(Debug, Default)]
pub(crate) struct Counted {
    /// By encoded key, sorted.
    pub(crate) sums: Vec<(Vec<u8>, Sums)>,
    pub(crate) decided: Decided,
}

/// The place of a packed key: the upper bits of a product depend on all of its bits.
const fn place_of(packed: u64) -> usize {
    (packed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::BITS - PLACES.ilog2())) as usize
}

/// Traces by route, sorted.
type Decided = Vec<(Vec<u8>, u64)>;

/// A text of a key as it counts.
pub(crate) fn cut(text: &[u8]) -> &[u8] {
    text.get(..MAX_TEXT_BYTES).unwrap_or(text)
}

/// The encoded key: its small dimensions as text too, so that writing attributes needs no table.
fn write_key(key: &Key<'_>, out: &mut Vec<u8>) {
    out.clear();
    let charge: &[u8] = if key.charged {
        b"this_side"
    } else {
        b"other_side"
    };
    let names = [
        direction_name(key.direction).as_bytes(),
        key.status.as_str().as_bytes(),
        key.tag.as_str().as_bytes(),
        charge,
    ];
    for name in names {
        out.extend_from_slice(name);
        out.push(SEPARATOR);
    }
    for (index, text) in [key.route, key.peer, key.tenant].into_iter().enumerate() {
        if index > 0 {
            out.push(SEPARATOR);
        }
        if text.is_empty() {
            continue;
        }
        let (text, from) = (cut(text), out.len());
        out.extend_from_slice(text);
        if has_separator(text) {
            let added = out.iter_mut().skip(from);
            added
                .filter(|byte| **byte == SEPARATOR)
                .for_each(|byte| *byte = b'?');
        }
    }
}

/// Whether a NUL is in the text, eight bytes at a time: no request has one.
fn has_separator(text: &[u8]) -> bool {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let (words, rest) = text.as_chunks::<8>();
    let in_word = |word: &[u8; 8]| {
        let word = u64::from_ne_bytes(*word);
        word.wrapping_sub(ONES) & !word & (ONES << 7) != 0
    };
    words.iter().any(in_word) || rest.contains(&SEPARATOR)
}

/// Attribute names of the parts of an encoded key, in its order.
pub(crate) const ATTRIBUTES: [&str; 7] = [
    "tracemeter.direction",
    "tracemeter.status_class",
    "data_tag",
    "tracemeter.charge_side",
    "http.route",
    "server.address",
    "tenant",
];

/// The parts of an encoded key with their attribute names, empty ones left out.
pub(crate) fn attributes(key: &[u8]) -> impl Iterator<Item = (&'static str, &[u8])> {
    let parts = ATTRIBUTES
        .into_iter()
        .zip(key.split(|byte| *byte == SEPARATOR));
    parts.filter(|(_, value)| !value.is_empty())
}

#[cfg(test)]
mod tests;
