"""Images that every Kubernetes machine brings along."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

from tests.sandbox.machines.kubernetes.archive import write_archive


def test_an_archive_holds_an_image_of_one_program_and_is_the_same_each_time(tmp_path: Path) -> None:
    program = tmp_path / "pause"
    program.write_bytes(b"a program")
    for name in ("first.tar", "second.tar"):
        write_archive(tmp_path / name, "registry.k8s.io/pause:3.10.1", program, ["/pause"])
    assert (tmp_path / "first.tar").read_bytes() == (tmp_path / "second.tar").read_bytes()
    with tarfile.open(tmp_path / "first.tar") as archive:
        content = {member.name: _read(archive, member) for member in archive}
    [manifest] = json.loads(content["manifest.json"])
    assert manifest["RepoTags"] == ["registry.k8s.io/pause:3.10.1"]
    assert json.loads(content[manifest["Config"]])["config"]["Entrypoint"] == ["/pause"]
    with tarfile.open(fileobj=io.BytesIO(content[manifest["Layers"][0]])) as layer:
        [member] = layer.getmembers()
        assert (member.name, member.mode, _read(layer, member)) == ("pause", 0o755, b"a program")


def _read(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    assert file is not None
    return file.read()
