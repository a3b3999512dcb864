"""Tags on resources."""

from __future__ import annotations

import re
from collections.abc import Iterable

from tests.sandbox.digitalocean.models import DatabaseCluster, Droplet, Tag, Volume
from tests.sandbox.digitalocean.state.cloud import Cloud
from tests.sandbox.digitalocean.state.errors import Unprocessable

_NAME = re.compile(r"[A-Za-z0-9_:-]{1,255}")

Tagged = Droplet | Volume | DatabaseCluster
#: Plurals of what carries tags.
PLURALS: dict[type[Tagged], str] = {Droplet: "droplets", Volume: "volumes", DatabaseCluster: "databases"}


def ensure_tags(cloud: Cloud, names: Iterable[str]) -> list[str]:
    """The tags of these names in the capitals of their first use; new ones are made. Raises Unprocessable."""
    found = []
    for name in dict.fromkeys(names):
        if not _NAME.fullmatch(name):
            # Wording as far as the document quotes it.
            raise Unprocessable(f"Error validating resource tag: tag-name {name!r} contains invalid characters")
        tag = cloud.store.get(Tag, name.lower())
        if tag is None:
            tag = Tag(name=name)
            cloud.store.put(tag)
        found.append(tag.name)
    return list(dict.fromkeys(found))


def note_tagged(cloud: Cloud, names: Iterable[str], kind: str, uri: str) -> None:
    """Remember what was tagged last."""
    for name in names:
        if tag := cloud.store.get(Tag, name.lower()):
            tag.last_tagged[kind] = uri
            cloud.store.put(tag)


def uri_of(base: str, thing: Tagged) -> tuple[str, str]:
    """Which plural a tagged thing counts under, and where it is."""
    plural = PLURALS[type(thing)]
    return plural, f"{base}/v2/{plural}/{thing.key}"
