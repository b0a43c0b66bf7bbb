//! Requests in flight that may be told what happened to the calls they caused.
//!
//! A worker serves the request to a service and the calls the service makes for it as different
//! streams. A call names its cause: the parent id of its traceparent is the span id that this filter
//! gave to the request (the application forwarded the context). Where the application made spans of
//! its own, the parent id is unknown here; then the trace id tells, if only one request of that trace
//! is in flight.
//!
//! Limits: at most `max` requests; above it the oldest is forgotten, which [`InFlight::open`] says.
//! Opening and closing take constant time; a delivery looks through the ids of all requests in flight
//! (one comparison each), and only what is worth telling is delivered. Memory: [`ENTRY_BYTES`] for
//! each request at the peak.

use w3c_traceparent_parser::{SpanId, TraceId};

use super::News;

/// Memory of one request in flight.
pub const ENTRY_BYTES: usize = size_of::<Entry>() + size_of::<u64>() + size_of::<u32>();

/// Whom a delivery found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivered {
    /// The request that caused the call.
    Cause,
    /// The only request of the trace; the parent id was unknown.
    OnlyOne,
    /// Nobody on this worker.
    Nobody,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    trace_id: u128,
    number: u64,
    news: News,
}

/// A place in the table; it is void once the request was forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    index: u32,
    number: u64,
}

/// See the module documentation.
#[derive(Debug)]
pub struct InFlight {
    max: usize,
    /// Span ids; 0 (no valid id) for a free place.
    spans: Vec<u64>,
    entries: Vec<Entry>,
    free: Vec<u32>,
    /// Requests opened so far: the age of an entry.
    opened: u64,
}

impl InFlight {
    /// A table for at most `max` requests.
    #[must_use]
    pub const fn new(max: usize) -> Self {
        Self {
            max,
            spans: Vec::new(),
            entries: Vec::new(),
            free: Vec::new(),
            opened: 0,
        }
    }

    /// Another limit. Requests that are in flight stay.
    pub const fn limit(&mut self, max: usize) {
        self.max = max;
    }

    /// Requests in flight.
    #[must_use]
    pub fn len(&self) -> usize {
        self.spans.len().saturating_sub(self.free.len())
    }

    /// Whether none is in flight.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes a request in. True: the oldest one was forgotten for it.
    pub fn open(&mut self, trace_id: TraceId, span_id: SpanId) -> (Ticket, bool) {
        let forgotten = self.len() >= self.max && self.forget_oldest();
        self.opened = self.opened.wrapping_add(1);
        let number = self.opened;
        let index = self.free.pop().unwrap_or_else(|| self.grow());
        let place = index as usize;
        if let (Some(entry), Some(id)) = (self.entries.get_mut(place), self.spans.get_mut(place)) {
            *id = span_id.to_u64();
            entry.trace_id = trace_id.to_u128();
            entry.number = number;
            entry.news = News::NOTHING;
        }
        (Ticket { index, number }, forgotten)
    }

    /// One more place.
    #[cold]
    #[inline(never)]
    fn grow(&mut self) -> u32 {
        let place = u32::try_from(self.spans.len()).unwrap_or(u32::MAX);
        self.entries.push(Entry {
            trace_id: 0,
            number: 0,
            news: News::NOTHING,
        });
        self.spans.push(0);
        place
    }

    fn entry(&self, ticket: Ticket) -> Option<&Entry> {
        let entry = self.entries.get(ticket.index as usize)?;
        let taken = self.spans.get(ticket.index as usize).copied() != Some(0);
        (taken && entry.number == ticket.number).then_some(entry)
    }

    /// What was delivered to a request so far.
    #[must_use]
    pub fn news(&self, ticket: Ticket) -> News {
        self.entry(ticket)
            .map_or(News::default(), |entry| entry.news)
    }

    /// What was delivered to the request with this span id.
    #[must_use]
    pub fn of(&self, trace_id: TraceId, span_id: SpanId) -> Option<News> {
        let span = span_id.to_u64();
        let index = self.spans.iter().position(|known| *known == span)?;
        let entry = self.entries.get(index)?;
        (entry.trace_id == trace_id.to_u128()).then_some(entry.news)
    }

    /// Takes a request out, with all that was delivered to it.
    #[must_use]
    pub fn close(&mut self, ticket: Ticket) -> News {
        let Some(news) = self.entry(ticket).map(|entry| entry.news) else {
            return News::default();
        };
        self.release(ticket.index as usize);
        news
    }

    fn release(&mut self, index: usize) {
        if let (Some(span), Ok(place)) = (self.spans.get_mut(index), u32::try_from(index)) {
            *span = 0;
            self.free.push(place);
        }
    }

    #[cold]
    #[inline(never)]
    fn forget_oldest(&mut self) -> bool {
        let taken = self.spans.iter().zip(&self.entries).enumerate();
        let taken = taken.filter(|(_, (span, _))| **span != 0);
        let oldest = taken.min_by_key(|(_, (_, entry))| entry.number);
        let Some((index, _)) = oldest else {
            return false;
        };
        self.release(index);
        true
    }

    /// Tells the request that caused a call (`parent_id` of the call) what happened to it.
    pub fn deliver(&mut self, trace_id: TraceId, parent_id: SpanId, news: News) -> Delivered {
        let parent = parent_id.to_u64();
        let trace_id = trace_id.to_u128();
        if let Some(index) = self.spans.iter().position(|span| *span == parent)
            && let Some(entry) = self.entries.get_mut(index)
            && entry.trace_id == trace_id
        {
            entry.news.add(news);
            return Delivered::Cause;
        }
        let taken = self.spans.iter().zip(&mut self.entries);
        let mut same = taken.filter(|(span, entry)| **span != 0 && entry.trace_id == trace_id);
        match (same.next(), same.next()) {
            (Some((_, entry)), None) => {
                entry.news.add(news);
                Delivered::OnlyOne
            }
            _ => Delivered::Nobody,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reply::Mark;
    use mesh_config::money::NanoUsd;
    use std::collections::BTreeMap;

    fn trace(number: u64) -> TraceId {
        TraceId::from_u128(u128::from(number) + 1).unwrap()
    }

    fn span(number: u64) -> SpanId {
        SpanId::from_u64(number + 1).unwrap()
    }

    fn cost(nanos: u64) -> News {
        News {
            mark: None,
            cost: NanoUsd::from_nanos(nanos),
        }
    }

    #[test]
    fn a_request_in_flight_takes_the_memory_that_the_docs_say() {
        assert_eq!(ENTRY_BYTES, 60);
    }

    #[test]
    fn a_delivery_finds_its_cause_and_adds_up() {
        let mut table = InFlight::new(8);
        let (first, _) = table.open(trace(1), span(1));
        let (second, _) = table.open(trace(1), span(2));
        assert_eq!(table.deliver(trace(1), span(2), cost(5)), Delivered::Cause);
        let error = News {
            mark: Some(Mark::Error),
            ..cost(2)
        };
        assert_eq!(table.deliver(trace(1), span(2), error), Delivered::Cause);
        assert_eq!(table.news(first), News::default());
        let all = News {
            mark: Some(Mark::Error),
            ..cost(7)
        };
        assert_eq!(table.news(second), all);
        assert_eq!(table.close(second), all);
        assert_eq!(table.close(second), News::default(), "closed once");
        assert_eq!(table.len(), 1);
    }

    #[test]
    fn an_unknown_parent_is_delivered_only_where_the_trace_leaves_no_doubt() {
        let mut table = InFlight::new(8);
        let (only, _) = table.open(trace(1), span(1));
        let _ = table.open(trace(2), span(2));
        let own_span_of_the_application = span(77);
        let told = table.deliver(trace(1), own_span_of_the_application, cost(3));
        assert_eq!(told, Delivered::OnlyOne);
        assert_eq!(table.news(only), cost(3));
        let _ = table.open(trace(1), span(3));
        let told = table.deliver(trace(1), own_span_of_the_application, cost(3));
        assert_eq!(told, Delivered::Nobody);
        let told = table.deliver(trace(9), span(9), cost(3));
        assert_eq!(told, Delivered::Nobody);
    }

    #[test]
    fn a_span_id_of_another_trace_gets_nothing() {
        let mut table = InFlight::new(8);
        let (other, _) = table.open(trace(2), span(1));
        assert_eq!(table.deliver(trace(1), span(1), cost(3)), Delivered::Nobody);
        assert_eq!(table.news(other), News::default());
    }

    #[test]
    fn above_the_limit_the_oldest_is_forgotten_and_its_ticket_is_void() {
        let mut table = InFlight::new(2);
        let (oldest, _) = table.open(trace(1), span(1));
        let (middle, forgotten) = table.open(trace(2), span(2));
        assert!(!forgotten);
        let (newest, forgotten) = table.open(trace(3), span(3));
        assert!(forgotten);
        assert_eq!(table.len(), 2);
        let _ = table.deliver(trace(3), span(3), cost(9));
        assert_eq!(table.news(oldest), News::default(), "not the new one's");
        assert_eq!(table.close(oldest), News::default());
        assert_eq!(table.close(middle), News::default());
        assert_eq!(table.close(newest), cost(9));
        assert!(table.is_empty());
    }

    /// Random openings, closings and deliveries against a plain map.
    #[test]
    fn it_behaves_like_a_map_with_a_limit() {
        let mut rng = fastrand::Rng::with_seed(5);
        for _ in 0..200 {
            let max = rng.usize(1..20);
            let mut table = InFlight::new(max);
            let mut model: BTreeMap<u64, (u64, Ticket, News)> = BTreeMap::new();
            let mut order: Vec<u64> = Vec::new();
            for number in 0..300 {
                match rng.u8(0..3) {
                    0 => {
                        let (ticket, forgotten) = table.open(trace(number), span(number));
                        assert_eq!(forgotten, model.len() == max);
                        if forgotten {
                            model.remove(&order.remove(0));
                        }
                        model.insert(number, (number, ticket, News::default()));
                        order.push(number);
                    }
                    1 if !order.is_empty() => {
                        let at = rng.usize(..order.len());
                        let (_, ticket, news) = model.remove(&order.remove(at)).unwrap();
                        assert_eq!(table.close(ticket), news);
                    }
                    _ => {
                        let target = rng.u64(..number + 1);
                        let told = table.deliver(trace(target), span(target), cost(number));
                        assert_eq!(told == Delivered::Cause, model.contains_key(&target));
                        if let Some((_, _, news)) = model.get_mut(&target) {
                            news.add(cost(number));
                        }
                    }
                }
                assert_eq!(table.len(), model.len());
            }
        }
    }
}
