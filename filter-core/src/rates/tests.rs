use mesh_config::Policy;

use super::*;

const SECOND: u64 = 1_000_000_000;
const START: u64 = 1_000_000 * SECOND;

struct Bench {
    rates: Rates,
    counters: Counters,
    now: u64,
}

impl Bench {
    /// An interval of 40 seconds: the table is asked for about every ten.
    fn new(further: &str) -> Self {
        let json = format!(
            r#"{{"sampling":{{"default_rate":0.5,"adaptive":{{"enabled":true,
                "adjustment_interval":"40s","target_traces_per_second":10,"local_share":0.5}},
                "low_volume":{{"traces_per_minute":0}}}},"export":{{"cluster":"c"}}{further}}}"#
        );
        let policy = Policy::from_json(json.as_bytes()).unwrap().policy;
        let mut bench = Self {
            rates: Rates::new(&policy, "a shop"),
            counters: Counters::default(),
            now: START,
        };
        bench.tick(0);
        bench
    }

    fn root(&mut self, route: &str) -> Option<String> {
        let threshold = self.rates.root(route.as_bytes(), &mut self.counters);
        threshold.map(|threshold| threshold.to_string())
    }

    fn tick(&mut self, seconds: u64) {
        self.now += seconds * SECOND;
        self.rates.tick(self.now);
    }

    fn poll(&mut self) -> Option<(String, String)> {
        let request = self.rates.poll(self.now, &mut self.counters)?;
        Some((request.path.to_owned(), request.etag.to_owned()))
    }

    fn answer(&mut self, status: u16, etag: &str, body: &str) -> Option<Vec<u8>> {
        let answer = Answer {
            status,
            etag: etag.as_bytes(),
            body: Some(body.as_bytes()),
        };
        let shared = self
            .rates
            .on_answer(&answer, self.now, 7, &mut self.counters);
        shared.map(|shared| shared.bytes)
    }

    fn counted(&mut self, wanted: Counter) -> u64 {
        let mut count = 0;
        self.counters.clone().drain(|_, metric, value| {
            if metric == crate::counters::Metric::Counter(wanted) {
                count = value;
            }
        });
        count
    }
}

fn table(version: u64, cart: &str) -> String {
    format!(
        r#"{{"version":{version},"service":"a shop","unlisted":"e","routes":{{"/cart":"{cart}"}}}}"#
    )
}

#[test]
fn a_proxy_at_which_no_trace_begins_asks_for_nothing() {
    let mut bench = Bench::new("");
    bench.tick(100);
    assert_eq!(bench.poll(), None);
    bench.root("/cart");
    let (path, etag) = bench.poll().unwrap();
    assert_eq!(
        (path.as_str(), etag.as_str()),
        ("/v1/rates?service=a%20shop", "")
    );
    assert_eq!(bench.poll(), None, "one request is under way");
}

#[test]
fn a_policy_without_a_collector_asks_nobody() {
    let policy = r#"{"sampling":{"adaptive":{"enabled":true}}}"#;
    let policy = Policy::from_json(policy.as_bytes()).unwrap().policy;
    let mut rates = Rates::new(&policy, "shop");
    rates.root(b"/", &mut Counters::default());
    assert!(!rates.is_due(START));
}

#[test]
fn static_rates_hold_until_the_table_comes_and_its_tag_is_sent_back() {
    let mut bench = Bench::new("");
    assert_eq!(bench.root("/cart"), None);
    bench.poll().unwrap();
    assert!(bench.answer(200, "\"v1\"", &table(3, "8")).is_some());
    assert_eq!(bench.root("/cart").as_deref(), Some("8"));
    assert_eq!(bench.root("/new").as_deref(), Some("e"));
    assert_eq!(bench.rates.version(), 3);
    assert_eq!(bench.poll(), None, "not before a part of the interval");
    bench.tick(20);
    assert_eq!(bench.poll().unwrap().1, "\"v1\"");
    assert!(bench.answer(304, "", "").is_some());
    assert_eq!(bench.root("/cart").as_deref(), Some("8"));
    bench.tick(20);
    bench.poll().unwrap();
    assert!(bench.answer(200, "\"v2\"", &table(4, "0")).is_some());
    assert_eq!(bench.root("/cart").as_deref(), Some("0"));
    assert_eq!(bench.counted(Counter::RatesStatic), 1);
    assert_eq!(bench.counted(Counter::RatesTable), 4);
    assert_eq!(bench.counted(Counter::RatesUnchanged), 1);
}

#[test]
fn a_bad_table_is_counted_and_the_last_good_one_holds() {
    let mut bench = Bench::new("");
    bench.root("/cart");
    bench.poll().unwrap();
    bench.answer(200, "\"v1\"", &table(1, "8"));
    for bad in ["{", "", &table(2, "zz")] {
        bench.tick(20);
        bench.poll().unwrap();
        assert_eq!(bench.answer(200, "\"bad\"", bad), None);
        assert_eq!(bench.root("/cart").as_deref(), Some("8"));
    }
    assert_eq!(bench.counted(Counter::RatesRefused), 3);
    bench.tick(20);
    assert_eq!(bench.poll().unwrap().1, "\"v1\"", "the tag of what is held");
}

#[test]
fn failures_are_tried_again_after_a_pause_and_a_lost_call_is_given_up() {
    let mut bench = Bench::new("");
    bench.root("/cart");
    for status in [0, 503, 404] {
        bench.tick(60);
        bench.poll().unwrap();
        bench.answer(status, "", "");
        assert_eq!(bench.poll(), None, "{status}");
    }
    assert_eq!(bench.counted(Counter::RatesFailed), 3);
    bench.tick(60);
    bench.poll().unwrap();
    bench.tick(10);
    assert_eq!(bench.poll(), None, "its answer may come");
    bench.tick(10);
    assert!(bench.poll().is_some());
}

#[test]
fn without_an_answer_the_own_controller_takes_over_with_its_share() {
    let mut bench = Bench::new("");
    // 100 per second on one route; a half of 10 per second is this worker's part.
    for _ in 0..40 {
        bench.tick(1);
        for _ in 0..100 {
            bench.root("/busy");
        }
    }
    let own = bench.root("/busy");
    assert!(own.is_some(), "after the first window");
    for _ in 0..80 {
        bench.tick(1);
        for _ in 0..100 {
            bench.root("/busy");
        }
    }
    let probability = bench.rates.root(b"/busy", &mut bench.counters).unwrap();
    let kept = probability.probability() * 100.0;
    assert!((4.5..=5.5).contains(&kept), "{kept} per second");
    assert!(bench.counted(Counter::RatesLocal) > 8_000);
}

#[test]
fn a_table_that_nobody_confirms_is_given_up_after_three_intervals() {
    let mut bench = Bench::new("");
    bench.root("/cart");
    bench.poll().unwrap();
    bench.answer(200, "\"v1\"", &table(1, "8"));
    for _ in 0..120 {
        bench.tick(1);
        assert_eq!(bench.root("/cart").as_deref(), Some("8"));
    }
    for _ in 0..41 {
        bench.tick(1);
        bench.root("/cart");
    }
    assert_ne!(bench.root("/cart").as_deref(), Some("8"));
    assert_eq!(bench.rates.version(), 0);
    bench.poll().unwrap();
    bench.answer(304, "", "");
    assert_eq!(bench.root("/cart").as_deref(), Some("8"), "it holds again");
}

#[test]
fn no_answer_moves_a_rate_beyond_the_limits_of_the_policy() {
    let mut bench = Bench::new("");
    let adaptive = r#"{"sampling":{"adaptive":{"enabled":true,"min_sampling_rate":0.25,
        "max_sampling_rate":0.5}}}"#;
    let policy = Policy::from_json(adaptive.as_bytes()).unwrap().policy;
    bench.rates = Rates::new(&policy, "a shop");
    bench.root("/cart");
    bench.answer(200, "", &table(1, "0"));
    assert_eq!(bench.root("/cart").as_deref(), Some("8"));
    assert_eq!(bench.root("/else").as_deref(), Some("c"));
}

#[test]
fn another_worker_takes_a_shared_table_unless_it_is_old_or_foreign() {
    let mut bench = Bench::new("");
    bench.root("/cart");
    bench.poll().unwrap();
    let shared = bench.answer(200, "\"v1\"", &table(9, "8")).unwrap();
    let mut other = Bench::new("");
    other.root("/cart");
    for length in 0..shared.len() {
        other.rates.adopt(&shared[..length], START, 7);
    }
    assert_eq!(other.rates.version(), 0, "a piece is no table");
    other.rates.adopt(&shared, START + 200 * SECOND, 7);
    assert_eq!(other.rates.version(), 0, "too old");
    other.rates.adopt(&shared, START + SECOND, 7);
    assert_eq!(other.rates.version(), 9);
    assert_eq!(other.root("/cart").as_deref(), Some("8"));
    assert_eq!(other.poll(), None, "it need not ask now");
    other.tick(20);
    assert_eq!(other.poll().unwrap().1, "\"v1\"");
}

#[test]
fn each_trace_is_handed_over_once_and_forced_ones_never() {
    let mut bench = Bench::new("");
    for route in ["/a", "/b", "/a", "/a"] {
        bench.root(route);
    }
    bench.rates.forced(b"/a");
    let mut taken = Vec::new();
    bench
        .rates
        .take_unsent(|route, traces| taken.push((route.to_vec(), traces)));
    assert_eq!(taken, [(b"/a".to_vec(), 2), (b"/b".to_vec(), 1)]);
    assert!(!bench.rates.has_unsent());
    bench.rates.take_unsent(|_, _| panic!("nothing new"));
}

#[test]
fn routes_beyond_the_limit_are_counted_as_other() {
    let mut bench = Bench::new("");
    for route in 0..MAX_ROUTES + 10 {
        bench.root(&format!("/{route}"));
    }
    let (mut routes, mut other) = (0, 0);
    bench.rates.take_unsent(|route, traces| {
        routes += 1;
        other += if route == OTHER { traces } else { 0 };
    });
    assert_eq!((routes, other), (MAX_ROUTES + 1, 10));
}
