//! The views: SQL over the stored tables, and which tables each of them needs.

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

/// A view: its name, the tables and views it reads, its query.
pub(super) type View = (&'static str, &'static [&'static str], &'static str);

/// The exact views over the ledger. Costs count every request, kept or not; `requests` counts
/// each request once, at the proxy of the service that was called.
const VIEWS: [View; 7] = [
    ("trace_metadata", &["trace_parts"], TRACE_METADATA),
    (
        "trace_links",
        &["trace_parts", "trace_metadata"],
        TRACE_LINKS,
    ),
    (
        "cost_by_service",
        &["ledger"],
        "SELECT minute, service_name, SUM(cost_usd) AS cost_usd, \
         SUM(CASE WHEN direction = 'inbound' THEN requests ELSE 0 END) AS requests \
         FROM ledger GROUP BY minute, service_name",
    ),
    (
        "cost_by_data_tag",
        &["ledger"],
        "SELECT minute, data_tag, SUM(cost_usd) AS cost_usd, \
         SUM(CASE WHEN direction = 'inbound' THEN requests ELSE 0 END) AS requests \
         FROM ledger GROUP BY minute, data_tag",
    ),
    (
        "cost_by_route",
        &["ledger"],
        "SELECT minute, service_name, route, SUM(cost_usd) AS cost_usd, \
         SUM(CASE WHEN direction = 'inbound' THEN requests ELSE 0 END) AS requests \
         FROM ledger GROUP BY minute, service_name, route",
    ),
    (
        "red_by_service",
        &["ledger"],
        "SELECT minute, service_name, SUM(requests) AS requests, SUM(errors) AS errors, \
         SUM(duration_ms_sum) / NULLIF(SUM(requests), 0) AS duration_ms_mean \
         FROM ledger WHERE direction = 'inbound' GROUP BY minute, service_name",
    ),
    (
        "service_edges",
        &["ledger"],
        "SELECT minute, service_name AS source, peer AS target, SUM(requests) AS requests, \
         SUM(errors) AS errors, SUM(cost_usd) AS cost_usd, \
         SUM(request_bytes + response_bytes) AS bytes \
         FROM ledger WHERE direction = 'outbound' GROUP BY minute, service_name, peer",
    ),
];

/// The view of this name.
pub(super) fn view(name: &str) -> Option<&'static View> {
    VIEWS.iter().find(|(known, ..)| *known == name)
}

/// Names of all views.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    VIEWS.iter().map(|(name, ..)| *name)
}
