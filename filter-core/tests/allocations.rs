//! How often one request allocates: committed numbers, so that a change that needs more says so.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "test code")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use filter_core::headers::HeaderBlock;
use filter_core::identity::Node;
use filter_core::{Details, Direction, Engine, Entropy, RequestInput, StreamEnd};
use mesh_config::Policy;

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[expect(
    unsafe_code,
    reason = "the trait is unsafe; every call goes to the system allocator"
)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller keeps the contract of the same method.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from the system allocator with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the pointer came from the system allocator with this layout.
        unsafe { System.realloc(pointer, layout, new_size) }
    }
}

struct Numbers(u64);

impl Entropy for Numbers {
    fn next_u64(&mut self) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        self.0
    }
}

/// Allocations of one request in the steady state.
fn allocations(json: &str, flags: &str) -> f64 {
    let policy = Policy::from_json(json.as_bytes()).unwrap().policy;
    let mut engine = Engine::new(&policy, &Node::default(), "i");
    let parent = format!("00-4bf92f3577b34da6a310000000000001-00f067aa0ba902b7-{flags}");
    let block = HeaderBlock::encode(&[
        (":method", "GET"),
        (":path", "/api/orders/42?page=1"),
        (":authority", "shop.svc:8080"),
        (":scheme", "http"),
        ("traceparent", parent.as_str()),
        ("tracestate", "vendor=1"),
        ("baggage", "user=1"),
        ("x-tenant", "acme"),
    ]);
    let mut entropy = Numbers(1);
    let mut exchange = |engine: &mut Engine| {
        let input = RequestInput {
            headers: HeaderBlock::new(&block),
            now_unix_nanos: 1_795_219_200_000_000_000,
            direction: Direction::Inbound,
            protocol: None,
            in_flight: None,
        };
        let state = engine.request(&input, &mut entropy).unwrap();
        let _ = engine.edits(&state);
        let end = StreamEnd {
            now_unix_nanos: input.now_unix_nanos + 1_000_000,
            http_status: Some(200),
            ..StreamEnd::default()
        };
        engine.end(state, &end, |_| Details::default());
    };
    for _ in 0..100 {
        exchange(&mut engine);
    }
    let before = ALLOCATIONS.get();
    for _ in 0..1_000 {
        exchange(&mut engine);
    }
    (ALLOCATIONS.get() - before) as f64 / 1_000.0
}

const PLAIN: &str = r#"{"sampling":{"default_rate":0},"export":{"cluster":"c"}}"#;
const TENANT: &str = r#"{"sampling":{"default_rate":0},"export":{"cluster":"c"},
    "attributes":{"tenant":{"header":"x-tenant"}}}"#;

#[test]
fn requests_stay_within_their_budget_of_allocations() {
    // (policy, flags, allocations per request)
    let table = [
        // the copied values
        (PLAIN, "00", 1.0),
        // the copied values, the list of kept ones
        (TENANT, "00", 2.0),
        // the copied values, the tracestate, the span's name; batches grow now and then
        (PLAIN, "01", 3.1),
    ];
    for (json, flags, budget) in table {
        let found = allocations(json, flags);
        assert!(
            found <= budget,
            "{found} allocations with flags {flags}: {json}"
        );
    }
}
