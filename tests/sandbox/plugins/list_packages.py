"""Prints the packages of the environment that it runs in, as JSON. Needs nothing but Python."""

import importlib.metadata
import importlib.util
import json
from pathlib import Path


def plugin_json(name: str) -> str:
    """Where the file is that says which plugin a package needs; empty if there is none."""
    try:
        spec = importlib.util.find_spec(name.replace("-", "_"))
    except (ImportError, ValueError):
        return ""
    folders = (spec.submodule_search_locations or []) if spec else []
    return next((str(path) for path in (Path(one, "pulumi-plugin.json") for one in folders) if path.is_file()), "")


if __name__ == "__main__":
    found = {one.metadata["Name"]: one.version for one in importlib.metadata.distributions()}
    # The module of another package may be anything: only those of Pulumi are looked for.
    listed = [
        {"name": name, "version": version, "plugin": plugin_json(name) if name.startswith("pulumi") else ""}
        for name, version in sorted(found.items())
    ]
    print(json.dumps(listed))
