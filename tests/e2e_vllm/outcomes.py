"""A table of calls of vLLM over scripted engines, and what each gives, as plain values that can be compared: see `test_no_harm`.

What an outcome is: the result or the exception, down to types, fields and causes; what the engine was asked; the caller's
parameters, context and environment afterwards.
"""

import asyncio
import inspect
import os
import re
from collections.abc import Callable, Mapping
from contextvars import copy_context
from typing import Any

from opentelemetry import context as otel_context
from vllm import PoolingParams, SamplingParams
from vllm.v1.metrics.stats import RequestStateStats

from tests.e2e_vllm.calls_offline import OFFLINE
from tests.e2e_vllm.calls_served import ENGINE, SERVER, World
from tests.e2e_vllm.calls_statistics import STATISTICS

DEADLINE_S = 3.0  # of a call that takes some milliseconds

Row = Callable[[World], Any]
TABLE: Mapping[str, Row] = {
    f"{kind}: {name}": row
    for kind, rows in {"offline": OFFLINE, "engine": ENGINE, "server": SERVER, "stats": STATISTICS}.items()
    for name, row in rows.items()
}

_CLOCK = re.compile(rb'"created":\d+')
_RANDOM = re.compile(r"-([0-9a-f]{16}|[0-9a-f]{8})(?=-beam|$)")  # what vLLM puts behind the id it was given


def facts(thing: Any) -> Any:
    """Take an object apart into plain values that can be compared."""
    if isinstance(thing, bytes):
        return _CLOCK.sub(b'"created":0', thing)
    if isinstance(thing, str):
        return _RANDOM.sub("", thing)
    if thing is None or isinstance(thing, int | float | type):
        return thing
    if isinstance(thing, dict):
        return {key: facts(value) for key, value in thing.items()}
    if isinstance(thing, list | tuple):
        return [type(thing), *map(facts, thing)]
    if isinstance(thing, BaseException):
        return [type(thing), str(thing), facts(list(thing.args)), facts(thing.__cause__)]
    if isinstance(thing, SamplingParams | PoolingParams):
        return repr(thing)
    if isinstance(thing, RequestStateStats):
        return type(thing)  # times
    if hasattr(thing, "tolist"):
        return thing.tolist()
    if hasattr(thing, "__dict__"):
        return [type(thing), {name: facts(value) for name, value in vars(thing).items()}]
    return type(thing)


def _request(request: Any) -> list[Any]:
    of = (
        request.prompt_token_ids,
        request.sampling_params,
        request.pooling_params,
        request.trace_headers,
        request.priority,
    )
    return [facts(request.request_id), facts(request.external_req_id), *map(facts, of)]


async def _outcome(row: Row, world: World) -> Any:
    await world.renew()
    environment, current, context = dict(os.environ), otel_context.get_current(), copy_context()
    try:
        came = row(world)
        came = facts(await came if inspect.isawaitable(came) else came)
    except (Exception, asyncio.CancelledError) as error:
        came = facts(error)
    cores = world.core, world.pooling_core
    return {
        "came": came,
        "asked": [_request(request) for core in cores for request in core.added],
        "aborted": [facts(one) for core in cores for one in core.aborted],
        "context": otel_context.get_current() is current,
        "variables": {
            variable.name for variable, value in copy_context().items() if context.get(variable) is not value
        },
        "environment": dict(os.environ) == environment,
    }


def outcome(name: str, world: World, loop: asyncio.AbstractEventLoop) -> Any:
    """Tell what a row of the table gives in a world."""
    return loop.run_until_complete(asyncio.wait_for(_outcome(TABLE[name], world), DEADLINE_S))
