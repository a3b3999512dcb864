"""What the `gitlab` provider trusts where a private authority issued GitLab's certificate."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest

from components.ca_bundle import ca_bundle
from tests.certificates import root
from tests.unit.engine import ROOT, RecordingEngine, run_program

PROJECT: dict[str, Any] = {"projects": [{"path": "hello"}], "runners": [{"name": "docker-builder"}]}


def _provider(engine: RecordingEngine) -> dict[str, Any]:
    [found] = engine.of_type("pulumi:providers:gitlab")
    return found.inputs


def test_the_provider_trusts_the_private_authority_beside_the_roots_of_this_machine() -> None:
    engine = run_program(certificate={"caCertificate": root()}, **PROJECT)
    file = ROOT / str(_provider(engine)["cacertFile"])
    trusted = ssl.create_default_context(cafile=str(file)).get_ca_certs(binary_form=True)
    machine = ssl.create_default_context().get_ca_certs(binary_form=True)
    assert ssl.PEM_cert_to_DER_cert(root()) in trusted
    assert set(machine) <= set(trusted)


def test_without_a_private_authority_the_provider_has_no_file() -> None:
    assert "cacertFile" not in _provider(run_program(**PROJECT))
    assert ca_bundle(None) is None


def test_the_path_is_the_same_in_every_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = set()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        found.add(ca_bundle(root()))
        assert [path.is_file() for path in (tmp_path / name).rglob("*.pem")] == [True]
    [path] = found
    assert path
    assert not Path(path).is_absolute()
