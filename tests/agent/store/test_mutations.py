"""Messages that were changed at random but still parse: kept or left out, never a fault of ours."""

import random
import re
from pathlib import Path

import pytest
from agent.store import otlp
from agent.store.opened import opened
from google.protobuf import json_format

from otel_agent.receiver.intake import Refused, from_json, from_protobuf
from otel_agent.store.sink import Message, Signal

NOW = 1_800_000_000.0
ROUNDS = 400


def _whole(signal: Signal) -> Message:
    attributes = {"gen_ai.usage.input_tokens": 5, "list": [1, {"x": b"y"}], "gen_ai.operation.name": "chat", "f": 1.5}
    if signal == "traces":
        message = otlp.one_span(NOW, attributes=attributes)
        otlp.span_of(message).events.add(name="e", attributes=otlp.pairs(attributes))
        otlp.span_of(message).links.add(trace_id=b"t" * 16, span_id=b"s" * 8)
        return message
    if signal == "logs":
        return otlp.one_log(NOW, {"a": [1, "b"]}, trace_id=b"t" * 16, attributes=attributes)
    whole = otlp.gauge("g", [(NOW, 1.0)], attributes=attributes)
    for other in (otlp.counter("c", [(NOW, 1.0)]), otlp.histogram("h", [(NOW, [1, 2, 3, 4])])):
        whole.MergeFrom(other)
    metrics = whole.resource_metrics[0].scope_metrics[0].metrics
    ns = round(NOW * 1e9)
    exponential = metrics.add(name="e").exponential_histogram.data_points.add(time_unix_nano=ns, count=3, scale=2)
    exponential.positive.bucket_counts.extend([1, 2])
    summary = metrics.add(name="s").summary.data_points.add(time_unix_nano=ns, count=3, sum=float("inf"))
    summary.quantile_values.add(quantile=0.5, value=2)
    exemplar = metrics[0].gauge.data_points[0].exemplars.add(time_unix_nano=ns, as_double=1)
    exemplar.trace_id, exemplar.span_id = b"t" * 16, b"s" * 8
    return whole


@pytest.mark.parametrize("signal", ["traces", "metrics", "logs"])
def test_what_parses_is_kept_or_left_out(tmp_path: Path, signal: Signal, caplog: pytest.LogCaptureFixture) -> None:
    dice = random.Random(7)
    sound = _whole(signal).SerializeToString()
    parsed = 0
    with opened(tmp_path, clock=lambda: NOW, points_s=0.1) as it:
        answers = []
        for _ in range(ROUNDS):
            body = bytearray(sound)
            for _ in range(dice.randint(1, 4)):
                body[dice.randrange(len(body))] = dice.choice((0, 1, 0x7F, 0x80, 0xFF, dice.randrange(256)))
            try:
                message = from_protobuf(signal, bytes(body))
            except Refused:
                continue
            parsed += 1
            answers.append(it.send(signal, message))
        assert all(answer.result(10) >= 0 for answer in answers)
        assert it.keep("logs", otlp.one_log(NOW)) == 0
        it.history.latest(["g", "c", "h", "e", "s"], max_age_s=1e6)
        it.history.requests(since_s=0, until_s=9e9)
        it.history.logs(since_s=0, until_s=9e9, limit=1000)
    assert parsed > ROUNDS / 10
    assert caplog.text == ""


@pytest.mark.parametrize("signal", ["traces", "metrics", "logs"])
def test_changed_json_is_taken_or_refused(signal: Signal) -> None:
    dice = random.Random(7)
    text = json_format.MessageToJson(_whole(signal), indent=None)
    sound = re.sub(r'"(traceId|spanId)": "[^"]*"', r'"\1": "74657374"', text).encode()
    from_json(signal, sound)
    refused = 0
    for _ in range(ROUNDS):
        body = bytearray(sound)
        body[dice.randrange(len(body))] = dice.choice(b'0"{}[]:,x-\x00\xff')
        try:
            from_json(signal, bytes(body))
        except Refused:
            refused += 1
    assert ROUNDS / 10 < refused < ROUNDS
