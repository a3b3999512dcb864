"""Artifacts and caches: a project's files as archives. Links are stored as links and never followed."""

from __future__ import annotations

import fnmatch
import gzip
import os
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

from .coordinator import CREATED, Coordinator, UnreachableError
from .payload import Payload, Variables
from .sources import UMASK, inside

Say = Callable[[str], None]


class ArchiveError(Exception):
    """An archive cannot be made, sent or fetched; the message says why."""


def wanted(when: object, *, success: bool) -> bool:
    """Whether something with this `when:` is made now."""
    return when == "always" or (when == "on_failure" if not success else when in ("", None, "on_success"))


def find(folder: Path, patterns: Sequence[str], excluded: Sequence[str] = ()) -> list[Path]:
    """Files, links and folders that the patterns name, and all below such folders."""
    found: dict[Path, None] = {}
    for pattern in patterns:
        clean = os.path.normpath(pattern.strip().removeprefix(f"{folder}/"))
        if clean.startswith(("..", "/")):
            continue
        for path in folder.glob(clean) if clean != "." else [folder]:
            for one in [path, *_below(path)]:
                found.setdefault(one)
    return [path for path in found if path != folder and not _is_excluded(path.relative_to(folder), excluded)]


def _below(path: Path) -> Iterator[Path]:
    if path.is_dir() and not path.is_symlink():
        for base, folders, files in os.walk(path):
            yield from (Path(base) / name for name in (*folders, *files))


def _is_excluded(path: Path, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatch(str(path), pattern.replace("**/", "*")) for pattern in patterns)


def make_zip(folder: Path, paths: Sequence[Path], target: IO[bytes]) -> None:
    """Pack paths of a folder."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False) as archive:
        for path in paths:
            name = str(path.relative_to(folder))
            if path.is_symlink():
                entry = zipfile.ZipInfo(name)
                entry.external_attr = (stat.S_IFLNK | 0o777) << 16
                archive.writestr(entry, str(path.readlink()))
            elif path.is_dir() or path.is_file():
                archive.write(path, name)


def unpack_zip(source: IO[bytes], folder: Path) -> None:
    """Unpack into a folder; nothing gets out of it."""
    before = os.umask(UMASK)
    try:
        with zipfile.ZipFile(source) as archive:
            for entry in archive.infolist():
                _unpack(archive, entry, folder)
    except zipfile.BadZipFile as error:
        raise ArchiveError(f"archive: {error}") from None
    finally:
        os.umask(before)


def _unpack(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, folder: Path) -> None:
    mode = entry.external_attr >> 16
    parent = inside(folder, str(Path(entry.filename).parent))
    target = parent / Path(entry.filename).name
    if entry.is_dir():
        target.mkdir(parents=True, exist_ok=True)
        return
    parent.mkdir(parents=True, exist_ok=True)
    if target.is_symlink() or target.exists():
        target.unlink()
    if stat.S_ISLNK(mode):
        target.symlink_to(archive.read(entry).decode())
        return
    with archive.open(entry) as source, target.open("wb") as file:
        shutil.copyfileobj(source, file)
    target.chmod((mode & 0o777) or 0o666)


def download_artifacts(coordinator: Coordinator, payload: Payload, folder: Path, say: Say) -> None:
    """Fetch the artifacts of earlier jobs. `ArchiveError` when one cannot be had."""
    for dependency in payload.dependencies:
        if not dependency.get("artifacts_file"):
            continue
        name, number = dependency.get("name"), int(dependency["id"])
        say(f"Downloading artifacts for {name} ({number})...")
        with tempfile.TemporaryFile() as file:
            try:
                status = coordinator.download_artifacts(number, str(dependency["token"]), file)
            except UnreachableError as error:
                raise ArchiveError(f"Downloading artifacts from coordinator... {error}") from None
            if status != 200:
                raise ArchiveError(f"Downloading artifacts from coordinator... status {status} id={number}")
            file.seek(0)
            unpack_zip(file, folder)
        say(f"Downloading artifacts from coordinator... ok  id={number}")


def upload_artifacts(
    coordinator: Coordinator, payload: Payload, variables: Variables, folder: Path, say: Say, *, success: bool
) -> None:
    """Store what the job's `artifacts:` name. `ArchiveError` when the server refuses."""
    for entry in payload.artifacts:
        if wanted(entry.get("when"), success=success):
            _upload(coordinator, payload, variables, folder, entry=entry, say=say)


def _upload(
    coordinator: Coordinator, payload: Payload, variables: Variables, folder: Path, *, entry: dict[str, Any], say: Say
) -> None:
    patterns = [variables.expand(str(path)) for path in entry.get("paths") or []]
    paths = find(folder, patterns, [variables.expand(str(path)) for path in entry.get("exclude") or []])
    say("Uploading artifacts...")
    for pattern in patterns:
        matches = len(find(folder, [pattern]))
        say(
            f"{pattern}: found {matches} matching artifact files and directories"
            if matches
            else f"WARNING: {pattern}: no matching files. Ensure that the artifact path is relative to the working "
            f"directory ({variables.get('CI_PROJECT_DIR')})"
        )
    if not paths:
        say("ERROR: No files to upload")
        return
    kind, form = str(entry.get("artifact_type") or "archive"), str(entry.get("artifact_format") or "zip")
    name = variables.expand(str(entry.get("name") or "")) or ("artifacts" if kind == "archive" else kind)
    suffix = {"zip": ".zip", "gzip": ".gz"}.get(form, "")
    about = {"artifact_format": form, "artifact_type": kind}
    about |= {"expire_in": str(entry["expire_in"])} if entry.get("expire_in") else {}
    with tempfile.TemporaryFile() as file:
        if form == "zip":
            make_zip(folder, paths, file)
        else:
            _concatenate(paths, file, packed=form == "gzip")
        file.seek(0)
        try:
            reply = coordinator.upload_artifacts(payload.id, payload.token, name + suffix, file, about)
        except UnreachableError as error:
            raise ArchiveError(f'Uploading artifacts as "{kind}" to coordinator... {error}') from None
    if reply.status != CREATED:
        raise ArchiveError(f'Uploading artifacts as "{kind}" to coordinator... {reply.text}')
    say(f'Uploading artifacts as "{kind}" to coordinator... 201 Created  id={payload.id}')


def _concatenate(paths: Sequence[Path], target: IO[bytes], *, packed: bool) -> None:
    regular = [path for path in paths if path.is_file() and not path.is_symlink()]
    if not packed:
        target.write(regular[0].read_bytes() if regular else b"")
        return
    for path in regular:
        target.write(gzip.compress(path.read_bytes()))


def cache_file(caches: Path, payload: Payload, key: str) -> Path:
    """Where a cache is in a folder of caches."""
    return inside(caches, f"{payload.project}/{quote(key, safe='')}/cache.zip")


def cache_keys(payload: Payload, variables: Variables) -> list[str]:
    """Every key that a job may look for or save."""
    keys = [
        variables.expand(str(key))
        for cache in payload.cache
        for key in (cache.get("key") or "default", *(cache.get("fallback_keys") or []))
    ]
    return list(dict.fromkeys([*keys, *_fallback(variables, lambda _: None)]))


def restore_caches(payload: Payload, variables: Variables, folder: Path, caches: Path, say: Say) -> None:
    """Unpack what an earlier job of the project left under the same key."""
    for cache in payload.cache:
        if cache.get("policy") == "push":
            continue
        keys = [str(cache.get("key") or "default"), *map(str, cache.get("fallback_keys") or [])]
        for key in [*map(variables.expand, keys), *_fallback(variables, say)]:
            say(f"Checking cache for {key}...")
            file = cache_file(caches, payload, key)
            if file.is_file():
                with file.open("rb") as source:
                    unpack_zip(source, folder)
                say("Successfully extracted cache")
                break
            say("WARNING: file does not exist")


def _fallback(variables: Variables, say: Say) -> list[str]:
    """The key that a variable names. It must not be one of those that belong to protected refs."""
    key = variables.get("CACHE_FALLBACK_KEY")
    if key.rstrip(". ").endswith("-protected"):
        say(f'WARNING: CACHE_FALLBACK_KEY "{key}" not allowed to end in "-protected"')
        return []
    return [key] if key else []


def save_caches(payload: Payload, variables: Variables, folder: Path, caches: Path, say: Say, *, success: bool) -> None:
    """Keep what the job's `cache:` names."""
    for cache in payload.cache:
        if cache.get("policy") == "pull" or not wanted(cache.get("when"), success=success):
            continue
        key = variables.expand(str(cache.get("key") or "default"))
        paths = find(folder, [variables.expand(str(path)) for path in cache.get("paths") or []])
        say(f"Creating cache {key}...")
        if not paths:
            say("WARNING: no matching files")
            continue
        target = cache_file(caches, payload, key)
        target.parent.mkdir(parents=True, exist_ok=True)
        unfinished = target.with_suffix(".new")
        with unfinished.open("wb") as file:
            make_zip(folder, paths, file)
        unfinished.replace(target)
        say("Created cache")
