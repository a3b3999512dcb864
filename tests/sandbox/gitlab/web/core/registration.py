"""Runner registration tokens: the old way, disabled unless the settings allow it.

GitLab 19 still has them and removes them in 20.0 (`Ci::Runners::RegisterRunnerService`).
"""

from __future__ import annotations

from . import db, sealing, settings, tokens
from .config import Config
from .errors import ApiError, forbidden

#: Of the tokens of projects and groups; that of the instance has none.
PREFIX = "GR1348941"


def allowed(connection: db.Connection) -> bool:
    """Whether the settings of the instance let runners register themselves."""
    return bool(settings.read(connection)["allow_runner_registration_token"])


def token(
    connection: db.Connection, config: Config, project_id: int | None = None, namespace_id: int | None = None
) -> str | None:
    """The token of a project, a group or the instance, made when it is first asked for; none while they are off."""
    if not allowed(connection):
        return None
    row = db.one(
        connection,
        "SELECT * FROM registration_tokens WHERE project_id IS ? AND namespace_id IS ?",
        project_id,
        namespace_id,
    )
    if row is not None:
        return sealing.unseal(config, row["encrypted_token"])
    made = tokens.generate(PREFIX if project_id or namespace_id else "")
    db.insert(
        connection,
        "registration_tokens",
        project_id=project_id,
        namespace_id=namespace_id,
        token_digest=tokens.digest(made, config.db_key_base),
        encrypted_token=sealing.seal(config, made),
    )
    return made


def reset(
    connection: db.Connection, config: Config, project_id: int | None = None, namespace_id: int | None = None
) -> str:
    """A new token in the place of the old one, which is good for nothing from now on."""
    connection.execute(
        "DELETE FROM registration_tokens WHERE project_id IS ? AND namespace_id IS ?", (project_id, namespace_id)
    )
    made = token(connection, config, project_id, namespace_id)
    if made is None:
        raise forbidden()
    return made


def owner(connection: db.Connection, config: Config, text: str) -> db.Row:
    """Whose token it is: a row with `project_id` and `namespace_id`.

    Raises:
        ApiError: 410 while registration tokens are off, 403 for one that nobody has, or that the settings leave out.
    """
    if not allowed(connection):
        raise ApiError(410, {"message": "410 Gone - runner registration disallowed"})
    row = db.one(
        connection,
        "SELECT * FROM registration_tokens WHERE token_digest = ?",
        tokens.digest(text, config.db_key_base),
    )
    registrars = settings.read(connection)["valid_runner_registrars"]
    if row is None or (
        (row["project_id"] is not None and "project" not in registrars)
        or (row["namespace_id"] is not None and "group" not in registrars)
    ):
        raise forbidden("invalid token supplied")
    return row
