"""Sends traces with opentelemetry-python: `send_otlp.py grpc|http ENDPOINT none|gzip SERVICE TRACES`.

Prints the id of the first trace; fails when the exporter could not deliver everything.
"""

import sys

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.trace import Link, SpanKind, Status, StatusCode

protocol, endpoint, compression, service, traces = sys.argv[1:]
if protocol == "grpc":
    from grpc import Compression
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

    compression = {"none": Compression.NoCompression, "gzip": Compression.Gzip}[compression]
    exporter = OTLPSpanExporter(endpoint=endpoint, insecure=True, compression=compression)
else:
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    compression = {"none": Compression.NoCompression, "gzip": Compression.Gzip}[compression]
    exporter = OTLPSpanExporter(endpoint=endpoint, compression=compression)

failures = []
export = exporter.export


def watched(spans):
    result = export(spans)
    if result is not SpanExportResult.SUCCESS:
        failures.append(result)
    return result


exporter.export = watched
provider = TracerProvider(resource=Resource.create({"service.name": service}))
provider.add_span_processor(BatchSpanProcessor(exporter, max_export_batch_size=64))
tracer = provider.get_tracer("stock", "1.0")
roots = []
for number in range(int(traces)):
    with tracer.start_as_current_span("root", kind=SpanKind.SERVER) as root:
        root.set_attributes({"cost_usd": (number + 1) * 1e-6, "items": [1, 2], "on": True})
        root.add_event("looked", {"shelf": "ä\"<"})
        roots.append(root.get_span_context())
        with tracer.start_as_current_span("child", links=[Link(roots[0])]) as child:
            child.set_attributes({"cost_usd": 0.0, "http.response.status_code": 200})
            if number % 2:
                child.set_status(Status(StatusCode.ERROR, "planned"))
provider.shutdown()
assert not failures, failures
print(f"{roots[0].trace_id:032x}")
