"""Commands of the registry that the distribution lacks; `bin/registry` calls them.

serve <config.yml> <distribution.yml> <program of the distribution>
database migrate up <config.yml>
database import [--step-one|--step-two|--step-three] <config.yml>
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

from .config import Config, ConfigurationError
from .importer import ImportFailedError, import_all, import_blobs, pre_import
from .metadata import Database, migrate, open_database
from .service import serve
from .storage import Storage, open_storage

STEPS: dict[str, tuple[str, Callable[[Database, Storage], int]]] = {
    "--step-one": ("manifests pre-imported", pre_import),
    "--pre-import": ("manifests pre-imported", pre_import),
    "--step-two": ("tags imported", import_all),
    "--all-repositories": ("tags imported", import_all),
    "--step-three": ("blobs imported", import_blobs),
    "--common-blobs": ("blobs imported", import_blobs),
}
IGNORED = ("--log-to-stdout", "-l", "--skip-post-deployment", "-s")


def bring_in(config: Config, options: list[str]) -> None:
    """Import, in the steps that the options name; without any, the first two and the third."""
    unknown = [option for option in options if option not in STEPS and option not in IGNORED]
    if unknown:
        raise ConfigurationError(f"unknown flag: {unknown[0]}")
    steps = [option for option in options if option in STEPS] or ["--step-two", "--step-three"]
    if config.database == "true" and any(STEPS[step][1] is not import_blobs for step in steps):
        raise ConfigurationError("the database must be disabled while repositories are imported")
    storage, database = open_storage(config), open_database(config)
    for step in steps:
        words, run = STEPS[step]
        print(f'level=info msg="{run(database, storage)} {words}"', flush=True)


def main(arguments: list[str]) -> int:
    """Run a command; the exit status."""
    match arguments:
        case ["serve", path, distribution, program]:
            return asyncio.run(serve(Config.load(Path(path)), Path(distribution), program))
        case ["database", "migrate", "up", *options, path] if set(options) <= set(IGNORED):
            config = Config.load(Path(path))
            print("OK: applied migrations" if migrate(config.database_file) else "OK: no migrations to apply")
        case ["database", "import", *options, path]:
            bring_in(Config.load(Path(path)), options)
        case _:
            raise ConfigurationError(f"unknown command {' '.join(arguments[:3])!r} for this stand-in of the registry")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (ConfigurationError, ChildProcessError, ImportFailedError) as refusal:
        print(f'level=fatal msg="{refusal}"', file=sys.stderr)
        sys.exit(1)
