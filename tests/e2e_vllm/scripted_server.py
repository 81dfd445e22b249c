"""The application of `vllm serve` over the scripted core, and clients that ask it by ASGI: no port, no process, no model."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from vllm.entrypoints.launchers.api_server.app_state import init_app_state
from vllm.entrypoints.launchers.app import build_app
from vllm.utils.argparse_utils import FlexibleArgumentParser

try:
    from vllm.entrypoints.common.cli_args import make_arg_parser
except ImportError:  # vLLM 0.32
    from vllm.entrypoints.launchers.cli_args import make_arg_parser

from tests.e2e_vllm.scripted_core import ScriptedCore, scripted


class Client:
    """One HTTP request by ASGI: `answer` is what came, and `leave` closes the connection."""

    def __init__(self, app: Any, path: str, body: dict[str, Any], headers: dict[str, str]) -> None:
        self.status = 0
        self.answer = b""
        self._body: dict[str, Any] | None = {
            "type": "http.request",
            "body": json.dumps(body).encode(),
            "more_body": False,
        }
        self._left = asyncio.Event()
        given = {"content-type": "application/json", **headers}
        scope = {
            "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1", "method": "POST",
            "scheme": "http", "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "",
            "headers": [(name.encode(), value.encode()) for name, value in given.items()],
            "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2),
        }  # fmt: skip
        self.served = asyncio.create_task(app(scope, self._receive, self._send))

    def leave(self) -> None:
        """Close the connection."""
        self._left.set()

    async def _receive(self) -> dict[str, Any]:
        if self._body is not None:
            body, self._body = self._body, None
            return body
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            return
        self.answer += message.get("body", b"")
        if not message.get("more_body", False):
            self.leave()  # the server says so after every answer, too


@asynccontextmanager
async def serving(model: Path) -> AsyncIterator[tuple[Any, ScriptedCore]]:
    """The application as `vllm serve` builds it."""
    given = ["--model", str(model), "--served-model-name", "tiny", "--return-tokens-as-token-ids"]
    args = make_arg_parser(FlexibleArgumentParser()).parse_args(given)
    with scripted(model) as (engine, core):
        tasks = ("generate",)
        app = build_app(args, tasks, engine.model_config)  # type: ignore[arg-type]
        await init_app_state(engine, app.state, args, tasks)  # type: ignore[arg-type]
        yield app, core
