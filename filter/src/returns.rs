//! The return channel's share of this VM: the requests in flight, and letters to other workers.
//!
//! One table per worker, whatever the number of root contexts: the inbound and the outbound listener
//! of a sidecar may have configurations of their own, and a call must find the request that caused
//! it. Letters to a request that another worker serves go through the host's shared data, in a fixed
//! set of keys (see [`filter_core::reply::mailbox`]). With one worker no host call is made for them
//! but the look at a gauge that counts the workers.

use filter_core::reply::News;
use filter_core::reply::in_flight::{Delivered, InFlight};
use filter_core::reply::mailbox;
use filter_core::{Engine, Letter, RequestState};
use proxy_wasm::hostcalls;
use proxy_wasm::types::MetricType;

use crate::host;

/// Name of the gauge of workers of the proxy that have served a request (a new VM counts anew).
const WORKERS: &str = "tracemeter_workers";

/// Tries to write a letter while other workers write to the same box.
const POST_TRIES: usize = 4;

/// Requests in flight until the policy says otherwise.
const DEFAULT_IN_FLIGHT: usize = 4096;

/// What this VM knows of the other workers of the proxy.
#[derive(Debug, Clone, Copy)]
enum Crowd {
    /// It has not served a request.
    Unknown,
    /// None was seen so far; the gauge to ask again.
    Alone(u32),
    /// There are others, or it cannot be known: they never go away.
    Others,
}

/// See the module documentation.
pub(crate) struct Returns {
    /// The requests of this worker.
    pub(crate) in_flight: InFlight,
    crowd: Crowd,
}

fn box_key(number: u32) -> String {
    ["tracemeter.return/", &number.to_string()].concat()
}

impl Returns {
    pub(crate) const fn new() -> Self {
        Self {
            in_flight: InFlight::new(DEFAULT_IN_FLIGHT),
            crowd: Crowd::Unknown,
        }
    }

    /// Makes ready for a policy: its limit, and the boxes, so that two first letters cannot replace
    /// each other.
    pub(crate) fn configure(&mut self, engine: &Engine) {
        self.in_flight.limit(engine.max_in_flight());
        if !engine.reaches_other_workers() {
            return;
        }
        for number in 0..mailbox::BOXES {
            let key = box_key(number);
            if !host::has_shared_value(&key) {
                host::set_shared_value(&key, b"");
            }
        }
    }

    /// Counts this worker, once.
    pub(crate) fn serve(&mut self) {
        if matches!(self.crowd, Crowd::Unknown) {
            self.count_worker();
        }
    }

    #[cold]
    #[inline(never)]
    fn count_worker(&mut self) {
        self.crowd = match hostcalls::define_metric(MetricType::Gauge, WORKERS) {
            Ok(gauge) => {
                let _ = hostcalls::increment_metric(gauge, 1);
                Crowd::Alone(gauge)
            }
            Err(_) => Crowd::Others,
        };
    }

    fn has_others(&mut self) -> bool {
        if let Crowd::Alone(gauge) = self.crowd {
            if host::metric(gauge) <= 1 {
                return false;
            }
            self.crowd = Crowd::Others;
        }
        matches!(self.crowd, Crowd::Others)
    }

    /// What other workers have posted for a request.
    pub(crate) fn posted(&mut self, request: &RequestState) -> News {
        if !self.has_others() {
            return News::default();
        }
        let (trace_id, span_id) = (request.trace_id(), request.span_id());
        let content = host::shared_value(&box_key(mailbox::box_of(trace_id)));
        content.map_or_else(News::default, |content| {
            mailbox::read(&content, trace_id, span_id)
        })
    }

    /// What other workers have posted for a request that ends; its letters are taken out.
    pub(crate) fn collect(&mut self, request: &RequestState) -> News {
        if !self.has_others() {
            return News::default();
        }
        take_letters(request)
    }

    /// Brings a letter to the request that caused the call, on whichever worker it is.
    #[inline(never)]
    pub(crate) fn deliver(&mut self, engine: &mut Engine, letter: Letter) {
        let Letter {
            trace_id,
            parent_id,
            news,
        } = letter;
        match self.in_flight.deliver(trace_id, parent_id, news) {
            Delivered::Cause | Delivered::OnlyOne => {}
            Delivered::Nobody => {
                let posted = engine.reaches_other_workers() && self.has_others() && post(letter);
                if !posted {
                    engine.count_undelivered();
                }
            }
        }
    }
}

#[inline(never)]
fn take_letters(request: &RequestState) -> News {
    let (trace_id, span_id) = (request.trace_id(), request.span_id());
    let key = box_key(mailbox::box_of(trace_id));
    let (content, version) = host::shared_value_versioned(&key);
    let content = content.unwrap_or_default();
    if let Some(left) = mailbox::without(&content, trace_id, span_id) {
        // Should somebody write at the same time, the letters stay and are overwritten one day.
        let _ = host::replace_shared_value(&key, &left, version);
    }
    mailbox::read(&content, trace_id, span_id)
}

/// False when the letter was not written, or an older one had to go for it.
fn post(letter: Letter) -> bool {
    let key = box_key(mailbox::box_of(letter.trace_id));
    for _ in 0..POST_TRIES {
        let (content, version) = host::shared_value_versioned(&key);
        let content = content.unwrap_or_default();
        let (content, lost) =
            mailbox::post(&content, letter.trace_id, letter.parent_id, letter.news);
        if host::replace_shared_value(&key, &content, version) {
            return !lost;
        }
    }
    false
}
