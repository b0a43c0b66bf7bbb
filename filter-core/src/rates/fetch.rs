//! Asks the collector for the table: when, with which entity tag, and what its answer means.

use mesh_config::Policy;
use mesh_config::adaptive::Table;

use crate::backoff::Backoff;
use crate::counters::{Counter, Counters};

/// The table is asked for this many times per interval of the policy.
const PER_INTERVAL: u64 = 4;

/// Shortest and longest time between two requests.
const PERIOD_NANOS: (u64, u64) = (1_000_000_000, 60_000_000_000);

/// An answer later than the timeout by this much never comes: the host has lost the call.
const LOST_CALL_GRACE_NANOS: u64 = 10_000_000_000;

/// Longest entity tag that is sent back; a longer one is not remembered.
const MAX_ETAG_BYTES: usize = 128;

/// Bytes in front of the parts of a shared table: when it was seen, and the tag's length.
const SHARED_HEAD_BYTES: usize = 9;

/// A request for the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a request that is not sent has to be answered as failed"]
pub struct Request<'r> {
    /// Path and query.
    pub path: &'r str,
    /// Value of `if-none-match`; empty without a table.
    pub etag: &'r str,
}

/// What came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer<'a> {
    /// HTTP status; 0 stands for no response at all.
    pub status: u16,
    /// Value of `etag`.
    pub etag: &'a [u8],
    /// The body; `None` when it is longer than is read.
    pub body: Option<&'a [u8]>,
}

/// A table for the other workers of the proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shared<'s> {
    /// Whose rates they are: one proxy may stand beside several services.
    pub service: &'s str,
    /// What [`super::Rates::adopt`] takes.
    pub bytes: Vec<u8>,
}

/// A good table and what is known of it.
#[derive(Debug, Clone)]
pub(super) struct Fetched {
    pub(super) table: Table<Vec<u8>>,
    service: String,
    etag: String,
    /// The answer itself, to be shared.
    body: Vec<u8>,
    /// When the collector last said that it holds.
    pub(super) seen_at_nanos: u64,
}

impl Fetched {
    pub(super) fn shared(&self) -> Shared<'_> {
        let parts = SHARED_HEAD_BYTES + self.etag.len() + self.body.len();
        let mut bytes = Vec::with_capacity(parts);
        bytes.extend_from_slice(&self.seen_at_nanos.to_le_bytes());
        bytes.push(self.etag.len() as u8);
        bytes.extend_from_slice(self.etag.as_bytes());
        bytes.extend_from_slice(&self.body);
        Shared {
            service: &self.service,
            bytes,
        }
    }

    /// What another worker has shared; `None` for anything else.
    pub(super) fn from_shared(bytes: &[u8], service: &str) -> Option<Self> {
        let (seen, rest) = bytes.split_first_chunk::<8>()?;
        let (length, rest) = rest.split_first()?;
        let (etag, body) = rest.split_at_checked(usize::from(*length))?;
        Some(Self {
            table: Table::from_answer(body, service).ok()?,
            service: service.to_owned(),
            etag: std::str::from_utf8(etag).ok()?.to_owned(),
            body: body.to_vec(),
            seen_at_nanos: u64::from_le_bytes(*seen),
        })
    }
}

/// When to ask.
#[derive(Debug)]
pub(super) struct Fetch {
    path: String,
    period_nanos: u64,
    timeout_nanos: u64,
    /// Whether a trace has begun here: others have no use for the table.
    pub(super) wanted: bool,
    due_nanos: u64,
    sent_at_nanos: Option<u64>,
    backoff: Backoff,
}

impl Fetch {
    pub(super) fn new(policy: &Policy, service: &str, interval_nanos: u64) -> Self {
        let export = &policy.export;
        let mut path = [&export.rates_path, "?service="].concat();
        for byte in service.bytes() {
            percent_encode(byte, &mut path);
        }
        let (shortest, longest) = PERIOD_NANOS;
        Self {
            path,
            period_nanos: (interval_nanos / PER_INTERVAL).clamp(shortest, longest),
            timeout_nanos: u64::try_from(export.timeout.as_nanos()).unwrap_or(u64::MAX),
            // Without a collector nobody answers: never asked.
            wanted: false,
            due_nanos: if export.cluster.is_empty() {
                u64::MAX
            } else {
                0
            },
            sent_at_nanos: None,
            backoff: Backoff::default(),
        }
    }

    pub(super) fn is_due(&self, now_nanos: u64) -> bool {
        let patience = self.timeout_nanos.saturating_add(LOST_CALL_GRACE_NANOS);
        let under_way =
            (self.sent_at_nanos).is_some_and(|sent| now_nanos.saturating_sub(sent) <= patience);
        self.wanted && !under_way && now_nanos >= self.due_nanos && self.backoff.is_over(now_nanos)
    }

    pub(super) fn poll<'r>(
        &'r mut self,
        now_nanos: u64,
        fetched: Option<&'r Fetched>,
        counters: &mut Counters,
    ) -> Option<Request<'r>> {
        if !self.is_due(now_nanos) {
            return None;
        }
        self.sent_at_nanos = Some(now_nanos);
        counters.bump(Counter::RatesRequests);
        Some(Request {
            path: &self.path,
            etag: fetched.map_or("", |fetched| &fetched.etag),
        })
    }

    /// The table in force after an answer, and whether the collector has just confirmed it.
    pub(super) fn answered(
        &mut self,
        answer: &Answer<'_>,
        before: Option<Fetched>,
        service: &str,
        (now_nanos, entropy): (u64, u64),
        counters: &mut Counters,
    ) -> (Option<Fetched>, bool) {
        self.sent_at_nanos = None;
        let counter = match (answer.status, before) {
            (200, before) => match parsed(answer, service, now_nanos) {
                Some(table) => {
                    self.confirmed(now_nanos, entropy);
                    counters.bump(Counter::RatesFetched);
                    return (Some(table), true);
                }
                None => {
                    self.confirmed(now_nanos, entropy);
                    counters.bump(Counter::RatesRefused);
                    return (before, false);
                }
            },
            (304, Some(mut table)) => {
                self.confirmed(now_nanos, entropy);
                table.seen_at_nanos = now_nanos;
                counters.bump(Counter::RatesUnchanged);
                return (Some(table), true);
            }
            (204, before) => {
                self.confirmed(now_nanos, entropy);
                counters.bump(Counter::RatesAbsent);
                return (before, false);
            }
            (_, before) => {
                self.backoff.fail(None, now_nanos, entropy);
                counters.bump(Counter::RatesFailed);
                before
            }
        };
        (counter, false)
    }

    /// The collector has answered: the next request is a period away, somewhat more or less, so
    /// that proxies started together do not ask together.
    pub(super) fn confirmed(&mut self, at_nanos: u64, entropy: u64) {
        self.backoff.reset();
        let half = self.period_nanos / 2;
        let wait = self.period_nanos - half / 2 + entropy % half.max(1);
        self.due_nanos = at_nanos.saturating_add(wait);
    }
}

fn parsed(answer: &Answer<'_>, service: &str, now_nanos: u64) -> Option<Fetched> {
    let body = answer.body?;
    let table = Table::from_answer(body, service).ok()?;
    let visible = answer.etag.iter().all(u8::is_ascii_graphic);
    let etag = Some(answer.etag).filter(|etag| visible && etag.len() <= MAX_ETAG_BYTES);
    let etag = etag.and_then(|etag| std::str::from_utf8(etag).ok());
    Some(Fetched {
        table,
        service: service.to_owned(),
        etag: etag.unwrap_or_default().to_owned(),
        body: body.to_vec(),
        seen_at_nanos: now_nanos,
    })
}

/// Percent-encodes all but the unreserved characters (RFC 3986, section 2.3).
fn percent_encode(byte: u8, out: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
        out.push(char::from(byte));
        return;
    }
    out.push('%');
    for nibble in [byte >> 4, byte & 15] {
        let digit = DIGITS.get(usize::from(nibble)).copied();
        out.push(char::from(digit.unwrap_or(b'0')));
    }
}
