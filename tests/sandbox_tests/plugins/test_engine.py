"""The language host and the providers `random` and `tls`, run by the real engine."""

from __future__ import annotations

import json
import re
from pathlib import Path

import asyncssh
import pytest
from cryptography.hazmat.primitives import serialization

from tests.sandbox_tests.support.pulumi_engine import Engine


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    engine = Engine(tmp_path_factory.mktemp("engine"), "secrets_and_keys", {"generation": "1"})
    preview = engine.run("preview")
    assert "password : [unknown]" in re.sub(" +", " ", preview)
    assert engine.resources() == {}
    engine.up()
    return engine


def test_a_password_has_the_requested_length_and_characters(engine: Engine) -> None:
    password = engine.outputs()["password"]
    assert len(password) == 24
    assert set(re.sub("[A-Za-z0-9]", "", password)) <= set("_-")
    assert len(re.sub("[A-Za-z0-9]", "", password)) >= 3


def test_a_string_uses_only_the_allowed_character_classes(engine: Engine) -> None:
    plain = engine.outputs()["plain"]
    assert re.fullmatch("[a-z0-9]{12}", plain)
    assert len(re.findall("[0-9]", plain)) >= 2
    assert engine.resources()["plain"]["id"] == plain


def test_an_id_has_its_prefix(engine: Engine) -> None:
    assert re.fullmatch("x-[0-9a-f]{8}", engine.outputs()["identifier"])


def test_the_state_holds_no_secret_in_plain_text(engine: Engine) -> None:
    outputs = engine.outputs()
    state = engine.run("stack", "export")
    assert outputs["plain"] in state
    assert outputs["password"] not in state
    assert "PRIVATE KEY" not in state
    assert engine.resources()["password"]["id"] == "none"


@pytest.mark.parametrize("algorithm", ["ED25519", "RSA", "ECDSA"])
def test_a_key_pair_is_the_same_in_every_encoding(engine: Engine, algorithm: str) -> None:
    key = engine.outputs()[algorithm]
    private = [
        serialization.load_pem_private_key(key["pem"].encode(), None),
        serialization.load_pem_private_key(key["pkcs8"].encode(), None),
        serialization.load_ssh_private_key(key["openssh"].encode(), None),
    ]
    spki = (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    assert {item.public_key().public_bytes(*spki).decode() for item in private} == {key["public_pem"]}
    public = asyncssh.import_public_key(key["public"])
    assert public == asyncssh.import_private_key(key["openssh"]).convert_to_public()
    assert key["sha256"] == public.get_fingerprint("sha256")
    assert key["md5"] == public.get_fingerprint("md5").removeprefix("MD5:")
    assert key["public"].endswith("\n")


def test_a_second_update_and_a_refresh_change_nothing(engine: Engine) -> None:
    before = engine.outputs()
    assert engine.changes() == {"same": 7}
    assert "7 unchanged" in engine.run("refresh", "--yes", "--skip-preview")
    assert engine.outputs() == before


def test_a_changed_keeper_replaces_only_the_password(engine: Engine) -> None:
    before = engine.outputs()
    engine.configure({"generation": "2"})
    assert engine.changes() == {"replace": 1, "same": 6}
    engine.up()
    after = engine.outputs()
    assert after["password"] != before["password"]
    assert {**after, "password": ""} == {**before, "password": ""}


def test_after_destroy_the_state_is_empty(engine: Engine) -> None:
    engine.destroy()
    assert engine.resources() == {}


@pytest.mark.parametrize(
    ("kind", "properties", "message"),
    [
        ("random:index/randomPet:RandomPet", {}, "does not support the type random:index/randomPet:RandomPet"),
        ("random:index/randomId:RandomId", {"byteLength": 4, "colour": "red"}, "unknown property"),
        ("random:index/randomId:RandomId", {}, "missing required property"),
        ("random:index/randomId:RandomId", {"byteLength": "four"}, "expected a whole number"),
        ("random:index/randomId:RandomId", {"byteLength": 0}, "must be at least 1"),
        ("random:index/randomPassword:RandomPassword", {"length": 2, "minLower": 3}, "sum of the minimums"),
        ("tls:index/privateKey:PrivateKey", {"algorithm": "DSA"}, "expected one of RSA, ECDSA, ED25519"),
    ],
)
def test_an_unknown_property_is_refused(tmp_path: Path, kind: str, properties: object, message: str) -> None:
    engine = Engine(tmp_path, "refused", {"type": kind, "properties": json.dumps(properties)})
    assert message in engine.run("preview", fails=True)


def test_a_user_error_is_shown_without_a_traceback(tmp_path: Path) -> None:
    output = Engine(tmp_path, "mistaken", {"way": "user error"}).run("preview", fails=True)
    assert "error: the region is missing: set slipway:region" in output
    assert "this is what the program prints" in output
    assert "Traceback" not in output
    # What the official language host adds to every error of a program.
    assert "error: an unhandled error occurred: program exited with non-zero exit code: 1" in output


def test_the_traceback_of_a_bug_starts_in_the_program(tmp_path: Path) -> None:
    output = Engine(tmp_path, "mistaken", {"way": "bug"}).run("preview", fails=True)
    assert "Traceback" in output
    assert 'raise ValueError("nobody expected this")' in output
    assert "language_python" not in output


def test_a_bug_in_a_callback_keeps_its_traceback(tmp_path: Path) -> None:
    output = Engine(tmp_path, "mistaken", {"way": "bug in apply"}).run("preview", fails=True)
    assert "Traceback" in output
    assert "invalid literal for int()" in output


def test_a_callback_cannot_import_what_is_beside_the_program_as_with_the_official_language_host(tmp_path: Path) -> None:
    engine = Engine(tmp_path, "mistaken", {"way": "late import"})
    (engine.project / "beside.py").write_text('WORD = "found beside the program"')
    assert "ModuleNotFoundError: No module named 'beside'" in engine.run("preview", fails=True)


def test_the_output_of_a_program_reaches_the_user(tmp_path: Path) -> None:
    output = Engine(tmp_path, "mistaken", {"way": "none"}).run("preview")
    assert "this is what the program prints" in output
