"""Images of a project when it gets another path: the registry has to be able to follow."""

from __future__ import annotations

from . import db
from .config import Config
from .errors import ApiError
from .registry_client import RegistryApi, RegistryClient

_PROJECT = "Cannot rename or delete project because it contains container registry tags!"
_TRANSFER = "Project cannot be transferred, because image tags are present in its container registry"
_ELSEWHERE = (
    "Project cannot be transferred to a different top-level namespace, because image tags are present in its container "
    "registry"
)
_GROUP = (
    "Cannot update the path because there are projects under this group that contain Docker images in their Container "
    "Registry. Please remove the images from your projects first and try again."
)


def rename(connection: db.Connection, config: Config, project: db.Row, name: str) -> None:
    """Rename the images of a project to `name`, its path in the same namespace; to be called before the project's.

    Raises:
        ApiError: there are images, and the registry cannot rename them.
    """
    if _has_tags(connection, config, project):
        api = _api(config)
        if not api.supported():
            raise ApiError(400, {"message": _PROJECT})
        path = project["full_path"].lower()
        reason = api.move(path, dry_run=True, name=name.lower()) or api.move(path, dry_run=False, name=name.lower())
        if reason:
            words = "Cannot rename project, the container registry path rename validation failed"
            raise ApiError(400, {"message": f"{words}: {reason}"})
    _follow(connection, project, f"{project['full_path'].rpartition('/')[0]}/{name}")


def transfer(connection: db.Connection, config: Config, project: db.Row, namespace: str) -> None:
    """Move the images of a project to another namespace; to be called before the project's.

    Raises:
        ApiError: there are images, and the registry cannot move them there.
    """
    old = project["full_path"]
    if _has_tags(connection, config, project):
        api = _api(config)
        if not api.supported():
            raise ApiError(400, {"message": _TRANSFER})
        if old.partition("/")[0].lower() != namespace.partition("/")[0].lower():
            raise ApiError(400, {"message": _ELSEWHERE})
        target = {"namespace": namespace.lower()}
        reason = api.move(old.lower(), dry_run=True, **target) or api.move(old.lower(), dry_run=False, **target)
        if reason:
            words = "Project cannot be transferred because of a container registry error"
            raise ApiError(400, {"message": f"{words}: {reason}"})
    _follow(connection, project, f"{namespace}/{project['path']}")


def delete(connection: db.Connection, config: Config, project: db.Row) -> None:
    """Delete the tags of a project that is about to be deleted."""
    rows = connection.execute("SELECT path FROM container_repositories WHERE project_id = ?", (project["id"],))
    for row in rows.fetchall() if config.registry else []:
        if config.registry:
            with RegistryClient(config, config.registry, row["path"]) as client:
                for name in client.tags():
                    client.delete_tag(name)


def refuse_rename_of_group(connection: db.Connection, config: Config, group: db.Row) -> None:
    """GitLab gives no group another path while a project in it has images, with or without the metadata database."""
    query = "SELECT * FROM projects WHERE full_path LIKE ?"
    if any(_has_tags(connection, config, row) for row in connection.execute(query, (f"{group['full_path']}/%",))):
        raise ApiError(400, {"message": {"base": [_GROUP]}})


def _api(config: Config) -> RegistryApi:
    if config.registry is None:
        raise LookupError("registry")
    return RegistryApi(config, config.registry)


def _has_tags(connection: db.Connection, config: Config, project: db.Row) -> bool:
    rows = connection.execute("SELECT path FROM container_repositories WHERE project_id = ?", (project["id"],))
    for row in rows.fetchall() if config.registry else []:
        if config.registry:
            with RegistryClient(config, config.registry, row["path"]) as client:
                if client.tags():
                    return True
    return False


def _follow(connection: db.Connection, project: db.Row, full_path: str) -> None:
    move = "UPDATE container_repositories SET path = ? || substr(path, ?) WHERE project_id = ?"
    connection.execute(move, (full_path.lower(), len(project["full_path"]) + 1, project["id"]))
