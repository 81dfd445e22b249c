"""Where a server's telemetry goes, and over which protocol, as the standard variables decide it for each who reads them.

Three read them, each in its own way: the launcher's SDK (gRPC unless told), the plug-in's own provider in a process without
an SDK (told, else by the port), and vLLM's tracing (an address of its own, and of the protocols only the one for traces).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import SplitResult, urlsplit

from otel_agent.checks.packages import LAUNCHER
from otel_agent.checks.servers import Server

Signal = Literal["METRICS", "TRACES"]
GRPC, HTTP = "grpc", "http/protobuf"
BY_PORT: Final = {4317: GRPC, 4318: HTTP}


@dataclass(frozen=True)
class Wire:
    """One way out: the address as given ("" is the default one), the protocol in force, and whether the address is for this signal alone."""

    address: str
    protocol: str
    is_own: bool = False

    @property
    def port(self) -> int | None:
        """The port it names."""
        try:
            return _split(self.address).port
        except ValueError:
            return None

    @property
    def shown(self) -> str:
        """Scheme, host and port, printable: an address can hold a password or a token, and another user's signs."""
        try:
            url = _split(self.address or f"http://localhost:{4317 if self.protocol == GRPC else 4318}")
            host, port = url.hostname or "", url.port
        except ValueError:
            return "an address that is none"
        safe = "".join(sign for sign in host if sign.isascii() and (sign.isalnum() or sign in ".-:_"))[:255]
        scheme = f"{url.scheme}://" if url.scheme in ("http", "https") else ""
        return f"{scheme}{f'[{safe}]' if ':' in safe else safe}" + (f":{port}" if port else "")

    @property
    def is_crossed(self) -> bool:
        """Whether the port is, by convention, the other protocol's."""
        return self.is_known and BY_PORT.get(self.port or 0, self.protocol) != self.protocol

    @property
    def is_known(self) -> bool:
        """Whether the SDK for Python speaks the protocol."""
        return self.protocol in (GRPC, HTTP)

    @property
    def other(self) -> str:
        """The protocol that it is not."""
        return HTTP if self.protocol == GRPC else GRPC

    @property
    def lacks_path(self) -> bool:
        """Whether an address for one signal, which is used as it stands, lacks the path that OTLP over HTTP has for it."""
        try:
            return self.is_own and self.protocol == HTTP and _split(self.address).path in ("", "/")
        except ValueError:
            return False


def is_launched(server: Server) -> bool:
    """Tell whether it was started by `opentelemetry-instrument`, which leaves its folder on PYTHONPATH."""
    return any(place.rstrip("/").endswith(LAUNCHER) for place in _value(server, "PYTHONPATH").split(":"))


def exporters(server: Server, signal: Signal) -> tuple[str, ...]:
    """Return the exporters asked for; the launcher's default is OTLP, as the plug-in's is."""
    told = _value(server, f"OTEL_{signal}_EXPORTER").lower() or "otlp"
    return tuple(name.strip() for name in told.split(",") if name.strip())


def wire(server: Server, signal: Signal) -> Wire | None:
    """Return where a signal goes by OTLP; None where it does not."""
    names = exporters(server, signal)
    address, is_own = _address(server, signal)
    told = _value(server, f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL") or _value(server, "OTEL_EXPORTER_OTLP_PROTOCOL")
    if is_launched(server):
        if "otlp_proto_http" in names:
            return Wire(address, HTTP, is_own)
        if "otlp_proto_grpc" in names:
            return Wire(address, GRPC, is_own)
        return Wire(address, told or GRPC, is_own) if "otlp" in names else None
    if signal == "TRACES" or server.kind != "vllm" or names != ("otlp",):
        return None  # without the launcher only the plug-in sends, and only metrics
    if not address and not _value(server, "OTEL_METRICS_EXPORTER"):
        return None
    plain = Wire(address, HTTP, is_own)
    if told.lower() in (GRPC, HTTP):
        return Wire(address, told.lower(), is_own)
    return plain if told else Wire(address, BY_PORT.get(plain.port or 0, HTTP), is_own)


def own_tracing(server: Server) -> Wire | None:
    """Return where vLLM's own spans go, where that is on."""
    address = server.options.get("--otlp-traces-endpoint", "")
    if not address:
        return None
    return Wire(address, (server.environ or {}).get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", GRPC), is_own=True)


def _address(server: Server, signal: Signal) -> tuple[str, bool]:
    own = _value(server, f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT")
    return (own, True) if own else (_value(server, "OTEL_EXPORTER_OTLP_ENDPOINT"), False)


def _value(server: Server, name: str) -> str:
    environ: Mapping[str, str] = server.environ or {}
    return environ.get(name, "").strip()


def _split(address: str) -> SplitResult:
    return urlsplit(address if "//" in address else f"//{address}")
