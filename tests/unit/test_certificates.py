"""Provided certificates: what is refused before a server gets them."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID

from components.rendering import script
from components.settings import Settings, SettingsError, load
from tests.certificates import authority, provided, root
from tests.unit.engine import ENCRYPTED, REQUIRED, as_config, project_defaults, run_program

DAY = datetime.timedelta(days=1)


def settings(certificate: dict[str, Any], **changes: Any) -> Settings:
    config = as_config({**project_defaults(), **REQUIRED, "certificate": certificate, **changes})
    return load("slipway", "test", config, ENCRYPTED)


def errors(certificate: dict[str, Any], **changes: Any) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        settings(certificate, **changes)
    return caught.value.errors


def now() -> datetime.datetime:
    return datetime.datetime.now(tz=datetime.UTC)


def of_key(key: rsa.RSAPrivateKey, *usages: x509.ObjectIdentifier) -> dict[str, Any]:
    """A certificate that is its own issuer."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "gitlab.example.test")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(now() - DAY)
        .not_valid_after(now() + DAY)
    )
    for extension in (x509.ExtendedKeyUsage(usages),) if usages else ():
        names = x509.SubjectAlternativeName([x509.DNSName("gitlab.example.test")])
        builder = builder.add_extension(extension, critical=False).add_extension(names, critical=False)
    return {
        "source": "provided",
        "chain": builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode(),
        "privateKey": key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()).decode(),
    }


@pytest.mark.parametrize(
    "names", [("gitlab.example.test",), ("*.example.test",), ("other.test", "GITLAB.example.test")]
)
def test_a_certificate_for_the_name_of_gitlab_is_accepted(names: tuple[str, ...]) -> None:
    assert settings(provided(*names)).certificate.chain


@pytest.mark.parametrize("names", [("git.example.test",), ("*.test",), ("*.gitlab.example.test",), ("example.test",)])
def test_a_certificate_for_other_names_is_refused_and_they_are_named(names: tuple[str, ...]) -> None:
    [line] = errors(provided(*names))
    assert line.startswith(f"certificate.chain: is for {', '.join(names)} and not for gitlab.example.test; ")


def test_the_name_is_not_compared_with_a_host_name_that_is_invalid_itself() -> None:
    assert [line.split(":")[0] for line in errors(provided("git.example.test"), domain="nothing")] == ["domain"]


def test_a_key_of_another_certificate_is_refused_under_the_path_of_the_key() -> None:
    [line] = errors({**provided(), "privateKey": provided()["privateKey"]})
    assert line.startswith("certificate.privateKey: does not belong to the certificate in certificate.chain; ")
    assert "until it restarts, and then not start" in line


def test_a_certificate_after_its_issuer_is_refused() -> None:
    one = provided(issuer=authority().create_child_ca())
    leaf, intermediate = (f"{part}-----END CERTIFICATE-----\n" for part in one["chain"].split("-----END")[:2])
    assert "END CERTIFICATE" in leaf
    intermediate = intermediate.removeprefix(" CERTIFICATE-----\n")
    lines = errors({**one, "chain": intermediate + leaf})
    assert any(
        line.startswith("certificate.chain: does not begin with the certificate of privateKey") for line in lines
    )


def test_a_certificate_that_did_not_issue_the_one_before_it_is_refused() -> None:
    one = provided(issuer=authority().create_child_ca())
    assert settings(one)
    [line] = errors({**one, "chain": one["chain"] + provided()["chain"]})
    assert line.startswith("certificate.chain: certificate 3 did not issue certificate 2; ")


def test_an_expired_certificate_and_one_that_is_not_valid_yet_are_refused_with_the_date() -> None:
    [line] = errors(provided(not_before=now() - 9 * DAY, not_after=now() - DAY))
    assert line.startswith(f"certificate.chain: expired on {now() - DAY:%Y-%m-%d}; ")
    [line] = errors(provided(not_before=now() + DAY, not_after=now() + 2 * DAY))
    assert line.startswith(f"certificate.chain: is not valid before {now() + DAY:%Y-%m-%d}")


def test_an_expired_root_of_a_private_authority_is_refused_whatever_the_source() -> None:
    old = trustme.CA().issue_cert("root.example.test", not_before=now() - 9 * DAY, not_after=now() - DAY)
    [line] = errors({"caCertificate": old.cert_chain_pems[0].bytes().decode()})
    assert line.startswith("certificate.caCertificate: expired on ")
    assert settings({"caCertificate": root()})


def test_a_key_with_a_passphrase_is_refused_because_nginx_cannot_enter_it() -> None:
    one = provided()
    key = load_pem_private_key(one["privateKey"].encode(), password=None)
    form = (Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"a phrase"))
    [line] = errors({**one, "privateKey": key.private_bytes(*form).decode()})
    assert line.startswith("certificate.privateKey: is encrypted with a passphrase; ")


def test_texts_that_only_look_like_pem_are_refused() -> None:
    junk = "-----BEGIN {0}-----\nTUlJ\n-----END {0}-----"
    paths = [line.split(":")[0] for line in errors({**provided(), "privateKey": junk.format("PRIVATE KEY")})]
    assert paths == ["certificate.privateKey"]
    paths = [line.split(":")[0] for line in errors({**provided(), "chain": junk.format("CERTIFICATE")})]
    assert paths == ["certificate.chain"]


def test_a_short_rsa_key_and_a_certificate_without_names_are_both_refused_at_once() -> None:
    key = rsa.generate_private_key(65537, 1024)  # noqa: S505 - this is what the test is about
    first, second = errors(of_key(key))
    assert first.startswith("certificate.privateKey: is an RSA key of 1024 bits; ")
    assert second.startswith("certificate.chain: has no subjectAltName, so it is not for gitlab.example.test; ")


def test_a_certificate_of_a_client_is_refused() -> None:
    key = rsa.generate_private_key(65537, 2048)
    assert settings(of_key(key, ExtendedKeyUsageOID.SERVER_AUTH))
    [line] = errors(of_key(key, ExtendedKeyUsageOID.CLIENT_AUTH))
    assert "its extended key usage lacks serverAuth" in line


def test_the_roots_of_the_staging_environment_are_those_of_lets_encrypt() -> None:
    found = settings({"acmeStaging": True}).certificate.trusted_roots
    assert found
    roots = x509.load_pem_x509_certificates(found.encode())
    listed = script("letsencrypt-staging-roots.pem").splitlines()
    for one in roots:
        one.verify_directly_issued_by(one)
        assert one.subject.rfc4514_string().split(",")[0].removeprefix("CN=") in listed
        assert f"SHA-256 {one.fingerprint(hashes.SHA256()).hex()}" in listed
    assert len(roots) == 4


def test_a_rehearsal_reaches_everything_that_verifies_gitlab() -> None:
    projects: dict[str, Any] = {"projects": [{"path": "hello"}], "runners": [{"name": "docker-builder"}]}
    engine = run_program(certificate={"acmeStaging": True, "caCertificate": root()}, **projects)
    configuration = engine.script("gitlab-configuration")
    assert configuration.count("https://acme-staging-v02.api.letsencrypt.org/directory") == 3
    for step in (configuration, engine.script("delivery-docker-builder-1-registration")):
        assert step.count("-----BEGIN CERTIFICATE-----") == 5
    [provider] = engine.of_type("pulumi:providers:gitlab")
    assert provider.inputs["cacertFile"]
    assert engine.named("dns-caa").inputs["value"] == "letsencrypt.org."


@pytest.mark.parametrize(
    "other", [{"acmeDirectory": "https://ca.example.test/directory"}, {**provided(), "caCertificate": root()}]
)
def test_the_staging_environment_excludes_other_sources(other: dict[str, Any]) -> None:
    [line] = errors({"acmeStaging": True, **other})
    assert line.startswith("certificate: has ")
    assert "acmeStaging" in line


def test_no_error_contains_the_key() -> None:
    one = provided("git.example.test")
    body = one["privateKey"].splitlines()[1]
    assert body not in str(errors({**one, "privateKey": provided()["privateKey"]}) + errors(one))
