"""Reads the export requests in a folder with opentelemetry-proto; prints what they hold as JSON."""

import gzip
import json
import pathlib
import sys

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

found = {"batches": 0, "spans": 0, "deltas": 0, "requests": 0, "cost_nanos": 0, "unknown_bytes": 0}
services = set()


def parsed(message, path):
    """The message; bytes of fields that its definition does not know are counted."""
    body = path.read_bytes()
    if path.suffix == ".gz":
        body = gzip.decompress(body)
    message.ParseFromString(body)
    before = message.ByteSize()
    message.DiscardUnknownFields()
    found["unknown_bytes"] += before - message.ByteSize()
    return message


def service(resource):
    services.update(a.value.string_value for a in resource.attributes if a.key == "service.name")


folder = pathlib.Path(sys.argv[1])
for path in sorted(folder.glob("spans-*")):
    found["batches"] += 1
    for group in parsed(ExportTraceServiceRequest(), path).resource_spans:
        service(group.resource)
        for scope in group.scope_spans:
            assert scope.scope.name == "tracemeter", scope.scope
            for span in scope.spans:
                found["spans"] += 1
                assert len(span.trace_id) == 16 and len(span.span_id) == 8, span
                assert span.kind in (2, 3) and span.name, span
                assert 0 < span.start_time_unix_nano <= span.end_time_unix_nano, span
                keys = {a.key for a in span.attributes}
                assert {"cost_usd", "data_tag", "http.request.method"} <= keys, span
for path in sorted(folder.glob("metrics-*")):
    found["deltas"] += 1
    for group in parsed(ExportMetricsServiceRequest(), path).resource_metrics:
        service(group.resource)
        for scope in group.scope_metrics:
            for metric in scope.metrics:
                assert metric.WhichOneof("data") in ("sum", "exponential_histogram"), metric
                for point in metric.exponential_histogram.data_points:
                    assert sum(point.positive.bucket_counts) == point.count, point
                    assert 0 < point.start_time_unix_nano <= point.time_unix_nano, point
                    found["requests"] += point.count
                if metric.name == "tracemeter.cost":
                    found["cost_nanos"] += sum(p.as_int for p in metric.sum.data_points)
print(json.dumps({**found, "services": sorted(services)}))
