"""Network interfaces and sockets, from net/dev and net/sockstat of the machine's own network namespace.

Counted are interfaces with a device behind them. Loopback, veth, bridges, bonds and tunnels are left out: their bytes stay inside the
machine, or pass a device as well. Where no interface has a device, as inside a container, all that are not such by name count.
"""

import re

from otel_agent.sources.host.files import link_target
from otel_agent.sources.host.snapshot import Interface

_INSIDE = re.compile(
    r"lo\Z|veth|docker|br-|virbr|cni|flannel|cali|cilium|lxc|tun|tap|dummy|ifb|bond|team|vxlan|wg|kube|sit|gre|ip6|tunl|nodelocaldns"
)
_SOCKETS = re.compile(rb"^(TCP|TCP6|UDP|UDP6): inuse (\d+)(?: orphan \d+ tw (\d+))?", re.MULTILINE)


def parse_interfaces(content: bytes | None) -> tuple[Interface, ...]:
    """Return every interface of net/dev; a damaged line is left out."""
    found = []
    for line in (content or b"").splitlines():
        name, colon, rest = line.rpartition(b":")
        words = rest.split()
        if not colon or len(words) < 16:
            continue
        try:
            numbers = [int(word) for word in words]
        except ValueError:
            continue
        found.append(Interface(name.strip().decode("utf-8", "replace"), *numbers[0:4], *numbers[8:12]))
    return tuple(found)


def outward(interfaces: tuple[Interface, ...], sys: str) -> tuple[Interface, ...]:
    """Return the interfaces that lead out of the machine."""
    targets = {interface.name: link_target(f"{sys}/class/net/{interface.name}") for interface in interfaces}
    physical = tuple(one for one in interfaces if (target := targets[one.name]) and "/virtual/" not in target)
    return physical or tuple(one for one in interfaces if not _INSIDE.match(one.name))


def rate(before: tuple[Interface, ...], now: tuple[Interface, ...], elapsed_s: float, field: str) -> float | None:
    """Return the growth of one counter per second, over the interfaces present in both readings whose counter did not restart."""
    past = {interface.name: getattr(interface, field) for interface in before}
    grown = [
        getattr(one, field) - past[one.name]
        for one in now
        if one.name in past and getattr(one, field) >= past[one.name]
    ]
    return sum(grown) / elapsed_s if grown and elapsed_s > 0 else None


def sockets(sockstat: bytes | None, sockstat6: bytes | None) -> tuple[int | None, int | None, int | None]:
    """Return TCP sockets in use, TCP connections in TIME_WAIT (of both IP versions), and UDP sockets in use."""
    found = {match[1]: match for match in _SOCKETS.finditer((sockstat or b"") + b"\n" + (sockstat6 or b""))}
    tcp, udp = found.get(b"TCP"), found.get(b"UDP")

    def both(first: re.Match[bytes] | None, second: bytes) -> int | None:
        return None if first is None else int(first[2]) + (int(found[second][2]) if second in found else 0)

    return both(tcp, b"TCP6"), None if tcp is None or tcp[3] is None else int(tcp[3]), both(udp, b"UDP6")
