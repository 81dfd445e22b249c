"""Which servers are one's own, and what of a call's trace is sent along: decided from the host as written, never by DNS.

How it gets onto a request is left to the library's own module.
"""

import logging
import socket
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

from opentelemetry import baggage
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from .settings import Targets

TRACEPARENT: Final = "traceparent"
TRACESTATE: Final = "tracestate"
REQUEST_ID: Final = "X-Request-Id"
BAGGAGE: Final = "baggage"

_LOG = logging.getLogger(__name__)
_TRACE: Final = TraceContextTextMapPropagator()
_BAGGAGE: Final = W3CBaggagePropagator()
_SUFFIXES: Final = (".localhost", ".local", ".internal", ".svc")
_NETWORKS: Final = tuple(
    ip_network(network)
    for network in (
        "127.0.0.0/8", "::1/128",  # loopback
        "0.0.0.0/32", "::/128",  # what servers print that listen everywhere; connecting reaches this machine
        "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16",  # RFC 1918
        "fc00::/7",  # RFC 4193
        "169.254.0.0/16", "fe80::/10",  # link-local
    )
)  # fmt: skip


def self_hosted(allowed: Iterable[str] = ()) -> Callable[[str], bool]:
    """Return what tells, by host, a server of one's own; `allowed` holds further names, `*.suffix` and networks."""
    names, suffixes, networks = _parse(allowed)
    networks = (*_NETWORKS, *networks)
    suffixes = (*_SUFFIXES, *suffixes)

    @lru_cache(maxsize=1024)
    def is_self_hosted(host: str) -> bool:
        host = host.lower().removeprefix("[").removesuffix("]")
        address = _address(host)
        if address is not None:
            return any(address in network for network in networks)
        name = host.removesuffix(".")
        if name in names or name == "localhost" or name.endswith(suffixes):
            return True
        # The dot at the end of `ai.` takes it out of every search list: a name of the public root.
        return bool(host) and "." not in host and not host.isdecimal()

    return is_self_hosted


def is_target(targets: Targets, host: str, is_self_hosted: Callable[[str], bool]) -> bool:
    """Tell whether a setting of this kind means this host."""
    return targets is Targets.ALWAYS or (targets is Targets.SELF_HOSTED and is_self_hosted(host))


def trace_headers(context: Context, baggage_keys: Iterable[str] = ()) -> Mapping[str, str]:
    """Return the headers that name the span of a context, and its baggage of these keys; none without a valid span.

    A span that is not sampled is named as well, for that decision is the trace's. The request id has the form of a
    traceparent, so that a server that only keeps ids can be joined with the trace.
    """
    headers: dict[str, str] = {}
    _TRACE.inject(headers, context)
    traceparent = headers.get(TRACEPARENT)
    if traceparent is None:
        return headers
    headers[REQUEST_ID] = traceparent
    sent = Context()
    for key in baggage_keys:
        value = baggage.get_baggage(key, context)
        if value is not None:
            sent = baggage.set_baggage(key, value, sent)
    if sent:
        _BAGGAGE.inject(headers, sent)
    return headers


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(host)
    except ValueError:
        # Forms that the resolver takes for an IPv4 address: `127.1`, `0x7f000001`, `2130706433`, `0177.0.0.1`.
        try:
            return IPv4Address(socket.inet_aton(host)) if host[:1].isdecimal() else None
        except OSError:
            return None
    return getattr(address, "ipv4_mapped", None) or address


def _parse(allowed: Iterable[str]) -> tuple[frozenset[str], tuple[str, ...], tuple[IPv4Network | IPv6Network, ...]]:
    names: set[str] = set()
    suffixes: list[str] = []
    networks: list[IPv4Network | IPv6Network] = []
    for entry in allowed:
        text = entry.lower().removesuffix(".")
        try:
            networks.append(ip_network(text, strict=False))
            continue
        except ValueError:
            pass
        name = text.removeprefix("*.")
        if not name or any(character in name for character in "*/:@ "):
            _LOG.warning("OTEL_LLM_SELF_HOSTED_HOSTS: %r is no name, `*.suffix` or network and is passed over", entry)
        elif name is text or name == text:
            names.add(name)
        else:
            suffixes.append(f".{name}")
    return frozenset(names), tuple(suffixes), tuple(networks)
