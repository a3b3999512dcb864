"""The file in a form. Read here because its content may be anything, and stays as it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..core.errors import ApiError


def file_of(content_type: str, body: bytes, unnamed: str) -> tuple[str, bytes]:
    """Name and content of the one file of a form; `unnamed` is its name if it has none."""
    _, _, boundary = content_type.partition("boundary=")
    mark = b"--" + boundary.strip('"').encode()
    for part in body.split(b"\r\n" + mark) if not body.startswith(mark) else (b"\r\n" + body).split(b"\r\n" + mark):
        head, gap, content = part.partition(b"\r\n\r\n")
        disposition = _parameters(head.decode(errors="replace"))
        if gap and disposition.get("name") == "file":
            return disposition.get("filename") or unnamed, content
    raise ApiError(400, {"error": "file is missing"})


def _parameters(head: str) -> Mapping[str, str]:
    found: dict[str, Any] = {}
    for line in head.splitlines():
        if line.lower().startswith("content-disposition:"):
            for piece in line.split(";")[1:]:
                key, _, value = piece.strip().partition("=")
                found[key] = value.strip('"')
    return found
