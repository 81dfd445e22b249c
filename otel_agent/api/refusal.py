"""A question that gets no answer: what is wrong and what the asker can do, as a status code and one JSON object."""

import json

from starlette.responses import Response


class Refusal(Exception):
    """Why a request is not answered, in words for whoever sent it."""

    def __init__(self, status: int, error: str, remedy: str = "", headers: dict[str, str] | None = None) -> None:
        super().__init__(error)
        self.status, self.error, self.remedy, self.headers = status, error, remedy, headers or {}

    def response(self) -> Response:
        """Return it as JSON: `error`, and `remedy` where there is one."""
        body = {"error": self.error, **({"remedy": self.remedy} if self.remedy else {})}
        return Response(json.dumps(body, ensure_ascii=False) + "\n", self.status, self.headers, "application/json")


def bad(error: str, remedy: str = "") -> Refusal:
    """Return the refusal of a question that cannot be understood (400)."""
    return Refusal(400, error, remedy)


def not_found(error: str, remedy: str = "") -> Refusal:
    """Return the refusal of a question about something that is not there (404)."""
    return Refusal(404, error, remedy)
