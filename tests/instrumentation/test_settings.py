"""The instrumentation's own settings: what is understood, and that nonsense stops nobody."""

import pytest

from otel_llm.settings import SETTINGS, Settings, read_settings


def test_defaults_are_those_of_the_rows() -> None:
    assert read_settings({}) == Settings(capture_error_message=False)
    assert [row.default for row in SETTINGS] == [False]


@pytest.mark.parametrize(("text", "value"), [("true", True), (" ON ", True), ("1", True), ("no", False), ("", False)])
def test_words_for_yes_and_no_are_understood(text: str, value: bool) -> None:
    assert read_settings({"OTEL_LLM_CAPTURE_ERROR_MESSAGE": text}) == Settings(capture_error_message=value)


def test_nonsense_is_named_once_and_the_default_holds(caplog: pytest.LogCaptureFixture) -> None:
    assert read_settings({"OTEL_LLM_CAPTURE_ERROR_MESSAGE": "perhaps"}) == Settings()
    assert caplog.messages == ["OTEL_LLM_CAPTURE_ERROR_MESSAGE='perhaps' is neither true nor false; using false"]
