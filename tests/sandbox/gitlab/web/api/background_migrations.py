"""Batched background migrations, for administrators."""

from __future__ import annotations

from typing import Any

from ..core import background_migrations as core
from ..core import db
from ..core.errors import ApiError
from .call import Call, route


def index(call: Call) -> list[dict[str, Any]]:
    """The latest twenty, newest first."""
    call.admin()
    rows = call.connection.execute("SELECT * FROM batched_background_migrations ORDER BY id DESC LIMIT 20").fetchall()
    return [_view(call, row) for row in rows]


def show(call: Call) -> dict[str, Any]:
    """One of them."""
    return _view(call, _find(call))


def pause(call: Call) -> dict[str, Any]:
    """Stop an active one after its batch."""
    return _change(call, core.ACTIVE, core.PAUSED, "You can pause only `active` batched background migrations.")


def resume(call: Call) -> dict[str, Any]:
    """Continue a paused one. A failed one is not resumed: its batches have to be retried."""
    return _change(call, core.PAUSED, core.ACTIVE, "You can resume only `paused` batched background migrations.")


def _change(call: Call, before: int, after: int, refusal: str) -> dict[str, Any]:
    row = _find(call)
    if row["status"] != before:
        raise ApiError(422, {"message": refusal})
    call.connection.execute("UPDATE batched_background_migrations SET status = ? WHERE id = ?", (after, row["id"]))
    return _view(call, _find(call))


def _find(call: Call) -> db.Row:
    call.admin()
    row = db.one(
        call.connection, "SELECT * FROM batched_background_migrations WHERE id = ?", call.request.path_params["id"]
    )
    if row is None:
        raise ApiError(404, {"message": "404 Not found"})
    return row


def _view(call: Call, row: db.Row) -> dict[str, Any]:
    return {
        "id": row["id"],
        "job_class_name": row["job_class_name"],
        "table_name": row["table_name"],
        "column_name": row["column_name"],
        "status": core.NAMES[row["status"]],
        "progress": core.progress(call.connection, row),
        "created_at": row["created_at"],
    }


routes = [
    *route("/admin/batched_background_migrations", GET=index),
    *route("/admin/batched_background_migrations/{id:int}", GET=show),
    *route("/admin/batched_background_migrations/{id:int}/pause", PUT=pause),
    *route("/admin/batched_background_migrations/{id:int}/resume", PUT=resume),
]
