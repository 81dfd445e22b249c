"""What the server says when it does not do what was asked: vLLM's words, types and statuses."""

from typing import Any

TYPES = {
    400: "BadRequestError",
    404: "NotFoundError",
    422: "UnprocessableEntityError",
    500: "InternalServerError",
    501: "NotImplementedError",
    503: "ServiceUnavailableError",
}


class Refused(Exception):
    """A request that is answered with an error."""

    def __init__(self, message: str, status: int = 400, param: str | None = None, type: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self._param = param
        self._type = type or TYPES.get(status, "InternalServerError" if status >= 500 else "BadRequestError")

    def body(self) -> dict[str, Any]:
        """Return the JSON of the answer."""
        return {"error": {"message": str(self), "type": self._type, "param": self._param, "code": self.status}}


def invalid(param: str, message: str, value: object = None) -> Refused:
    """Return the refusal of a parameter."""
    shown = "" if value is None else f", value={value}"
    return Refused(f"{message} (parameter={param}{shown})", param=param)


def missing(param: str) -> Refused:
    """Return the refusal of a body that lacks a field."""
    return Refused(
        f"1 validation error:\n  {{'type': 'missing', 'loc': 'body.{param}', 'msg': 'Field required'}}",
        param=f"body.{param}",
        type="Bad Request",
    )


def failed() -> Refused:
    """Return what a request gets that the engine failed with."""
    return Refused("Internal server error", 500)
