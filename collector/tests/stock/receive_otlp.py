"""A stock OTLP/gRPC back end: grpcio and the published opentelemetry-proto messages.

Prints its port; then, for every request, the number of its spans, the authorization it came with
and the names of its services. The first request is told to come again later, as a back end does that
is full.
"""

import sys
from concurrent import futures

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc


class Receiver(trace_service_pb2_grpc.TraceServiceServicer):
    def __init__(self):
        self.refused = False

    def Export(self, request, context):
        if not self.refused:
            self.refused = True
            retry = error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(nanos=200_000_000))
            detail = any_pb2.Any()
            detail.Pack(retry)
            status = status_pb2.Status(code=8, message="full", details=[detail])
            context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "full")
        spans = [
            span
            for resource_spans in request.resource_spans
            for scope_spans in resource_spans.scope_spans
            for span in scope_spans.spans
        ]
        services = {
            attribute.value.string_value
            for resource_spans in request.resource_spans
            for attribute in resource_spans.resource.attributes
            if attribute.key == "service.name"
        }
        metadata = dict(context.invocation_metadata())
        print(len(spans), metadata.get("authorization"), ",".join(sorted(services)), flush=True)
        return trace_service_pb2.ExportTraceServiceResponse()


server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
trace_service_pb2_grpc.add_TraceServiceServicer_to_server(Receiver(), server)
print(server.add_insecure_port("127.0.0.1:0"), flush=True)
server.start()
sys.stdin.read()
