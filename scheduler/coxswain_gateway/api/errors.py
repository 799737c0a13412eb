"""Errors as OpenAI's clients expect them.

APIError
├── Invalid          400, or 404 and 413 where HTTP has a word for it
├── Overloaded       429 with Retry-After
└── Unavailable      503 with Retry-After
"""

from __future__ import annotations

import math

import msgspec


class APIError(Exception):
    """An answer other than 200: HTTP status, and what goes into the `error` object."""

    kind = "internal_error"

    def __init__(self, message: str, *, status: int, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.param = param
        self.code = code
        self.headers: dict[str, str] = {}

    def body(self) -> bytes:
        """The JSON of OpenAI's error object."""
        fields = {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}
        return msgspec.json.encode({"error": fields})


class Invalid(APIError):  # noqa: N818 - read as `raise Invalid(...)`
    """The request cannot be served as it is; the message names the field and what it should be."""

    kind = "invalid_request_error"

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None, status: int = 400) -> None:
        super().__init__(message, status=status, param=param, code=code)


class Overloaded(APIError):  # noqa: N818
    """Too much is waiting already."""

    kind = "rate_limit_error"

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message, status=429, code="rate_limit_exceeded")
        self.headers["Retry-After"] = str(max(1, math.ceil(retry_after)))


class Unavailable(APIError):  # noqa: N818
    """There is nobody to serve it now."""

    kind = "service_unavailable_error"

    def __init__(self, message: str, *, code: str = "no_replica", retry_after: float = 2.0) -> None:
        super().__init__(message, status=503, code=code)
        self.headers["Retry-After"] = str(max(1, math.ceil(retry_after)))
