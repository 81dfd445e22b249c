"""The ways in which a reader of a stream can be done with it, for streams of every kind."""

import asyncio
import threading
from typing import Any

import pytest
from instrumentation.streaming import Driver


def begun(driver: Driver) -> Any:
    """A stream of which two chunks have been read."""
    stream = driver.open("plain")
    for _ in range(2):
        driver.next(stream)
    return stream


def exhausted(driver: Driver) -> Any:
    stream = driver.open("plain")
    driver.all(stream)
    assert driver.all(stream) == []  # and asked again
    return stream


def broken_off(driver: Driver) -> None:
    begun(driver)


def collected(driver: Driver) -> None:
    cycle: list[Any] = [begun(driver)]
    cycle.append(cycle)


def never_read(driver: Driver) -> None:
    driver.open("plain")


def closed(driver: Driver) -> None:
    if not driver.can_close:
        pytest.skip("LiteLLM's object has no method for it")
    stream = begun(driver)
    driver.close(stream)
    driver.close(stream)


def dropped(driver: Driver) -> None:
    stream = driver.open("drop")
    if driver.kind.name.startswith("messages over"):  # LiteLLM makes a last event of the error, or nothing at all
        assert b"message_stop" not in b"".join(driver.all(stream))
        return
    with pytest.raises(Exception, match=r"Hosted_vllm|OpenAI|peer closed|not completed"):
        driver.all(stream)


def cancelled(driver: Driver) -> None:
    if not driver.is_async:
        pytest.skip("there are no tasks here")
    stream = driver.open("slow")

    async def main() -> None:
        first = asyncio.Event()

        async def read() -> None:
            async for _ in stream:
                first.set()

        task = asyncio.create_task(read())
        await first.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    driver.run(main())


def elsewhere(driver: Driver) -> None:
    stream = driver.open("plain")
    thread = threading.Thread(target=driver.all, args=(stream,))
    thread.start()
    thread.join(20)
