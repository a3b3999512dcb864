"""Settings of the instance that the stand-in supports, with their defaults."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from . import db

DEFAULTS: dict[str, Any] = json.loads((Path(__file__).parent / "application_settings.json").read_text())


def read(connection: db.Connection) -> dict[str, Any]:
    """All settings."""
    kept = {row["name"]: json.loads(row["value"]) for row in connection.execute("SELECT * FROM application_settings")}
    return DEFAULTS | kept


def write(connection: db.Connection, values: dict[str, Any]) -> None:
    """Change settings; names that are not kept here are left out, as GitLab leaves out those that it does not know."""
    connection.executemany(
        "INSERT INTO application_settings VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        [(name, json.dumps(value)) for name, value in values.items() if name in DEFAULTS],
    )
