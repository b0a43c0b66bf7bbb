//! The views: SQL over the stored tables, and which tables each of them needs.
//!
//! The views over counts exist by minute, and as `.._hour` and `.._day` over the rollups, where
//! the first column is `hour` or `day`. Their column `basis` says what a row is: `ledger` (exact,
//! every request) or `estimate` (from spans, by their thresholds). A service with any ledger row on
//! a day (UTC) has no estimates on that day, so the two are never added for one service. The last
//! requests before a midnight may be in the ledger of the next day: on the very day that a
//! service gets its filter, they may be in both days.

/// `trace_metadata` as the sum of the parts. A trace's root may be missing or late: then its
/// columns are NULL until it comes.
const TRACE_METADATA: &str = "SELECT trace_id, \
     CAST(SUM(recorded_cost) AS DECIMAL(20,9)) AS recorded_cost, \
     CAST(SUM(span_count) AS BIGINT) AS span_count, \
     BOOL_OR(error) AS error, \
     CASE MAX(class) WHEN 2 THEN 'PII' WHEN 1 THEN 'SENSITIVE' ELSE 'EXPORT_OK' END AS data_tag, \
     MIN(first_seen) AS first_seen, \
     MAX(last_seen) AS last_seen, \
     MAX(root_service) AS root_service, \
     MAX(root_operation) AS root_operation, \
     MAX(depth) AS depth, \
     CAST(SUM(orphans) AS BIGINT) AS orphan_count, \
     CAST(SUM(app_cost) AS DECIMAL(20,9)) AS app_cost, \
     CAST(SUM(mesh_cost) AS DECIMAL(20,9)) AS mesh_cost, \
     CAST(SUM(priced_cost) AS DECIMAL(20,9)) AS priced_cost, \
     CAST(SUM(default_cost) AS DECIMAL(20,9)) AS default_cost, \
     CAST(SUM(unpriced_spans) AS BIGINT) AS unpriced_spans, \
     (CAST(MAX(last_seen) AS BIGINT) - CAST(MIN(first_seen) AS BIGINT)) / 1000000.0 \
     AS duration_ms \
     FROM trace_parts GROUP BY trace_id";

/// Which traces link to which (a consumer's to the producer's), with what the linked trace cost;
/// NULL when it is not stored.
const TRACE_LINKS: &str = "SELECT link.trace_id, link.linked_trace_id, \
     linked.root_service AS linked_service, linked.root_operation AS linked_operation, \
     linked.recorded_cost AS linked_cost \
     FROM (SELECT DISTINCT trace_id, UNNEST(string_to_array(linked_traces, ' ')) \
     AS linked_trace_id FROM trace_parts WHERE linked_traces IS NOT NULL) AS link \
     LEFT JOIN trace_metadata AS linked ON linked.trace_id = link.linked_trace_id";

/// The exact rows only.
const LEDGER: &str = "SELECT * FROM ledger_rows WHERE basis IS NULL OR basis = 'ledger'";

/// Exact rows, and estimates where there are none. The exact ones take no join; the small side
/// of the other is its left, of which the engine makes the hash table.
const COUNTED: &str = "SELECT * EXCEPT (basis), 'ledger' AS basis FROM {rows} \
     WHERE basis IS NULL OR basis = 'ledger' \
     UNION ALL SELECT * FROM ledger_covered \
     RIGHT ANTI JOIN (SELECT * FROM {rows} WHERE basis = 'estimate') AS estimated \
     ON service_name = covered_service AND date_trunc('day', minute) = covered_day";

/// Views over counts by a unit of time. Costs count every request, kept or not; `requests` counts
/// each request once, at the service that was called.
const COUNTS: [(&str, &str); 5] = [
    (
        "cost_by_service",
        "SELECT minute AS {unit}, service_name, SUM(cost_usd) AS cost_usd, \
         SUM(CASE WHEN direction <> 'outbound' THEN requests ELSE 0 END) AS requests, basis \
         FROM {counted} GROUP BY minute, service_name, basis",
    ),
    (
        "cost_by_data_tag",
        "SELECT minute AS {unit}, data_tag, SUM(cost_usd) AS cost_usd, \
         SUM(CASE WHEN direction <> 'outbound' THEN requests ELSE 0 END) AS requests, basis \
         FROM {counted} GROUP BY minute, data_tag, basis",
    ),
    (
        "cost_by_route",
        "SELECT {unit}, service_name, route, cost_usd, requests, errors, {quantiles}, basis FROM \
         (SELECT minute AS {unit}, service_name, route, SUM(cost_usd) AS cost_usd, \
         SUM(CASE WHEN direction <> 'outbound' THEN requests ELSE 0 END) AS requests, \
         SUM(CASE WHEN direction <> 'outbound' THEN errors ELSE 0 END) AS errors, \
         {histogram} FILTER (WHERE direction <> 'outbound') AS histogram, basis \
         FROM {counted} GROUP BY minute, service_name, route, basis)",
    ),
    (
        "red_by_service",
        "SELECT {unit}, service_name, requests, errors, duration_ms_mean, {quantiles}, basis FROM \
         (SELECT minute AS {unit}, service_name, SUM(requests) AS requests, \
         SUM(errors) AS errors, \
         SUM(duration_ms_sum) / NULLIF(SUM(requests), 0) AS duration_ms_mean, \
         {histogram} AS histogram, basis \
         FROM {counted} WHERE direction <> 'outbound' GROUP BY minute, service_name, basis)",
    ),
    (
        "service_edges",
        "SELECT minute AS {unit}, service_name AS source, peer AS target, \
         SUM(requests) AS requests, SUM(errors) AS errors, SUM(cost_usd) AS cost_usd, \
         SUM(request_bytes + response_bytes) AS bytes, basis \
         FROM {counted} WHERE direction = 'outbound' \
         GROUP BY minute, service_name, peer, basis",
    ),
];

/// All requests of a group as one histogram.
const HISTOGRAM: &str = "merge_histograms(histogram_scale, histogram_offset, histogram_counts)";

const QUANTILES: &str = "histogram_quantile(histogram, 0.5) / 1e6 AS duration_ms_p50, \
     histogram_quantile(histogram, 0.9) / 1e6 AS duration_ms_p90, \
     histogram_quantile(histogram, 0.99) / 1e6 AS duration_ms_p99";

/// By minute, these read sums without routes and histograms.
const COSTS: [&str; 2] = ["cost_by_service", "cost_by_data_tag"];

/// Suffix of a view's name, its unit, the rows behind it and those rows with estimates.
const UNITS: [(&str, &str, &str, &str); 3] = [
    ("", "minute", "ledger_rows", "counted_rows"),
    ("_hour", "hour", "ledger_hours", "counted_hours"),
    ("_day", "day", "ledger_days", "counted_days"),
];

/// A view: the tables and views it reads, and its query.
pub(super) struct View {
    pub(super) needs: Vec<&'static str>,
    pub(super) query: String,
}

/// The view of this name.
pub(super) fn view(name: &str) -> Option<View> {
    let plain = |needs: &[&'static str], query: &str| {
        Some(View {
            needs: needs.to_vec(),
            query: query.to_owned(),
        })
    };
    match name {
        "trace_metadata" => return plain(&["trace_parts"], TRACE_METADATA),
        "trace_links" => return plain(&["trace_parts", "trace_metadata"], TRACE_LINKS),
        "ledger" => return plain(&["ledger_rows"], LEDGER),
        _ => {}
    }
    let units = UNITS
        .into_iter()
        .chain([("", "minute", "ledger_costs", "counted_costs")]);
    for (suffix, unit, rows, counted) in units {
        if name == counted {
            let query = COUNTED.replace("{rows}", rows);
            return plain(&[rows, "ledger_covered"], &query);
        }
        let base = name.strip_suffix(suffix);
        let found = COUNTS.iter().find(|(known, _)| Some(*known) == base);
        if let Some((_, query)) = found {
            let counted = match unit {
                "minute" if COSTS.contains(&name) => "counted_costs",
                _ => counted,
            };
            let query = query
                .replace("{unit}", unit)
                .replace("{counted}", counted)
                .replace("{quantiles}", QUANTILES)
                .replace("{histogram}", HISTOGRAM);
            return plain(&[counted], &query);
        }
    }
    None
}

/// Names of all views that a query may want.
pub(super) fn names() -> impl Iterator<Item = String> {
    let plain = ["trace_metadata", "trace_links", "ledger"].map(str::to_owned);
    let counts = COUNTS.iter().flat_map(|(name, _)| {
        UNITS
            .iter()
            .map(move |(suffix, ..)| format!("{name}{suffix}"))
    });
    plain.into_iter().chain(counts)
}
