"""An image of one static program, as an archive that `ctr images import` and `docker load` read."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path


def write_archive(target: Path, name: str, program: Path, entrypoint: list[str]) -> None:
    """Write the archive of an image `name` whose only file is `program`, named as the entry point says."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as archive:
        entry = tarfile.TarInfo(entrypoint[0].lstrip("/"))
        content = program.read_bytes()
        entry.size, entry.mode = len(content), 0o755
        archive.addfile(entry, io.BytesIO(content))
    digest = hashlib.sha256(layer.getvalue()).hexdigest()
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Entrypoint": entrypoint, "WorkingDir": "/"},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        }
    ).encode()
    config_name = f"{hashlib.sha256(config).hexdigest()}.json"
    manifest = json.dumps([{"Config": config_name, "RepoTags": [name], "Layers": [f"{digest}/layer.tar"]}]).encode()
    with tarfile.open(target, "w") as archive:
        files = {config_name: config, f"{digest}/layer.tar": layer.getvalue(), "manifest.json": manifest}
        for path, blob in files.items():
            entry = tarfile.TarInfo(path)
            entry.size = len(blob)
            archive.addfile(entry, io.BytesIO(blob))
