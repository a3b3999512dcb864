"""The messages and services of Pulumi's protocol, as its SDK has them, without the rest of the SDK.

Each Pulumi command starts a process for each provider, and importing the SDK would take most of that.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType

_PACKAGES = ("pulumi", "pulumi.runtime")


@contextmanager
def _packages_alone() -> Iterator[None]:
    """Have modules of the SDK imported without what their packages import, unless that was imported already."""
    spec = PathFinder.find_spec("pulumi")
    if "pulumi" in sys.modules or spec is None or spec.submodule_search_locations is None:
        yield
        return
    [top] = spec.submodule_search_locations
    for name in _PACKAGES:
        package = ModuleType(name)
        package.__path__ = [str(Path(top, *name.split(".")[1:]))]
        sys.modules[name] = package
    try:
        yield
    finally:
        for name in _PACKAGES:
            del sys.modules[name]


with _packages_alone():
    from pulumi.runtime.proto import (
        analyzer_pb2,
        engine_pb2,
        engine_pb2_grpc,
        language_pb2,
        language_pb2_grpc,
        plugin_pb2,
        provider_pb2,
        provider_pb2_grpc,
        status_pb2,
    )

__all__ = [
    "analyzer_pb2",
    "engine_pb2",
    "engine_pb2_grpc",
    "language_pb2",
    "language_pb2_grpc",
    "plugin_pb2",
    "provider_pb2",
    "provider_pb2_grpc",
    "status_pb2",
]
