"""Clients that go away before they have their answer: the engine stops working for them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.types import Receive

from otel_agent.simulate.live import Call, LiveEngine


@asynccontextmanager
async def while_there(live: LiveEngine, call: Call, receive: Receive) -> AsyncIterator[None]:
    """Abort a call when its client goes, and when what stands in here ends before it."""
    watching = asyncio.create_task(_watch(live, call, receive))
    try:
        yield
    finally:
        watching.cancel()
        live.abandon(call)  # nothing is left of it, unless this was cut short


async def _watch(live: LiveEngine, call: Call, receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    live.abandon(call)
