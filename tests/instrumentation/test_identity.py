"""On whose behalf: every place where LiteLLM's users and its proxy put names, baggage, and what is never told in the proxy."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from opentelemetry import baggage
from opentelemetry import context as otel_context

from otel_llm.litellm.read.identity import read_identity
from otel_llm.pseudonyms import Pseudonyms
from otel_llm.settings import Settings, read_settings

PLAIN = {"model": "openai/gpt-4o", "messages": [{"role": "user", "content": "hi"}], "temperature": 0.5}
SETTINGS = Settings()
KEYED = Settings(hmac_key="key")
OF = Pseudonyms(b"key").of


def read(settings: Settings = SETTINGS, **arguments: Any) -> dict[str, Any]:
    return read_identity({**PLAIN, **arguments}, settings)


def session(value: str) -> dict[str, str]:
    return {"session.id": value, "gen_ai.conversation.id": value}


@contextmanager
def carrying(**pairs: object) -> Iterator[None]:
    context = otel_context.get_current()
    for name, value in pairs.items():
        context = baggage.set_baggage(name.replace("__", "."), value, context)
    token = otel_context.attach(context)
    yield
    otel_context.detach(token)


def test_nothing_is_told_where_nothing_was_given() -> None:
    assert read() == {}
    assert read(metadata=None, litellm_metadata={}, user=None, litellm_params=None, extra_body=None) == {}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        # sessions and conversations
        ({"litellm_session_id": "s"}, session("s")),
        ({"metadata": {"session_id": "s"}}, session("s")),
        ({"litellm_metadata": {"session_id": "s"}}, session("s")),
        ({"litellm_params": {"metadata": {"session_id": "s"}}}, session("s")),
        ({"extra_body": {"metadata": {"session_id": "s"}}}, session("s")),
        ({"extra_body": {"litellm_metadata": {"session_id": "s"}}}, session("s")),
        ({"extra_headers": {"x-litellm-session-id": "s"}}, session("s")),
        ({"extra_headers": {"langfuse_session_id": "s"}}, session("s")),
        ({"metadata": {"conversation_id": "c"}}, {"gen_ai.conversation.id": "c"}),
        ({"metadata": {"thread_id": "c"}}, {"gen_ai.conversation.id": "c"}),
        ({"conversation": "conv_1"}, {"gen_ai.conversation.id": "conv_1"}),
        ({"conversation": {"id": "conv_1"}}, {"gen_ai.conversation.id": "conv_1"}),
        (
            {"metadata": {"conversation_id": "c", "session_id": "s"}},
            {"gen_ai.conversation.id": "c", "session.id": "s"},
        ),
        # people
        ({"user": "u"}, {"user.id": "u"}),
        ({"metadata": {"trace_user_id": "u"}}, {"user.id": "u"}),
        ({"metadata": {"user_id": "u"}}, {"user.id": "u"}),
        ({"user": "u", "metadata": {"trace_user_id": "v"}}, {"user.id": "u"}),
        # agents
        ({"metadata": {"agent_name": "a", "agent_id": "1"}}, {"gen_ai.agent.name": "a", "gen_ai.agent.id": "1"}),
        # prompts
        (
            {"prompt_id": "greeting", "prompt_version": 3},
            {"gen_ai.prompt.name": "greeting", "gen_ai.prompt.version": "3"},
        ),
        ({"prompt": {"id": "pmpt_1", "version": "2"}}, {"gen_ai.prompt.name": "pmpt_1", "gen_ai.prompt.version": "2"}),
        (
            {"metadata": {"prompt_name": "greeting", "prompt_version": "v2"}},
            {"gen_ai.prompt.name": "greeting", "gen_ai.prompt.version": "v2"},
        ),
        (
            {"metadata": {"prompt": {"name": "greeting", "version": 7, "prompt": "Hello {{name}}"}}},
            {"gen_ai.prompt.name": "greeting", "gen_ai.prompt.version": "7"},
        ),
        ({"prompt_version": "2"}, {}),  # of which prompt, nobody knows
        ({"prompt": "Once upon a time"}, {}),  # a text completion's
    ],
)
def test_what_a_call_says_of_itself_is_told(arguments: dict[str, Any], expected: dict[str, str]) -> None:
    assert read(**arguments) == expected


def test_the_prompt_object_of_langfuse_is_read() -> None:
    class TextPromptClient:
        name, version = "greeting", 7

    assert read(metadata={"prompt": TextPromptClient()}) == {
        "gen_ai.prompt.name": "greeting",
        "gen_ai.prompt.version": "7",
    }


@pytest.mark.parametrize("value", [1, True, 1.5, b"bytes", "", None, ["s"], {"id": 1}, object()])
def test_what_is_not_text_is_left_out(value: Any) -> None:
    metadata = dict.fromkeys(("session_id", "trace_user_id", "agent_name", "prompt_name", "conversation_id"), value)

    assert read(user=value, litellm_session_id=value, conversation=value, prompt_id=value, metadata=metadata) == {}


@pytest.mark.parametrize("value", [1, "text", b"bytes", ["session_id"], object()])
def test_places_that_hold_something_else_are_passed_over(value: Any) -> None:
    places = ("metadata", "litellm_metadata", "litellm_params", "extra_body", "extra_headers", "proxy_server_request")

    assert read(**dict.fromkeys(places, value)) == {}


def test_texts_are_cut() -> None:
    assert read(user="u" * 1000) == {"user.id": "u" * 256}


def test_a_session_that_the_proxy_made_up_is_left_out() -> None:
    assert read(litellm_session_id="s", metadata={"session_id": "s", "litellm_session_id_generated": True}) == {}


def test_baggage_is_read_by_the_allow_list_and_the_call_itself_wins() -> None:
    with carrying(session__id="from-baggage", user__id="ulla", tenant="acme"):
        assert read() == {"session.id": "from-baggage", "user.id": "ulla"}
        assert read(user="uwe")["user.id"] == "uwe"
        assert read(read_settings({"OTEL_LLM_BAGGAGE_ATTRIBUTES": "tenant"})) == {"tenant": "acme"}
        assert read(read_settings({"OTEL_LLM_BAGGAGE_ATTRIBUTES": ","})) == {}
    with carrying(user__id=7, session__id="s" * 1000):
        assert read() == {"session.id": "s" * 256}


IN_PROXY: dict[str, Any] = {
    "proxy_server_request": {"url": "http://proxy/v1/chat/completions", "headers": {}, "body": {}},
    "metadata": {
        "user_api_key": "5f4dcc3b5aa765d61d8327deb882cf99",
        "user_api_key_alias": "laptop",
        "user_api_key_team_alias": "research",
        "user_api_key_team_id": "team-1",
        "user_api_key_user_id": "ulla@example.com",
        "user_api_key_end_user_id": None,
        "agent_id": None,
        "requester_metadata": {"session_id": "s", "agent_name": "planner"},
    },
}
OPEN_NAMES = {**session("s"), "gen_ai.agent.name": "planner"}


def test_in_the_proxy_key_team_and_user_have_pseudonyms() -> None:
    assert read(KEYED, **IN_PROXY) == {
        **OPEN_NAMES,
        "otel_llm.key_alias": OF("laptop"),
        "otel_llm.team": OF("research"),
        "user.id": OF("ulla@example.com"),
    }


def test_in_the_proxy_without_a_key_they_are_left_out() -> None:
    assert read(**IN_PROXY) == OPEN_NAMES


@pytest.mark.parametrize(
    "user",
    [
        {"user": "u"},
        {"metadata": {**IN_PROXY["metadata"], "user_api_key_end_user_id": "u"}},
        {"metadata": {**IN_PROXY["metadata"], "trace_user_id": "u"}},
        {"proxy_server_request": {"headers": {"langfuse_trace_user_id": "u"}}},
    ],
)
def test_in_the_proxy_the_end_user_comes_before_the_keys_user_and_has_a_pseudonym(user: dict[str, Any]) -> None:
    assert read(KEYED, **{**IN_PROXY, **user})["user.id"] == OF("u")
    assert "user.id" not in read(**{**IN_PROXY, **user})


def test_in_the_proxy_a_user_from_baggage_has_a_pseudonym_too() -> None:
    with carrying(user__id="ulla"):
        assert read(KEYED, **IN_PROXY)["user.id"] == OF("ulla")
        assert "user.id" not in read(**IN_PROXY)


def test_the_team_is_told_by_its_id_where_it_has_no_other_name_and_the_master_key_has_no_user() -> None:
    metadata = {"user_api_key_alias": None, "user_api_key_team_id": "team-1", "user_api_key_user_id": "default_user_id"}

    assert read(KEYED, **{**IN_PROXY, "metadata": metadata}) == {"otel_llm.team": OF("team-1")}


def test_routes_where_the_proxy_keeps_its_names_apart_are_read_as_well() -> None:
    """Messages, Responses and others: `metadata` is the caller's there, and goes to the provider."""
    arguments = {
        "proxy_server_request": {"headers": {}},
        "litellm_metadata": {"user_api_key_alias": "laptop", "session_id": "s"},
        "metadata": {"user_id": "u"},
    }

    assert read(KEYED, **arguments) == {**session("s"), "user.id": OF("u"), "otel_llm.key_alias": OF("laptop")}
