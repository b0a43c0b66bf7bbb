#!/usr/bin/env python3
"""Writes monitoring/dashboard.json and monitoring/prometheus-rule.yaml.

The dashboard's reasons come from docs/metrics.md, the resource's groups from monitoring/rules.yaml.
`--check` compares instead of writing. Standard library only; the output is the same on every run.
"""

import json
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
FOLDER = ROOT / "monitoring"
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
RANGE = "[$__rate_interval]"
LEDGER = '{service_name=~"$service_name"}'
# Istio puts the resource's namespace before the plugin's name.
RELOADS = '{__name__=~"envoy_wasm_.*tracemeter_vm_reload_success",service_name=~"$service_name"}'
CHARGED = "tracemeter_ledger_cost_usd_total"


def reasons():
    """Counters of decisions by reason, from the generated page."""
    page = (ROOT / "docs/metrics.md").read_text()
    return re.findall(r"`tracemeter_reason_(\w+)_total` \| (yes|no)", page)


def rate(name, selector=LEDGER):
    return f"rate({name}{selector}{RANGE})"


def by(label, inner):
    return f"sum by ({label}) ({inner})"


def target(expression, legend):
    return {"datasource": SOURCE, "expr": expression, "legendFormat": legend, "range": True}


def panel(title, description, unit, *targets, kind="timeseries", stack=False):
    custom = {"fillOpacity": 10, "showPoints": "never"}
    if stack:
        custom["stacking"] = {"mode": "normal"}
    panel = {
        "type": kind,
        "title": title,
        "description": description,
        "datasource": SOURCE,
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "targets": [dict(one, refId=reference(at)) for at, one in enumerate(targets)],
    }
    if kind == "timeseries":
        panel["fieldConfig"]["defaults"]["custom"] = custom
        panel["options"] = {"legend": {"displayMode": "list", "placement": "bottom"}}
    return panel


def reference(number):
    """A, B, .., Z, AA, AB, .."""
    letters = chr(ord("A") + number % 26)
    return letters if number < 26 else reference(number // 26 - 1) + letters


def cost_row():
    hourly = f"{rate(CHARGED)} * 3600"
    requests = rate("tracemeter_ledger_requests_total")
    errors = rate("tracemeter_ledger_errors_total")
    durations = rate("tracemeter_ledger_duration_seconds_total")
    return [
        panel("Cost per hour", "Exact: every request, whatever was sampled.", "currencyUSD",
              target(f"sum({hourly})", "all"), kind="stat"),
        panel("Requests per second", "Exact, by service and direction.", "reqps",
              target(by("service_name, direction", requests), "{{service_name}} {{direction}}")),
        panel("Errors", "Share of requests that are errors by the policy.", "percentunit",
              target(f"{by('service_name', errors)} / {by('service_name', requests)}",
                     "{{service_name}}")),
        panel("Cost per hour by service", "Exclusive cost of each hop.", "currencyUSD",
              target(by("service_name", hourly), "{{service_name}}"), stack=True),
        panel("Cost per hour by route", "The ten most expensive routes.", "currencyUSD",
              target(f"topk(10, {by('service_name, route', hourly)})",
                     "{{service_name}} {{route}}")),
        panel("Cost per hour by data class", "EXPORT_OK, SENSITIVE, PII.", "currencyUSD",
              target(by("data_tag", hourly), "{{data_tag}}"), stack=True),
        panel("Mean duration", "Exact, by service.", "s",
              target(f"{by('service_name', durations)} / {by('service_name', requests)}",
                     "{{service_name}}")),
        panel("Requests by status class", "Exact.", "reqps",
              target(by("status_class", requests), "{{status_class}}"), stack=True),
    ]


def sampling_row():
    requests = by("service_name", rate("tracemeter_requests_total"))
    kept = by("service_name", rate("tracemeter_kept_total"))
    promoted = by("service_name", rate("tracemeter_promoted_total"))
    yes = [target(f"sum({rate(f'tracemeter_reason_{name}_total')})", name)
           for name, answer in reasons() if answer == "yes"]
    no = [target(f"sum({rate(f'tracemeter_reason_{name}_total')})", name)
          for name, answer in reasons() if answer == "no"]
    contexts = ["started", "continued", "restarted"]
    invalid = ["traceparent", "tracestate", "baggage", "ot", "cost", "data_tag"]
    return [
        panel("Kept", "Spans kept per request, at the head and at the end of the stream.",
              "percentunit", target(f"({kept} + {promoted}) / {requests}", "{{service_name}}")),
        panel("Kept by reason", "Why requests were kept.", "reqps", *yes, stack=True),
        panel("Dropped by reason", "Why requests were not kept.", "reqps", *no, stack=True),
        panel("Traces", "Started here, continued, restarted after an invalid context.", "reqps",
              *[target(f"sum({rate(f'tracemeter_traces_{name}_total')})", name)
                for name in contexts], stack=True),
        panel("Refused headers", "Incoming headers that were malformed.", "reqps",
              *[target(f"sum({rate(f'tracemeter_invalid_{name}_total')})", name)
                for name in invalid]),
        panel("Context overwritten", "Another tracer wrote traceparent after the filter.", "reqps",
              target(by("service_name", rate("tracemeter_context_overwritten_total")),
                     "{{service_name}}")),
    ]


def overhead_row():
    bodies = " + ".join(f"sum({rate(f'tracemeter_ledger_{name}_bytes_total')})"
                        for name in ("request", "response"))
    return [
        panel("Exported bytes per proxied byte", "Bodies received by the collector, compared with "
              "the bodies of all requests.", "percentunit",
              target(f"sum(rate(tracemeter_collector_body_bytes_total{RANGE})) / ({bodies})",
                     "exported")),
        panel("Memory of the proxies", "Physical memory of each Envoy, the filter's VMs included.",
              "bytes", target(f"max by (service_name) (envoy_server_memory_physical_size{LEDGER})",
                              "{{service_name}}")),
        panel("Spans waiting in the proxies", "Bytes in the filters' export queues.", "bytes",
              target(f"sum by (service_name) (tracemeter_queue_bytes{LEDGER})",
                     "{{service_name}}")),
        panel("Heart-beats", "Ticks of the filter per second; 0 means a dead filter.", "cps",
              target(by("service_name", rate("tracemeter_heartbeat_total")), "{{service_name}}")),
        panel("Reloads of the filter's VM", "After a trap.", "cps",
              target(by("service_name", rate("", RELOADS)),
                     "{{service_name}}")),
    ]


def export_row():
    lost = ["queue_full", "rejected", "export_off"]
    collector = "tracemeter_collector_"
    return [
        panel("Spans", "Buffered and acknowledged.", "cps",
              target(f"sum({rate('tracemeter_spans_buffered_total')})", "buffered"),
              target(f"sum({rate('tracemeter_spans_exported_total')})", "exported")),
        panel("Spans lost in the proxies", "By reason.", "cps",
              *[target(f"sum({rate(f'tracemeter_spans_dropped_{name}_total')})", name)
                for name in lost]),
        panel("Export requests", "Sent, failed and tried again, not sent at all.", "reqps",
              target(f"sum({rate('tracemeter_export_requests_total')})", "sent"),
              target(f"sum({rate('tracemeter_export_retries_total')})", "tried again"),
              target(f"sum({rate('tracemeter_export_no_cluster_total')})", "no cluster"),
              target(f"sum({rate('tracemeter_ledger_refused_total')})", "ledger refused")),
        panel("Refused by the collector", "Requests and spans, by reason.", "cps",
              target(by("reason", f"rate({collector}requests_refused_total{RANGE})"),
                     "request: {{reason}}"),
              target(by("reason", f"rate({collector}spans_refused_total{RANGE})"),
                     "span: {{reason}}")),
        panel("Time to write and sync the log", "Mean over the groups of requests.", "s",
              target(f"sum(rate({collector}log_group_seconds_sum{RANGE})) / "
                     f"sum(rate({collector}log_group_seconds_count{RANGE}))", "group")),
        panel("Collector memory", "Spans in memory, requests in work.", "bytes",
              target(f"sum({collector}hot_bytes)", "spans"),
              target(f"sum({collector}in_flight_bytes)", "requests in work")),
        panel("Stored", "Spans and ledger deltas per second.", "cps",
              target(f"sum(rate({collector}spans_stored_total{RANGE}))", "spans"),
              target(f"sum(rate({collector}ledger_deltas_total{RANGE}))", "ledger deltas")),
        panel("Alerts of the policy", "Firing, by alert; traces count one by one.", "short",
              target(f"sum by (alert) ({collector}alerts_firing)", "{{alert}}")),
        panel("Queries", "Answered and failed.", "reqps",
              target(f"sum(rate({collector}query_seconds_count{RANGE}))", "answered"),
              target(f"sum(rate({collector}query_failures_total{RANGE}))", "failed")),
    ]


def layout(rows):
    """Three panels beside each other, eight units high, under a heading per row."""
    panels, top = [], 0
    for title, row in rows:
        panels.append({"type": "row", "title": title, "collapsed": False, "panels": [],
                       "gridPos": {"x": 0, "y": top, "w": 24, "h": 1}})
        top += 1
        for at, one in enumerate(row):
            one["gridPos"] = {"x": at % 3 * 8, "y": top + at // 3 * 8, "w": 8, "h": 8}
            panels.append(one)
        top += (len(row) + 2) // 3 * 8
    for number, one in enumerate(panels, start=1):
        one["id"] = number
    return panels


def variables():
    services = "label_values(tracemeter_ledger_requests_total, service_name)"
    return [
        {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"},
        {"name": "service_name", "label": "Service", "type": "query", "datasource": SOURCE,
         "query": {"query": services, "refId": "services"}, "definition": services,
         "includeAll": True, "allValue": ".*", "multi": True, "refresh": 2, "sort": 1,
         "current": {"text": "All", "value": "$__all"}},
    ]


def dashboard():
    rows = [("Cost and traffic: exact, by the ledger", cost_row()),
            ("Sampling: what is kept and why", sampling_row()),
            ("What the filter costs", overhead_row()),
            ("Export and collector", export_row())]
    return json.dumps({
        "uid": "tracemeter",
        "title": "Tracemeter",
        "description": "Written by scripts/monitoring.py; do not edit.",
        "tags": ["tracemeter", "cost", "tracing"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": variables()},
        "panels": layout(rows),
    }, indent=1) + "\n"


def prometheus_rule():
    head = ("# Written by scripts/monitoring.py from rules.yaml; do not edit.\n"
            "apiVersion: monitoring.coreos.com/v1\n"
            "kind: PrometheusRule\n"
            "metadata:\n"
            "  name: tracemeter\n"
            "  labels:\n"
            "    app.kubernetes.io/name: tracemeter\n"
            "spec:\n")
    body = (FOLDER / "rules.yaml").read_text().splitlines()
    lines = [f"  {line}" if line else "" for line in body if not line.startswith("#")]
    return head + "\n".join(lines) + "\n"


def main():
    written = {"dashboard.json": dashboard(), "prometheus-rule.yaml": prometheus_rule()}
    for name, text in written.items():
        file = FOLDER / name
        if "--check" not in sys.argv[1:]:
            file.write_text(text)
        elif not file.exists() or file.read_text() != text:
            sys.exit(f"error: `monitoring/{name}` differs: run `make docs`")


if __name__ == "__main__":
    main()
