//! Any bytes as the internal header of a response, and as the content of a mailbox.

use filter_core::reply::in_flight::InFlight;
use filter_core::reply::{MAX_BYTES, Reply, mailbox};
use filter_core::{Direction, ResponseInput};

use super::{Bench, CALLER, LOW_TRACE, traceparent};

const POLICY: &str = r#"{"sampling":{"default_rate":0,"low_volume":{"traces_per_minute":0}},
    "propagation":{"return_channel":{"carries":"costs"}},"cost":{"settle":"response"}}"#;

/// What holds for any bytes that an upstream, an application or another module can put there.
pub(crate) fn check(data: &[u8]) {
    if let Ok(reply) = Reply::parse(data) {
        let written = reply.write();
        assert!(written.as_bytes().len() <= MAX_BYTES);
        assert_eq!(Reply::parse(written.as_bytes()), Ok(reply));
    }
    for direction in [Direction::Inbound, Direction::Outbound, Direction::Gateway] {
        let mut bench = Bench::at(POLICY, direction);
        let incoming = traceparent(LOW_TRACE, "00");
        let headers = [("traceparent", incoming.as_str()), ("tracestate", "tm=r:1")];
        let mut left = bench.get("/", &headers);
        let mut in_flight = InFlight::new(1);
        bench.engine.track(&mut left.state, &mut in_flight);
        let (trace_id, parent) = (left.parent().trace_id, left.parent().parent_id);
        let input = ResponseInput {
            now_unix_nanos: bench.now,
            http_status: Some(200),
            internal_header: Some(data),
            posted: mailbox::read(data, trace_id, parent),
            ..ResponseInput::default()
        };
        let effects = bench.engine.response(&mut left.state, &input, &in_flight);
        if let Some(reply) = effects.reply {
            assert!(Reply::parse(reply.as_bytes()).is_ok());
            assert_eq!(direction, Direction::Inbound, "only a callee answers");
        }
        if let Some(letter) = effects.letter {
            assert_eq!(letter.parent_id.to_string(), CALLER);
            let (content, _) = mailbox::post(data, trace_id, letter.parent_id, letter.news);
            assert!(content.len() <= mailbox::MAX_LETTERS * mailbox::LETTER_BYTES);
        }
        let engine = &mut bench.engine;
        engine.untrack(&mut left.state, &mut in_flight, None);
        assert!(in_flight.is_empty());
        bench.answer(left, 200);
    }
}
