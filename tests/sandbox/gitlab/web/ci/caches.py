"""Keys of job caches."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

from . import keywords
from .conditions import expand


def resolve_keys(caches: list[dict[str, Any]], read: Callable[[str], str | None]) -> list[dict[str, Any]]:
    """Caches whose keys are texts: one made of `files` becomes a digest of what is in them."""
    found = []
    for cache in caches:
        key = cache.get("key", "default")
        if isinstance(key, dict):
            contents = [read(path) for path in keywords.as_list(key.get("files"))]
            present = [text for text in contents if text is not None]
            name = hashlib.sha1("\0".join(present).encode()).hexdigest() if present else "default"  # noqa: S324 - a name
            prefix = f"{key['prefix']}-" if key.get("prefix") else ""
            key = f"{prefix}{name}"
        found.append(cache | {"key": str(key)})
    return found


def for_runner(caches: list[dict[str, Any]], values: Mapping[str, str], protected: bool | None) -> list[dict[str, Any]]:
    """Caches as a runner gets them. Those of protected refs and of maintainers are `protected`: nobody else can put
    things there (https://docs.gitlab.com/ci/caching/#cache-key-names). `None`: the project's caches are not separate.
    """
    found = []
    for number, cache in enumerate(caches):
        text = expand(cache.get("key") or "default", values) or "default"
        key = f"{number}_{text}" if len(caches) > 1 and text == "default" else text
        suffix = "-protected" if protected and not cache.get("unprotect") else "-non_protected"
        suffix = "" if protected is None else suffix
        found.append(
            {
                "key": f"{key}{suffix}",
                "untracked": bool(cache.get("untracked", False)),
                "paths": cache.get("paths"),
                "policy": cache.get("policy", "pull-push"),
                "when": cache.get("when", "on_success"),
                "fallback_keys": [f"{name}{suffix}" for name in cache.get("fallback_keys", [])],
            }
        )
    return found
