"""Whom the test's proxy knows: what a database of virtual keys would answer. LiteLLM loads it from beside its configuration."""

from typing import Any

from fastapi import HTTPException
from litellm.proxy._types import UserAPIKeyAuth

KEYS = {
    "sk-laptop": UserAPIKeyAuth(
        api_key="sk-laptop",
        key_alias="laptop-of-ulla",
        team_id="team-1",
        team_alias="research",
        user_id="ulla@example.com",
    )
}


async def check(_: Any, api_key: str) -> UserAPIKeyAuth:
    """Tell who holds a key, or refuse it."""
    if api_key not in KEYS:
        raise HTTPException(401, "no such key")
    return KEYS[api_key].model_copy()
