"""Lock files in the storage: whose metadata it belongs to. They are what keeps a registry from starting in a mode in
which it would not see the images that are there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

from .config import ConfigurationError
from .storage import REPOSITORIES, ROOT, Storage

DATABASE, FILESYSTEM = f"{ROOT}/lockfiles/database-in-use", f"{ROOT}/lockfiles/filesystem-in-use"
_CONTENT = b'{"version":1}'
_TAG = re.compile(rf"{REPOSITORIES}/(.+)/_manifests/tags/([^/]+)/current/link")
_HELP = "https://docs.gitlab.com/ee/administration/packages/container_registry_metadata_database.html"


def tags(storage: Storage) -> Iterator[tuple[str, str, str]]:
    """Tags in the legacy metadata: repository, name, digest."""
    for name, _ in storage.sizes(REPOSITORIES):
        if found := _TAG.fullmatch(name):
            yield found[1], found[2], (storage.read(name) or b"").decode()


def choose_mode(storage: Storage, enabled: Literal["true", "false", "prefer"]) -> bool:
    """Whether the metadata database is used.

    Raises:
        ConfigurationError: the storage belongs to the other mode.
    """
    database, filesystem = storage.read(DATABASE) is not None, storage.read(FILESYSTEM) is not None
    if database and filesystem:
        raise ConfigurationError(
            f"database-in-use and filesystem-in-use lockfiles present, see {_HELP}#troubleshooting"
        )
    if enabled == "false":
        if database:
            raise ConfigurationError(f"registry metadata database in use, please enable the database {_HELP}")
        return False
    if filesystem:
        if enabled == "true":
            raise ConfigurationError(
                "registry filesystem metadata in use, please import data before enabling the database, see "
                f"{_HELP}#existing-registries"
            )
        return False
    return True


def lock(storage: Storage, *, database: bool) -> None:
    """Claim the storage for a mode; without the database only once there is a tag in it."""
    name = DATABASE if database else FILESYSTEM
    if storage.read(name) is None and (database or next(tags(storage), None)):
        storage.write(name, _CONTENT)


def hand_over(storage: Storage) -> None:
    """From now on the storage belongs to the database, as the second step of an import has it."""
    storage.remove(FILESYSTEM)
    storage.write(DATABASE, _CONTENT)
