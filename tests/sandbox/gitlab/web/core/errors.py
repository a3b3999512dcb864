"""Error responses of the API, in GitLab's formats."""

from __future__ import annotations

from typing import Any


class ApiError(Exception):
    """A status code, the body that goes with it, and headers if there are any."""

    def __init__(self, status: int, body: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        super().__init__(f"{status} {body}")
        self.status = status
        self.body = body
        self.headers = headers


def unauthorized() -> ApiError:
    """No token, or one that nobody has."""
    return ApiError(401, {"message": "401 Unauthorized"})


def forbidden(reason: str | None = None) -> ApiError:
    """The user may not."""
    return ApiError(403, {"message": f"403 Forbidden - {reason}" if reason else "403 Forbidden"})


def not_found(what: str | None = None) -> ApiError:
    """There is no such thing, or the user may not know that there is."""
    return ApiError(404, {"message": f"404 {what} Not Found" if what else "404 Not Found"})


def missing(*names: str) -> ApiError:
    """Required parameters were not given."""
    return ApiError(400, {"error": ", ".join(f"{name} is missing" for name in names)})


def invalid(name: str, reason: str = "is invalid") -> ApiError:
    """A parameter of the wrong form."""
    return ApiError(400, {"error": f"{name} {reason}"})


def rejected(field: str, *reasons: str, status: int = 400) -> ApiError:
    """A value that a record can not have."""
    return ApiError(status, {"message": {field: list(reasons)}})


def invalid_token(description: str) -> ApiError:
    """A token that was good once."""
    return ApiError(401, {"error": "invalid_token", "error_description": description})


def insufficient_scope(scopes: list[str]) -> ApiError:
    """A good token for something else."""
    return ApiError(
        403,
        {
            "error": "insufficient_scope",
            "error_description": "The request requires higher privileges than provided by the access token.",
            "scope": " ".join(scopes),
        },
    )
