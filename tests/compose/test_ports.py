"""Ports of the native stack: read from settings, and a taken one is named with the setting that moves it."""

import socket

import pytest

from compose.native import ports


def test_ports_are_those_of_the_table_and_moved_by_their_settings() -> None:
    assert ports.load({}).prometheus == 23001
    assert ports.load({"STACK_PROMETHEUS_PORT": " 9090 ", "STACK_LOKI_PORT": ""}) == ports.Ports(prometheus=9090)


def test_every_wrong_setting_is_told_at_once() -> None:
    with pytest.raises(ports.StackError) as failed:
        ports.load({"STACK_PROMETHEUS_PORT": "many", "STACK_TEMPO_PORT": "70000", "STACK_LOKI_PORT": "4317"})
    assert str(failed.value).splitlines() == [
        "STACK_PROMETHEUS_PORT='many' is no port",
        "STACK_TEMPO_PORT='70000' is no port",
        "port 4317 is given to two services",
    ]


def test_a_taken_port_is_named_with_the_setting_that_moves_it() -> None:
    chosen = ports.free()
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", chosen.loki))
        holder.listen()
        ports.check_free(chosen, frozenset({"prometheus", "alertmanager"}))
        with pytest.raises(
            ports.StackError, match=rf"^port {chosen.loki} \(Loki\) is taken: set STACK_LOKI_PORT to another$"
        ):
            ports.check_free(chosen, frozenset({"loki", "prometheus"}))


def test_free_ports_are_all_different() -> None:
    chosen = vars(ports.free()).values()
    assert len(set(chosen)) == len(chosen)
