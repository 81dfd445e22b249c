"""However many models and tenants there are, metrics have a bounded number of series and lose nothing."""

import threading
from types import ModuleType
from typing import Any

import pytest
from instrumentation.recording import record

from otel_llm.cap import Cap


def test_the_first_values_stand_for_themselves_and_the_others_are_other() -> None:
    cap = Cap(2)
    assert [cap.of(value) for value in ("a", "b", "c", "a", "d", "b")] == ["a", "b", "other", "a", "other", "b"]


def test_the_limit_holds_under_threads() -> None:
    cap, seen = Cap(10), set()
    start = threading.Barrier(8)

    def add(number: int) -> None:
        start.wait()
        for value in range(200):
            seen.add(cap.of(f"{number}-{value}"))

    threads = [threading.Thread(target=add, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 11
    assert "other" in seen


@pytest.mark.parametrize("open_set", ["user.id", "model"])
def test_five_thousand_tenants_make_at_most_one_series_more_than_the_cap_and_sums_are_whole(
    litellm: ModuleType, monkeypatch: pytest.MonkeyPatch, open_set: str
) -> None:
    monkeypatch.setenv("OTEL_LLM_METRIC_ATTRIBUTES", "user.id")
    monkeypatch.setenv("OTEL_LLM_MAX_METRIC_VALUES", "20")
    answer = litellm.ModelResponse(model="m", choices=[])

    def completion(*_: Any, **__: Any) -> Any:
        return answer

    with record(completion=completion) as recording:
        for number in range(5_000):
            if open_set == "user.id":
                litellm.completion(model="openai/m", messages=[], user=f"tenant-{number}")
            else:
                litellm.completion(model=f"openai/m-{number}", messages=[])

    points = recording.points()["gen_ai.client.operation.duration"]
    assert len(points) == 21
    assert sum(point.count for point in points) == 5_000
    name = "user.id" if open_set == "user.id" else "gen_ai.request.model"
    assert sum(point.count for point in points if point.attributes[name] == "other") == 4_980
