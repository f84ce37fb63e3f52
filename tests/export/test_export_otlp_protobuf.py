"""OTLP as the protocol's own definition reads it: protobuf's JSON parser, with OpenTelemetry's messages, refuses every
field, type and enumeration that the protocol does not have."""

import json

import pytest

from workbench.export import export
from workbench.trace.loader import load

trace_pb2 = pytest.importorskip("opentelemetry.proto.trace.v1.trace_pb2", reason="needs opentelemetry-proto")
json_format = pytest.importorskip("google.protobuf.json_format")


def parsed(run, tmp_path):
    """(resource's attributes, span) of each span. Protobuf reads bytes as base64, and OTLP writes ids as hexadecimal:
    they are read here, as a collector does, and each must have the length that the protocol demands."""
    document = json.loads(export(run, "otlp", tmp_path / "spans.json").read_bytes())
    ids = []
    for resource in document["resourceSpans"]:
        for scope in resource["scopeSpans"]:
            for span in scope["spans"]:
                ids.append([bytes.fromhex(span.pop(key, "")) for key in ("traceId", "spanId", "parentSpanId")])
    message = json_format.ParseDict(document, trace_pb2.TracesData())
    found = [
        (values_of(resource.resource.attributes), span)
        for resource in message.resource_spans for scope in resource.scope_spans for span in scope.spans
    ]  # fmt: skip
    for (_, span), own in zip(found, ids, strict=True):
        span.trace_id, span.span_id, span.parent_span_id = own
        assert len(span.trace_id) == 16 and any(span.trace_id)
        assert len(span.span_id) == 8 and any(span.span_id)
        assert len(span.parent_span_id) in (0, 8)
    return found


def values_of(attributes):
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}


def agrees(found, events):
    """Every event once, with its process, name, times and step; and every parent that is named is there."""
    told = sorted(
        (resource["service.name"], span.name, span.start_time_unix_nano, span.end_time_unix_nano)
        for resource, span in found
    )
    end_ns = events["start_ns"] + events["duration_ns"]
    columns = (events["process"].astype(str), events["name"].astype(str), events["start_ns"], end_ns)
    assert told == sorted(zip(*(column.tolist() for column in columns), strict=True))
    steps = sorted(values_of(span.attributes)["workbench.step"] for _, span in found)
    assert steps == sorted(events["step"].tolist())
    ids = {(span.trace_id, span.span_id) for _, span in found}
    assert len(ids) == len(found)
    nested = [span for _, span in found if span.parent_span_id]
    assert bool(nested) == (events["parent_id"] >= 0).any()
    assert all((span.trace_id, span.parent_span_id) in ids for span in nested)


def test_our_own_run(golden_run, tmp_path):
    events = golden_run.events
    agrees(parsed(golden_run, tmp_path), events[events["lane"].astype(str).str.endswith("/spans")])


@pytest.mark.parametrize("name", ["gloo_cpu_rank34of300.json.gz", "triton_a100.json.gz"])
def test_public_profiles(real_data, tmp_path, name):
    run = load(real_data / "traces" / name)
    agrees(parsed(run, tmp_path), run.events)
