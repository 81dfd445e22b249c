"""The instrumentation's own settings: what is understood, and that nonsense stops nobody."""

import pytest

from otel_llm.settings import SETTINGS, CaptureContent, Settings, Targets, read_settings


def test_defaults_are_those_of_the_rows_and_nothing_leaves_by_default() -> None:
    settings = read_settings({})
    assert settings == Settings()
    assert (settings.capture_content, settings.capture_error_message) == (CaptureContent.NO_CONTENT, False)
    assert (settings.propagate_to, settings.ask_usage) == (Targets.SELF_HOSTED, Targets.SELF_HOSTED)
    assert len({row.variable for row in SETTINGS}) == len(SETTINGS)


@pytest.mark.parametrize(("text", "value"), [("true", True), (" ON ", True), ("1", True), ("no", False), ("", False)])
def test_words_for_yes_and_no_are_understood(text: str, value: bool) -> None:
    assert read_settings({"OTEL_LLM_CAPTURE_ERROR_MESSAGE": text}) == Settings(capture_error_message=value)


def test_choices_lists_and_numbers_are_understood() -> None:
    assert read_settings(
        {
            "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "span_and_event",
            "OTEL_LLM_PROPAGATE": "Never",
            "OTEL_LLM_SELF_HOSTED_HOSTS": "gpu.example.com, *.lab.example.com,gpu.example.com,",
            "OTEL_LLM_MAX_METRIC_VALUES": "7",
        }
    ) == Settings(
        capture_content=CaptureContent.SPAN_AND_EVENT,
        propagate_to=Targets.NEVER,
        self_hosted_hosts=("gpu.example.com", "*.lab.example.com"),
        max_metric_values=7,
    )


def test_the_older_form_of_the_content_switch_means_the_span() -> None:
    variable = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
    assert read_settings({variable: "true"}).capture_content is CaptureContent.SPAN_ONLY
    assert read_settings({variable: "false"}).capture_content is CaptureContent.NO_CONTENT


@pytest.mark.parametrize(
    ("variable", "text", "said"),
    [
        ("OTEL_LLM_CAPTURE_ERROR_MESSAGE", "perhaps", "is neither true nor false; using false"),
        ("OTEL_LLM_MAX_METRIC_VALUES", "-1", "is not a whole number above 0; using 100"),
        ("OTEL_LLM_ASK_USAGE", "sometimes", "is none of self_hosted, always, never; using self_hosted"),
    ],
)
def test_nonsense_is_named_once_and_the_default_holds(
    caplog: pytest.LogCaptureFixture, variable: str, text: str, said: str
) -> None:
    assert read_settings({variable: text}) == Settings()
    assert caplog.messages == [f"{variable}={text!r} {said}"]
