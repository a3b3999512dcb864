"""A repository in Go, as the recipe has it: two platforms, and an image without a shell. Compilers take their time."""

from __future__ import annotations

import io
import tarfile

import pytest
import yaml

from tests.sandbox_tests.support.repositories import Repository

#: The processor of a program (ELF, e_machine).
AARCH64 = 183


@pytest.mark.parametrize("pushed", ["clock"], indirect=True)
def test_a_go_project_is_tested_in_a_stage_and_released_for_two_platforms(pushed: Repository) -> None:
    pushed.push()
    assert "ok  \texample.test/clock" in pushed.run_pipeline()["test"]
    entries = {one["platform"]["architecture"]: one["digest"] for one in pushed.manifest()["manifests"]}
    assert sorted(entries) == ["amd64", "arm64"]
    [layer] = yaml.safe_load(pushed.content(f"manifests/{entries['arm64']}"))["layers"]
    program = program_in(pushed.content(f"blobs/{layer['digest']}"))
    assert program[:4] == b"\x7fELF"
    assert int.from_bytes(program[18:20], "little") == AARCH64
    assert b"1" * 8 in program, "the build argument has the commit"


def program_in(layer: bytes) -> bytes:
    """The only file of a layer."""
    with tarfile.open(fileobj=io.BytesIO(layer)) as archive:
        [member] = [one for one in archive if one.isfile()]
        file = archive.extractfile(member)
        assert file is not None
        return file.read()
