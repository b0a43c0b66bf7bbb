use super::*;

const SECOND: u64 = 1_000_000_000;

fn exporter(queue_bytes: usize) -> (Exporter, Counters) {
    let settings = ExportSettings {
        enabled: true,
        batch_spans: 10,
        linger_nanos: SECOND,
        queue_bytes,
        max_in_flight: 2,
        timeout_nanos: 5 * SECOND,
    };
    (
        Exporter::new(settings, Envelope::new(&[("service.name", "a")])),
        Counters::default(),
    )
}

fn count(counters: &mut Counters, wanted: Counter) -> u64 {
    let mut found = 0;
    counters.clone().drain(|_, metric, value| {
        if metric == crate::counters::Metric::Counter(wanted) {
            found = value;
        }
    });
    found
}

fn record(exporter: &mut Exporter, counters: &mut Counters, spans: usize, now: u64) {
    for _ in 0..spans {
        exporter.record(now, counters, |out| out.extend_from_slice(&[0; 100]));
    }
}

#[test]
fn a_full_batch_is_sent_at_once_and_a_small_one_after_the_linger_time() {
    let (mut exporter, mut counters) = exporter(1 << 20);
    record(&mut exporter, &mut counters, 10, SECOND);
    assert!(exporter.poll(SECOND, &mut counters).is_some());
    record(&mut exporter, &mut counters, 1, SECOND);
    assert!(exporter.poll(SECOND + SECOND / 2, &mut counters).is_none());
    assert!(exporter.poll(2 * SECOND, &mut counters).is_some());
}

#[test]
fn nothing_is_sent_when_nothing_was_recorded() {
    let (mut exporter, mut counters) = exporter(1 << 20);
    assert!(exporter.poll(100 * SECOND, &mut counters).is_none());
}

#[test]
fn a_failed_batch_comes_back_after_the_backoff_and_is_counted_once() {
    let (mut exporter, mut counters) = exporter(1 << 20);
    record(&mut exporter, &mut counters, 10, 0);
    let first = exporter.poll(0, &mut counters).unwrap();
    exporter.on_outcome(
        first.id,
        Outcome::from_status(503, None),
        0,
        7,
        &mut counters,
    );
    assert!(exporter.poll(SECOND / 3, &mut counters).is_none());
    let second = exporter.poll(SECOND, &mut counters).unwrap();
    assert_eq!(first.body, second.body);
    exporter.on_outcome(second.id, Outcome::Accepted, SECOND, 7, &mut counters);
    assert_eq!(exporter.buffered_bytes(), 0);
    assert_eq!(count(&mut counters, Counter::SpansExported), 10);
    assert_eq!(count(&mut counters, Counter::ExportRetries), 1);
}

#[test]
fn retry_after_is_honoured_up_to_its_cap() {
    let (mut exporter, mut counters) = exporter(1 << 20);
    record(&mut exporter, &mut counters, 10, 0);
    let call = exporter.poll(0, &mut counters).unwrap();
    exporter.on_outcome(
        call.id,
        Outcome::from_status(429, Some(60)),
        0,
        0,
        &mut counters,
    );
    assert!(exporter.poll(59 * SECOND, &mut counters).is_none());
    let call = exporter.poll(60 * SECOND, &mut counters).unwrap();
    exporter.on_outcome(
        call.id,
        Outcome::from_status(429, Some(u64::MAX)),
        60 * SECOND,
        0,
        &mut counters,
    );
    assert!(exporter.poll(361 * SECOND, &mut counters).is_some());
}

#[test]
fn while_the_collector_fails_one_request_at_a_time_probes_it() {
    let (mut exporter, mut counters) = exporter(1 << 20);
    record(&mut exporter, &mut counters, 40, 0);
    let first = exporter.poll(0, &mut counters).unwrap();
    let second = exporter.poll(0, &mut counters).unwrap();
    assert!(exporter.poll(0, &mut counters).is_none());
    exporter.on_outcome(
        first.id,
        Outcome::Retry { after_nanos: None },
        0,
        0,
        &mut counters,
    );
    exporter.on_outcome(
        second.id,
        Outcome::Retry { after_nanos: None },
        0,
        0,
        &mut counters,
    );
    let later = 100 * SECOND;
    let probe = exporter.poll(later, &mut counters).unwrap();
    assert!(exporter.poll(later, &mut counters).is_none());
    exporter.on_outcome(probe.id, Outcome::Accepted, later, 0, &mut counters);
    assert!(exporter.poll(later, &mut counters).is_some());
    assert!(exporter.poll(later, &mut counters).is_some());
}

#[test]
fn above_the_byte_limit_the_oldest_batch_goes_first_and_every_span_is_accounted_for() {
    let (mut exporter, mut counters) = exporter(2_500);
    record(&mut exporter, &mut counters, 1_000, 0);
    assert!(exporter.buffered_bytes() <= 2_500);
    let mut sent = 0;
    while let Some(call) = exporter.poll(SECOND, &mut counters) {
        exporter.on_outcome(call.id, Outcome::Accepted, SECOND, 0, &mut counters);
        sent += 1;
    }
    assert!(sent > 0);
    let exported = count(&mut counters, Counter::SpansExported);
    let dropped = count(&mut counters, Counter::SpansDroppedQueueFull);
    assert_eq!(exported + dropped, 1_000);
}

#[test]
fn a_queue_smaller_than_a_batch_still_sends() {
    let (mut exporter, mut counters) = exporter(900);
    record(&mut exporter, &mut counters, 1_000, 0);
    let mut sent = 0;
    while let Some(call) = exporter.poll(0, &mut counters) {
        exporter.on_outcome(call.id, Outcome::Accepted, 0, 0, &mut counters);
        sent += 1;
    }
    assert!(sent > 0);
    assert!(count(&mut counters, Counter::SpansExported) >= 6);
}

#[test]
fn a_batch_in_flight_is_not_dropped_by_the_limit() {
    let (mut exporter, mut counters) = exporter(1_500);
    record(&mut exporter, &mut counters, 10, 0);
    let call = exporter.poll(0, &mut counters).unwrap();
    record(&mut exporter, &mut counters, 100, 0);
    exporter.on_outcome(call.id, Outcome::Accepted, 0, 0, &mut counters);
    // A batch of a quarter of the queue: four spans of 100 bytes.
    assert_eq!(count(&mut counters, Counter::SpansExported), 4);
}

#[test]
fn a_call_that_the_host_lost_is_sent_again() {
    let (mut exporter, mut counters) = exporter(1 << 20);
    record(&mut exporter, &mut counters, 10, 0);
    let first = exporter.poll(0, &mut counters).unwrap();
    assert!(exporter.poll(15 * SECOND, &mut counters).is_none());
    assert!(
        exporter.poll(16 * SECOND, &mut counters).is_none(),
        "backoff starts now"
    );
    let again = exporter.poll(18 * SECOND, &mut counters).unwrap();
    assert_eq!(first.body, again.body);
}

#[test]
fn random_outcomes_never_lose_a_span_uncounted() {
    let mut rng = fastrand::Rng::with_seed(7);
    for _ in 0..200 {
        let (mut exporter, mut counters) = exporter(4_000);
        let (mut now, mut recorded) = (0, 0);
        let mut calls = Vec::new();
        for _ in 0..300 {
            now += rng.u64(0..SECOND);
            match rng.u8(0..4) {
                0 | 1 => {
                    let spans = rng.usize(1..30);
                    record(&mut exporter, &mut counters, spans, now);
                    recorded += spans as u64;
                }
                2 => calls.extend(exporter.poll(now, &mut counters).map(|call| call.id)),
                _ => {
                    if let Some(id) = calls.pop() {
                        let status = [200, 503, 400, 429, 0][rng.usize(0..5)];
                        let outcome = Outcome::from_status(status, None);
                        exporter.on_outcome(id, outcome, now, rng.u64(..), &mut counters);
                    }
                }
            }
        }
        let settled: u64 = [
            Counter::SpansExported,
            Counter::SpansDroppedQueueFull,
            Counter::SpansDroppedRejected,
        ]
        .into_iter()
        .map(|wanted| count(&mut counters, wanted))
        .sum();
        let waiting = exporter.buffered_bytes() as u64 / 100;
        assert_eq!(recorded, settled + waiting);
    }
}
