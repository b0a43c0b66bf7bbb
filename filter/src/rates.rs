//! The adaptive rates' way to the collector and between the workers of a proxy. What is asked when,
//! and what an answer means, is `filter_core::rates`.

use std::time::Duration;

use filter_core::Entropy;
use filter_core::rates::Answer;
use mesh_config::adaptive::MAX_ANSWER_BYTES;

use crate::host;
use crate::vm::Shared;

/// Headers of an export request that do not belong to a request without a body.
const OF_A_BODY: [&str; 2] = [":method", "content-type"];

/// Asks the collector, if it is time and no other worker has done so; the token of the call.
pub(crate) fn ask(
    shared: &mut Shared,
    cluster: &str,
    headers: &[(String, String)],
    timeout: Duration,
    now: u64,
) -> Option<u32> {
    let key = shared_key(shared.engine.rates_due(now)?);
    if let Some(table) = host::shared_value(&key) {
        let entropy = shared.entropy.next_u64();
        shared.engine.adopt_rates(&table, now, entropy);
    }
    let request = shared.engine.poll_rates(now)?;
    let fixed = headers.iter();
    let fixed = fixed.map(|(name, value)| (name.as_str(), value.as_str()));
    let mut headers: Vec<(&str, &str)> = fixed
        .filter(|(name, _)| !OF_A_BODY.contains(name))
        .collect();
    headers.extend([(":method", "GET"), (":path", request.path)]);
    if !request.etag.is_empty() {
        headers.push(("if-none-match", request.etag));
    }
    let sent = host::dispatch(cluster, headers, None, timeout);
    if sent.is_err() {
        let entropy = shared.entropy.next_u64();
        let none = Answer {
            status: 0,
            etag: b"",
            body: None,
        };
        let _ = shared.engine.rates_answer(&none, now, entropy);
    }
    sent.ok()
}

/// Takes the answer, in its callback, and shares a new table.
pub(crate) fn answered(shared: &mut Shared, status: u16, body_bytes: usize, now: u64) {
    let etag = host::call_response_header("etag").unwrap_or_default();
    let wanted = status == 200 && body_bytes <= MAX_ANSWER_BYTES;
    let body = if wanted {
        host::call_response_body(body_bytes)
    } else {
        None
    };
    let answer = Answer {
        status,
        etag: &etag,
        body: body.as_deref(),
    };
    let entropy = shared.entropy.next_u64();
    if let Some(table) = shared.engine.rates_answer(&answer, now, entropy) {
        host::set_shared_value(&shared_key(table.service), &table.bytes);
    }
}

/// Under which name a service's table is shared.
fn shared_key(service: &str) -> String {
    ["tracemeter.rates/", service].concat()
}
