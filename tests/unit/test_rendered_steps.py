"""What a person can read in a preview: files line by line, without their secrets."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from google.protobuf import json_format

from components.remote import MASK
from tests.certificates import provided
from tests.unit.delivered import configuration, delivered
from tests.unit.engine import ENVELOPE, RecordingEngine

S3 = {"bucket": "images", "accessKey": "the-access-key", "secretKey": "the-secret-key"}
CERTIFICATE = provided()
#: One line of each secret that the program is given, or that a resource returns.
SECRETS = (
    *(
        "the-secret-key",
        "the-variable-s-value",
        "the-imap-password",
        "the-smtp-password",
        "the-client-secret",
        "the-ldap-password",
        CERTIFICATE["privateKey"].splitlines()[1],
    ),
    *("password-gitlab-admin-password", "glpat-password-gitlab-api-token-digits", "glrt-", "gldt-", "PRIVATE "),
)


@pytest.fixture
def engine(encrypted: None) -> RecordingEngine:
    """The program with every secret that a stack file can have."""
    del encrypted
    return delivered(
        {"variables": {"API_KEY": {"value": "the-variable-s-value"}}},
        registry={"storage": "s3", "s3": S3},
        certificate=CERTIFICATE,
        smtp={
            "address": "smtp.example.com",
            "userName": "apikey",
            "password": "the-smtp-password",
            "from": "gitlab@example.com",
        },
        signIn={
            "oidc": [
                {"issuer": "https://login.example.com", "clientId": "gitlab", "clientSecret": "the-client-secret"},
            ],
            "ldap": {
                "host": "ldap.example.com",
                "base": "dc=example,dc=com",
                "bindDn": "cn=gitlab,dc=example,dc=com",
                "password": "the-ldap-password",
            },
        },
        gitlab={
            "extraConfiguration": "gitlab_rails['incoming_email_password'] = secrets['IMAP']",
            "extraSecrets": {"IMAP": "the-imap-password"},
        },
    )


def plain(value: Any) -> Iterator[str]:
    """All strings of a request that are in no envelope of a secret."""
    if isinstance(value, dict):
        for one in () if ENVELOPE in value else value.values():
            yield from plain(one)
    elif isinstance(value, list):
        for one in value:
            yield from plain(one)
    elif isinstance(value, str):
        yield value


def sent(engine: RecordingEngine, name: str) -> dict[str, Any]:
    """Inputs of a resource as they were sent, secrets in their envelopes."""
    return dict(json_format.MessageToDict(engine.named(name).request.object))


def test_no_resource_has_a_secret_in_plain_text(engine: RecordingEngine) -> None:
    texts = [(one.name, text) for one in engine.registrations for text in plain(sent(engine, one.name))]
    assert len(texts) > 100
    assert [(name, secret) for name, text in texts for secret in SECRETS if secret in text] == []


def test_every_step_with_a_secret_shows_all_of_its_input_but_the_secrets(engine: RecordingEngine) -> None:
    steps = [one for one in engine.of_type(":Command") if ENVELOPE in sent(engine, one.name).get("stdin", {})]
    hidden = {one.name: one.inputs["stdin"] for one in steps if "stdin" not in one.request.ignoreChanges}
    assert {"gitlab-configuration", "registry-storage", "delivery-docker-builder-1-registration"} <= hidden.keys()
    for name, stdin in hidden.items():
        shown = engine.named(f"{name}-rendered").inputs
        assigned = set(re.findall(r"^([A-Z][A-Z0-9_]*)=(?!\()", str(stdin), re.MULTILINE))
        named_in_script = set(re.findall(r"^([A-Z][A-Z0-9_]*)=(?!\()", shown["script"], re.MULTILINE))
        assert assigned - named_in_script - {"LIMIT_SECONDS", "STEP"} <= shown.keys(), name
        assert "main() {" in shown["script"]


def test_files_with_secrets_are_shown_with_a_mask_in_their_place(engine: RecordingEngine) -> None:
    registry = sent(engine, "registry-storage-rendered")["REGISTRY_RB"]
    assert f"'secretkey' => '{MASK}'" in registry
    assert "'bucket' => 'images'" in registry
    runner = sent(engine, "delivery-docker-builder-1-registration-rendered")["CONFIGURATION"]
    assert f'token = "{MASK}"' in runner
    with_token = configuration(engine)
    with_token["runners"][0]["token"] = MASK
    assert tomllib.loads(runner) == with_token


def test_files_without_secrets_are_shown_unchanged(engine: RecordingEngine) -> None:
    shown = sent(engine, "gitlab-configuration-rendered")["GITLAB_RB"]
    assert "external_url 'https://gitlab.example.test'" in shown.splitlines()
    assert "gitlab_rails['incoming_email_password'] = secrets['IMAP']" in shown.splitlines()
    pipeline = sent(engine, "delivery-hello-pipeline-rendered")["PIPELINE"]
    assert yaml.safe_load(pipeline)["stages"] == ["build", "test", "release"]


def test_a_changed_secret_is_named_in_a_preview(engine: RecordingEngine) -> None:
    shown = sent(engine, "gitlab-api-token-rendered")
    assert {name for name, value in shown.items() if isinstance(value, dict)} == {"ADMIN_PASSWORD", "API_TOKEN"}
