#!/usr/bin/env python3
"""Writes price_golden.tsv: what the specification's cost calculator prints.

The class below is the specification's listing, unchanged. Its `end_time - start_time` is taken as
milliseconds, which is what its own comment ("Per 100ms") and variable name say.

    python3 price_golden.py > price_golden.tsv
    python3 price_golden.py --check          # exit code 1 when the committed file differs
"""

import pathlib
import sys


class CostCalculator:
    """Calculate cost_usd for different operations"""

    # Base costs per operation type
    COSTS = {
        "api_call": 0.00001,
        "database_query": 0.00002,
        "ml_inference": 0.0001,
        "robot_actuation": 0.001,
        "storage_read": 0.000001,
        "storage_write": 0.000005,
    }

    @classmethod
    def calculate_span_cost(cls, span):
        """Calculate cost for a span"""
        operation = span.attributes.get("operation_type")
        base_cost = cls.COSTS.get(operation, 0.00001)

        # Adjust for duration
        duration_ms = span.end_time - span.start_time
        duration_factor = duration_ms / 100  # Per 100ms

        # Adjust for data size
        data_size = span.attributes.get("data_size_bytes", 0)
        data_factor = data_size / (1024 * 1024)  # Per MB

        total_cost = base_cost * (1 + duration_factor * 0.1 + data_factor * 0.01)

        return round(total_cost, 6)


class Span:
    def __init__(self, operation, duration_ms, data_size_bytes):
        self.attributes = {"operation_type": operation, "data_size_bytes": data_size_bytes}
        self.start_time = 0
        self.end_time = duration_ms


OPERATIONS = [
    "api_call",
    "database_query",
    "ml_inference",
    "robot_actuation",
    "storage_read",
    "storage_write",
    "no_such_operation",
]
# Nanoseconds; every one is a finite decimal of milliseconds.
DURATIONS_NS = [
    0,
    1,
    999_999,
    1_000_000,
    7_250_000,
    12_345_678,
    50_000_000,
    100_000_000,
    150_000_000,
    333_333_333,
    1_000_000_000,
    5_000_000_000,
    30_000_000_000,
    86_400_000_000_000,
]
SIZES = [0, 1, 512, 1_048_575, 1_048_576, 1_500_000, 52_428_800, 1_073_741_824, 123_456_789_012]


def lines():
    yield "# operation\tduration_ns\tbytes\trounded_usd"
    for operation in OPERATIONS:
        for duration_ns in DURATIONS_NS:
            for size in SIZES:
                duration_ms = duration_ns / 1_000_000
                rounded = CostCalculator.calculate_span_cost(Span(operation, duration_ms, size))
                yield f"{operation}\t{duration_ns}\t{size}\t{rounded:.6f}"


if __name__ == "__main__":
    text = "".join(line + "\n" for line in lines())
    if "--check" in sys.argv:
        committed = pathlib.Path(__file__).with_suffix(".tsv").read_text()
        sys.exit(0 if text == committed else "price_golden.tsv differs from the script's output")
    sys.stdout.write(text)
