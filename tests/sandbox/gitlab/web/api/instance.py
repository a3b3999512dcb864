"""The instance: version and settings."""

from __future__ import annotations

from typing import Any

from ..core import settings
from ..core.errors import ApiError
from .call import Call, route

REVISION = "standin"


def version(call: Call) -> dict[str, str]:
    """Version of the package, and a revision that says what it is."""
    call.user("read_user", "ai_features")
    return {"version": call.config.version, "revision": REVISION}


def metadata(call: Call) -> dict[str, Any]:
    """As `version`, with the edition."""
    return version(call) | {"enterprise": False, "kas": {"enabled": False, "externalUrl": None, "version": None}}


def get_settings(call: Call) -> dict[str, Any]:
    """All settings; for administrators."""
    call.admin()
    return {"id": 1} | settings.read(call.connection)


def put_settings(call: Call) -> dict[str, Any]:
    """Change settings. Unknown names are left out."""
    call.admin()
    known: dict[str, Any] = {}
    for name, default in settings.DEFAULTS.items():
        if name not in call.params:
            continue
        if isinstance(default, bool):
            known[name] = call.flag(name)
        elif isinstance(default, int):
            known[name] = call.integer(name)
        elif isinstance(default, list):
            known[name] = call.words(name)
        elif default is None and not isinstance(call.params[name], str):
            known[name] = call.params[name]  # A number or a word: it has no default that would tell.
        else:
            known[name] = call.text(name)
    if not call.params:
        names = ", ".join(settings.DEFAULTS)
        raise ApiError(400, {"error": f"{names} are missing, at least one parameter must be provided"})
    settings.write(call.connection, known)
    return {"id": 1} | settings.read(call.connection)


routes = [
    *route("/version", GET=version),
    *route("/metadata", GET=metadata),
    *route("/application/settings", GET=get_settings, PUT=put_settings),
]
