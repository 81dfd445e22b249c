"""The live stream: one loop asks history when something new was stored, and every open page gets the same events.

Events carry ids. A page that comes back with the last id it saw gets what it missed, or `reset` where that is no longer known. A
page that cannot keep up is let go and counted; it comes back by itself and asks anew. What the events say is left to the routes.
"""

import asyncio
import contextlib
import itertools
import logging
import secrets
from collections import OrderedDict, deque
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.types import Message, Receive, Scope, Send

from otel_agent.api import records, stored
from otel_agent.api.answer import encode
from otel_agent.api.params import Asked
from otel_agent.api.refusal import Refusal
from otel_agent.api.view import View
from otel_agent.history.model import HistoryError, RequestRow

CLIENTS = 32
QUEUE = 64  # events that wait for one client
KEPT = 256  # events that can be asked for again
SEEN = 5_000  # requests remembered as already told
HEARTBEAT_S = 15.0
SEND_S = 20.0  # how long a client may take to accept one event
PAUSE_S = 0.5  # at least this long between two rounds, however much arrives
BACK_S = 3_600.0  # how far back a request that has only now arrived may have begun
ROWS = 100
RETRY_MS = 2_000

News = Callable[[Callable[[Collection[str]], None]], Callable[[], None]]  # called with a listener; returns how to end
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Event:
    """One event as it goes over the wire; what is current state needs no replay, since the next one replaces it."""

    number: int
    frame: bytes
    replay: bool


class _Client:
    def __init__(self) -> None:
        self.queue: asyncio.Queue[Event | None] = asyncio.Queue(QUEUE + 1)
        self.lagging = False

    def offer(self, event: Event) -> bool:
        if self.queue.qsize() >= QUEUE:
            self.lagging = True
        else:
            self.queue.put_nowait(event)
        return not self.lagging


class Live:
    """The stream of one application; all of it runs in the server's event loop, begun by the first client and ended with the last."""

    def __init__(self, view: View, news: News | None, *, heartbeat_s: float = HEARTBEAT_S) -> None:
        self._view, self._news, self._heartbeat_s = view, news, heartbeat_s
        self._clients: set[_Client] = set()
        self._numbers = itertools.count(1)
        self._run = secrets.token_hex(4)  # ids of an earlier run mean nothing to this one
        self._kept: deque[Event] = deque(maxlen=KEPT)
        self._seen: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._rounds: asyncio.Task[None] | None = None
        self.refused = self.dropped = 0

    def counts(self) -> dict[str, int]:
        """Return how many pages are open, were refused, and were let go since they could not keep up."""
        return {"clients": len(self._clients), "refused": self.refused, "dropped": self.dropped}

    async def answer(self, request: Request) -> "Stream":
        """Answer /api/live; raises Refusal (503) without a store or with too many open pages."""
        _ = self._view.stored
        if len(self._clients) >= CLIENTS:
            self.refused += 1
            raise Refusal(
                503,
                f"{CLIENTS} pages are open already",
                "close one; the page goes on by asking every few seconds",
                {"retry-after": "30"},
            )
        client = _Client()
        running = self._rounds is not None and not self._rounds.done()
        for event in self._missed(request.headers.get("last-event-id"), running=running):
            client.queue.put_nowait(event)
        self._clients.add(client)
        if not running:
            self._rounds = asyncio.create_task(self._go_on())
        return Stream(self, client, self._heartbeat_s)

    def leave(self, client: _Client) -> None:
        """Forget a client; the last one ends the loop."""
        self._clients.discard(client)
        if not self._clients and self._rounds is not None:
            self._rounds.cancel()
            self._rounds = None

    def _missed(self, last_id: str | None, *, running: bool) -> list[Event]:
        """Return what a page that saw `last_id` has missed, or a reset where nobody watched meanwhile; a new page has missed nothing."""
        if last_id is None:
            return []
        run, _, number = last_id.partition("-")
        forgotten = not number.isdigit() or (self._kept and int(number) < self._kept[0].number - 1)
        if run != self._run or forgotten or not running:
            return [self._event("reset", None, replay=False)]
        return [event for event in self._kept if event.replay and event.number > int(number)][-QUEUE:]

    def _event(self, name: str, content: Any, *, replay: bool) -> Event:
        number = next(self._numbers)
        frame = b"id: %s-%d\nevent: %s\ndata: %s\n\n" % (self._run.encode(), number, name.encode(), encode(content))
        return Event(number, frame, replay)

    def _tell(self, name: str, content: Any, *, replay: bool = False) -> None:
        event = self._event(name, content, replay=replay)
        self._kept.append(event)
        for client in list(self._clients):
            if not client.offer(event):
                self.dropped += 1
                self._clients.discard(client)
                client.queue.put_nowait(None)  # the one place kept free

    async def _go_on(self) -> None:
        """Tell what is new until cancelled; a question that fails is logged once and asked again at the next turn."""
        loop, wake = asyncio.get_running_loop(), asyncio.Event()
        fresh: set[str] = set()

        def heard(signals: Collection[str]) -> None:
            fresh.update(signals)
            wake.set()

        def hear(signals: Collection[str]) -> None:  # called from the store's own thread
            with contextlib.suppress(RuntimeError):  # the loop has ended, and with it the pages
                loop.call_soon_threadsafe(heard, signals)

        end = self._news(hear) if self._news else lambda: None
        failed = ""
        self._seen.clear()
        try:
            turn = {"metrics", "traces"}
            while True:
                try:
                    await self._round(turn)
                    failed = ""
                except HistoryError as error:
                    if str(error) != failed:
                        logger.warning("live stream: %s", error)
                    failed = str(error)
                await asyncio.sleep(PAUSE_S)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(wake.wait(), self._view.settings.interval_s)
                wake.clear()
                turn = set(fresh) if fresh else {"metrics", "traces"}
                fresh.clear()
        except asyncio.CancelledError:
            raise
        except Exception:
            logger.exception("the live stream has ended; pages ask every few seconds instead")
            for client in list(self._clients):
                client.queue.put_nowait(None)
        finally:
            end()

    async def _round(self, signals: Collection[str]) -> None:
        view = self._view
        asked = Asked({"host": None}, {}, view.clock())
        if "metrics" in signals:
            self._tell("points", await run_in_threadpool(stored.now, view, asked))
        else:
            self._tell("health", await run_in_threadpool(stored.sources, view, asked))
        if "traces" in signals:
            rows = await run_in_threadpool(self._newest, asked.now_s)
            if new := self._new(rows):
                self._tell("requests", [records.request(row) for row in new], replay=True)

    def _newest(self, now_s: float) -> list[RequestRow]:
        return self._view.stored.requests(since_s=now_s - BACK_S, until_s=now_s + 60, limit=ROWS)

    def _new(self, rows: list[RequestRow]) -> list[RequestRow]:
        """Return the rows that were not told before, newest first.

        The first look tells all: a page that has read its list a moment earlier would miss what came in between, and knows rows by id.
        """
        new = [row for row in rows if (row.trace_id, row.span_id) not in self._seen]
        for row in new:
            self._seen[(row.trace_id, row.span_id)] = None
        while len(self._seen) > SEEN:
            self._seen.popitem(last=False)
        return new


class Stream:
    """The endless answer to one page; every send has a deadline, silence is broken by heartbeats."""

    def __init__(self, live: Live, client: _Client, heartbeat_s: float) -> None:
        self._live, self._client, self._heartbeat_s = live, client, heartbeat_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send events until the page goes, lags or the server stops."""
        gone = asyncio.create_task(_gone(receive))
        try:
            headers = [
                (b"content-type", b"text/event-stream; charset=utf-8"),
                (b"cache-control", b"no-store"),
                (b"x-accel-buffering", b"no"),
            ]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            if scope["method"] != "HEAD":
                await self._events(send, gone)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        except TimeoutError:
            self._live.dropped += 1
        finally:
            self._live.leave(self._client)
            gone.cancel()

    async def _events(self, send: Send, gone: "asyncio.Task[None]") -> None:
        await _body(send, b"retry: %d\n\n" % RETRY_MS)
        while not gone.done():
            waiting = asyncio.ensure_future(self._client.queue.get())
            await asyncio.wait((waiting, gone), timeout=self._heartbeat_s, return_when=asyncio.FIRST_COMPLETED)
            if not waiting.done():
                waiting.cancel()
                if not gone.done():
                    await _body(send, b": still here\n\n")
                continue
            event = waiting.result()
            if event is None:
                return
            await _body(send, event.frame)


async def _body(send: Send, chunk: bytes) -> None:
    message: Message = {"type": "http.response.body", "body": chunk, "more_body": True}
    await asyncio.wait_for(send(message), SEND_S)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
