"""Which servers count as one's own, and what of a trace they are sent."""

import logging
import time

import pytest
from opentelemetry import baggage
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, TraceState, set_span_in_context

from otel_llm.propagation import is_target, self_hosted, trace_headers
from otel_llm.settings import Targets

OWN = """
    localhost LOCALHOST localhost. vllm VLLM-0 3com gpu_01
    127.0.0.1 127.1 127.255.255.254 0.0.0.0 10.0.0.1 172.16.0.1 172.31.255.255 192.168.1.10 169.254.7.7
    ::1 [::1] fc00::1 fd12:3456::1 fe80::1 fe80::1%eth0 ::ffff:10.0.0.1 0:0:0:0:0:0:0:1 ::
    2130706433 0x7f000001 0X7F.1 0177.0.0.1 10.1
    app.localhost printer.local PRINTER.LOCAL. vllm.internal metadata.google.internal vllm.ml.svc vllm.ml.svc.cluster.local
"""
FOREIGN = """
    api.openai.com API.OPENAI.COM. openai.com. ai. example.local.com local.example.com xn--local-.com
    8.8.8.8 172.15.255.255 172.32.0.1 192.169.0.1 11.0.0.1 100.64.0.1 203.0.113.7 1.1
    2001:4860:4860::8888 [2001:db8::1] ::ffff:8.8.8.8 fec0::1
    134744072 0x08080808 010.8.8.8 99999999999 127.0.0.1.example.com 10.0.0.1.nip.io 1.2.3.4.5
    localhost.example.com evil-localhost.com vllm.svc.example.com
"""


@pytest.mark.parametrize("host", OWN.split())
def test_a_server_of_ones_own_is_known_by_its_host(host: str) -> None:
    assert self_hosted()(host)


@pytest.mark.parametrize("host", [*FOREIGN.split(), ""])
def test_every_other_host_is_foreign(host: str) -> None:
    assert not self_hosted()(host)


def test_names_suffixes_and_networks_can_be_added_to_ones_own(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        is_own = self_hosted(
            ("llm.example.com", "*.Corp.Example.", "100.64.0.0/10", "203.0.113.7", "2001:db8::/32", "http://x/v1", "*")
        )

    assert [
        host
        for host in (
            "llm.example.com", "LLM.example.com.", "a.corp.example", "b.a.corp.example", "100.100.1.1", "203.0.113.7",
            "[2001:db8::9]", "corp.example", "xllm.example.com", "evilcorp.example", "203.0.113.8", "2001:db9::1",
        )
        if is_own(host)
    ] == [
        "llm.example.com", "LLM.example.com.", "a.corp.example", "b.a.corp.example", "100.100.1.1", "203.0.113.7",
        "[2001:db8::9]",
    ]  # fmt: skip
    assert [record.args for record in caplog.records] == [("http://x/v1",), ("*",)]


def test_the_decision_asks_no_resolver_and_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(*args: object) -> None:
        raise AssertionError(args)

    for name in ("getaddrinfo", "gethostbyname", "gethostbyname_ex", "gethostbyaddr"):
        monkeypatch.setattr(f"socket.{name}", asked)
    is_own = self_hosted(("llm.example.com",))

    assert [is_own(host) for host in ("vllm", "api.openai.com", "127.1", "llm.example.com")] == [
        True,
        False,
        True,
        True,
    ]
    started = time.perf_counter()
    for _ in range(10_000):
        is_own("api.openai.com")
    assert (time.perf_counter() - started) / 10_000 < 20e-6


def test_a_setting_means_the_servers_it_names() -> None:
    hosts = ("vllm", "api.openai.com")
    is_own = self_hosted()

    assert {targets.value: [is_target(targets, host, is_own) for host in hosts] for targets in Targets} == {
        "self_hosted": [True, False],
        "always": [True, True],
        "never": [False, False],
    }


def context(flags: int = 1, state: str = "") -> Context:
    span = SpanContext(0xABC, 0xDEF, is_remote=False, trace_flags=TraceFlags(flags))
    if state:
        span = SpanContext(0xABC, 0xDEF, False, TraceFlags(flags), TraceState.from_header([state]))
    return set_span_in_context(NonRecordingSpan(span), Context())


NAMED = "00-00000000000000000000000000000abc-0000000000000def-"


def test_the_span_is_named_twice_and_its_trace_state_goes_along() -> None:
    assert trace_headers(context(state="vendor=1")) == {
        "traceparent": NAMED + "01",
        "tracestate": "vendor=1",
        "X-Request-Id": NAMED + "01",
    }


def test_a_span_that_is_not_sampled_says_so_to_the_server() -> None:
    assert trace_headers(context(flags=0)) == {"traceparent": NAMED + "00", "X-Request-Id": NAMED + "00"}


def test_without_a_span_nothing_is_sent_along() -> None:
    assert trace_headers(baggage.set_baggage("user.id", "u", Context()), ("user.id",)) == {}


def test_only_listed_baggage_goes_along() -> None:
    carried = baggage.set_baggage("user.id", "ü 1", baggage.set_baggage("secret", "s", context()))

    assert trace_headers(carried)["traceparent"] == NAMED + "01"
    assert "baggage" not in trace_headers(carried)
    assert trace_headers(carried, ("session.id", "user.id"))["baggage"] == "user.id=%C3%BC+1"
    assert "baggage" not in trace_headers(carried, ("session.id",))
