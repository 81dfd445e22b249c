"""On whose behalf a call is made: conversation, session, user, agent, prompt, and the LiteLLM proxy's key and team.

Read from where users of LiteLLM and its proxy put them, and from the W3C baggage that is allow-listed
(OTEL_LLM_BAGGAGE_ATTRIBUTES); what a call says itself wins over baggage. Nothing is made up: session ids that LiteLLM
mints and its name for the holder of the master key are left out.

What an application says of its own users stays as it says it. In the proxy, users, key aliases and teams are those of
other people, so all of them are recorded as pseudonyms, and left out where no key for these is configured.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from opentelemetry import baggage

from otel_llm import semconv
from otel_llm.pseudonyms import read_pseudonyms
from otel_llm.records import Value
from otel_llm.settings import Settings

_MAX_CHARACTERS: Final = 256
_NOTHING: Final[Mapping[str, Any]] = {}
_GENERATED: Final = "litellm_session_id_generated"  # beside a session id that the proxy minted
_MASTER: Final = "default_user_id"  # what LiteLLM calls the holder of the master key
_PLACES: Final = frozenset(
    (
        "metadata",
        "litellm_metadata",
        "litellm_params",
        "extra_body",
        "extra_headers",
        "proxy_server_request",
        "user",
        "litellm_session_id",
        "conversation",
        "prompt",
        "prompt_id",
        "prompt_version",
    )
)
"""The arguments that are looked into."""

_CONVERSATION: Final = ("conversation_id", "thread_id")
_SESSION: Final = ("session_id", "litellm_session_id")
_USER: Final = ("trace_user_id", "user_id")
_AGENT_ID: Final = ("agent_id",)
_AGENT_NAME: Final = ("agent_name",)
_PROMPT: Final = ("prompt_name", "prompt_id")
_KEY_ALIAS: Final = ("user_api_key_alias",)
_TEAM: Final = ("user_api_key_team_alias", "user_api_key_team_id")
_END_USER: Final = ("user_api_key_end_user_id",)
_KEY_USER: Final = ("user_api_key_user_id",)


def read_identity(arguments: Mapping[str, Any], settings: Settings) -> dict[str, Value]:
    """Read the span attributes that say on whose behalf a call is made, from its arguments by name and from baggage."""
    found: dict[str, Value] = {}
    given = not _PLACES.isdisjoint(arguments)
    carried = baggage.get_all() if settings.baggage_attributes else _NOTHING
    if not given and not carried:
        return found
    places = _metadata(arguments) if given else []
    request = arguments.get("proxy_server_request")
    request = request if isinstance(request, dict) else None
    headers = _headers(arguments, request)

    session = _text(arguments.get("litellm_session_id")) or _first(places, _SESSION)
    if session is None and headers:
        session = _text(headers.get("x-litellm-session-id")) or _text(headers.get("langfuse_session_id"))
    if session is not None and any(_GENERATED in place for place in places):
        session = None
    user = _text(arguments.get("user")) or _first(places, _USER)
    if user is None and request is not None:
        user = _text(headers.get("langfuse_trace_user_id")) or _first(places, _END_USER)
    # A session is LiteLLM's word for a conversation; its own telemetry says so as well.
    _put(found, semconv.CONVERSATION_ID, _id(arguments.get("conversation")) or _first(places, _CONVERSATION) or session)
    _put(found, semconv.SESSION_ID, session)
    _put(found, semconv.USER_ID, user)
    _put(found, semconv.AGENT_ID, _first(places, _AGENT_ID))
    _put(found, semconv.AGENT_NAME, _first(places, _AGENT_NAME))
    prompt, version = _prompt(arguments, places)
    _put(found, semconv.PROMPT_NAME, prompt)
    _put(found, semconv.PROMPT_VERSION, version)
    if carried:
        for name in settings.baggage_attributes:
            if name not in found:
                _put(found, name, _text(carried.get(name)))
    if request is not None:
        _hide(found, places, settings)
    return found


def _hide(found: dict[str, Value], places: list[Mapping[str, Any]], settings: Settings) -> None:
    names = {
        semconv.USER_ID: found.pop(semconv.USER_ID, None) or _first(places, _KEY_USER),
        semconv.KEY_ALIAS: _first(places, _KEY_ALIAS),
        semconv.TEAM: _first(places, _TEAM),
    }
    pseudonyms = read_pseudonyms(settings)
    if pseudonyms is None:
        return
    for attribute, name in names.items():
        if isinstance(name, str) and name != _MASTER:
            found[attribute] = pseudonyms.of(name)


def _metadata(arguments: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    # Every dictionary that callers and the proxy put names into, the one that wins first.
    places: list[Mapping[str, Any]] = []
    for holder in (arguments, arguments.get("litellm_params"), arguments.get("extra_body")):
        if not isinstance(holder, dict | Mapping):  # the cheaper one is asked first
            continue
        for name in ("litellm_metadata", "metadata"):
            metadata = holder.get(name)
            if isinstance(metadata, dict) and metadata:
                places.append(metadata)
                # What the proxy's caller gave, where the proxy uses the dictionary for its own names.
                if isinstance(asked := metadata.get("requester_metadata"), dict) and asked:
                    places.append(asked)
    return places


def _headers(arguments: Mapping[str, Any], request: Mapping[str, Any] | None) -> Mapping[str, Any]:
    # What the proxy was sent, or what a caller sends to one. Most of it the proxy itself translates into metadata.
    headers = arguments.get("extra_headers") if request is None else request.get("headers")
    return headers if isinstance(headers, dict | Mapping) else _NOTHING


def _prompt(arguments: Mapping[str, Any], places: list[Mapping[str, Any]]) -> tuple[str | None, str | None]:
    """Tell name and version of a managed prompt: LiteLLM's arguments, the Responses API's object, Langfuse's metadata."""
    name, version = _text(arguments.get("prompt_id")), arguments.get("prompt_version")
    if name is None and isinstance(prompt := arguments.get("prompt"), dict):
        name, version = _text(prompt.get("id")), prompt.get("version")
    if name is None:
        for place in places:
            prompt = place.get("prompt")
            name = _first((place,), _PROMPT) or (None if prompt is None else _text(_part(prompt, "name")))
            if name is not None:
                version = place.get("prompt_version") or _part(prompt, "version")
                break
        else:
            return None, None
    # Prompt stores count versions.
    is_count = isinstance(version, int) and not isinstance(version, bool)
    return name, str(version) if is_count else _text(version)


def _part(prompt: object, name: str) -> object:
    # A dictionary, or an object of Langfuse's.
    return prompt.get(name) if isinstance(prompt, dict) else getattr(prompt, name, None)


def _id(value: object) -> str | None:
    # The Responses API takes a conversation by its id, or as an object with one.
    return _text(value.get("id") if isinstance(value, dict) else value)


def _first(places: Sequence[Mapping[str, Any]], names: tuple[str, ...]) -> str | None:
    for place in places:
        for name in names:
            value = place.get(name)
            if isinstance(value, str) and value:
                return value
    return None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _put(found: dict[str, Value], attribute: str, value: str | None) -> None:
    if value is not None:
        found[attribute] = value[:_MAX_CHARACTERS]
