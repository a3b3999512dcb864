"""The Docker client of the checks: which credentials it uses."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tools.clients import Docker


def test_credentials_in_the_environment_of_the_user_do_not_replace_a_login_of_a_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "docker"
    program.write_text('#!/bin/sh\necho "$DOCKER_CONFIG|$DOCKER_AUTH_CONFIG"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("DOCKER_AUTH_CONFIG", '{"auths": {"registry.example.test": {"auth": "YTpi"}}}')
    with Docker.session() as docker:
        said = docker.try_login("registry.example.test", "root", "example").stdout
        assert said == f"{docker.folder}|\n"
