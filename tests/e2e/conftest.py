"""Fixtures over the native stack: one stack for the whole run, with a sink where traces go."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from e2e.sink import Sink
from e2e.stack import run_stack

from compose.native.ports import Ports, free
from compose.native.stack import Stack


@pytest.fixture(scope="session")
def stack_ports() -> Ports:
    return free()


@pytest.fixture(scope="session")
def traces(stack_ports: Ports) -> Iterator[Sink]:
    """What stands where Tempo or the embedded store would."""
    with Sink(grpc_port=stack_ports.store_grpc) as sink:
        yield sink


@pytest.fixture(scope="session")
def stack(stack_ports: Ports, traces: Sink, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The native stack of this run; tests that stop a server use `run_stack` for one of their own."""
    assert traces.grpc_port == stack_ports.store_grpc, "the Collector finds the sink where a store would be"
    # With a Tempo the sink gets a copy, as the embedded store would.
    tempo = {"tempo_bin": Path(os.environ["TEMPO_BIN"]), "overlays": ("store",)} if os.environ.get("TEMPO_BIN") else {}
    with run_stack(tmp_path_factory.mktemp("stack"), ports=stack_ports, **tempo) as running:
        yield running
