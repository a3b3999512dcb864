"""The sandbox's certificate authority: whom it makes trusted, and whom not."""

from __future__ import annotations

import datetime as dt
import stat
import subprocess
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.sandbox.cloud.authority import HOST_TRUST, Authority, make_trust


def verified(trusted: Path, chain: Path, host: str) -> bool:
    """What OpenSSL, which shares no code with the authority, says of a chain."""
    files = ["-CAfile", str(trusted), "-no-CApath", "-untrusted", str(chain), str(chain)]
    command = ["openssl", "verify", "-verify_hostname", host, *files]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_a_certificate_is_valid_for_its_names_and_for_no_other(authority: Authority) -> None:
    chain, _ = authority.issue("spaces", ["nyc3.example.com", "*.nyc3.example.com"])
    assert verified(authority.certificate_file, chain, "nyc3.example.com")
    assert verified(authority.certificate_file, chain, "bucket.nyc3.example.com")
    assert not verified(authority.certificate_file, chain, "fra1.example.com")


def test_a_name_that_is_too_long_for_a_subject_is_among_the_others(authority: Authority) -> None:
    host = f"private-{'x' * 50}.example.com"
    chain, _ = authority.issue("database", [host])
    assert verified(authority.certificate_file, chain, host)


def test_a_certificate_is_not_valid_for_clients_of_another_authority(authority: Authority, tmp_path: Path) -> None:
    chain, _ = authority.issue("api", ["api.example.com"])
    other = Authority(tmp_path / "other")
    assert not verified(other.certificate_file, chain, "api.example.com")


def test_a_certificate_is_kept_until_its_names_change(authority: Authority) -> None:
    first = authority.issue("api", ["api.example.com"])[0].read_bytes()
    assert Authority(authority.folder).issue("api", ["api.example.com"])[0].read_bytes() == first
    assert authority.issue("api", ["api.example.org"])[0].read_bytes() != first


def test_no_key_is_readable_by_other_users(authority: Authority) -> None:
    _, key = authority.issue("api", ["api.example.com"])
    for file in (key, authority.folder / "ca.key"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_certificates_of_a_cross_signed_root_are_valid_for_clients_that_trust_the_sandbox(
    authority: Authority, tmp_path: Path
) -> None:
    foreign = Authority(tmp_path / "foreign", name="A foreign root")
    leaf, _ = foreign.issue("site", ["gitlab.example.com"])
    assert not verified(authority.certificate_file, leaf, "gitlab.example.com")
    chain = tmp_path / "chain.pem"
    chain.write_bytes(leaf.read_bytes() + authority.cross_sign(foreign.certificate))
    assert verified(authority.certificate_file, chain, "gitlab.example.com")


def test_a_cross_signed_root_keeps_the_identifier_that_its_certificates_refer_to(authority: Authority) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "foreign root")])
    now = dt.datetime.now(dt.UTC)
    identifier = x509.SubjectKeyIdentifier(b"chosen by its owner")
    root = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + dt.timedelta(days=1))
        .add_extension(identifier, critical=False)
        .sign(key, hashes.SHA256())
    )
    crossed = x509.load_pem_x509_certificate(authority.cross_sign(root))
    assert crossed.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value == identifier
    assert crossed.subject == root.subject
    encoding = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    assert crossed.public_key().public_bytes(*encoding) == key.public_key().public_bytes(*encoding)


def test_the_workstation_trusts_what_the_machine_trusts_and_the_sandbox(authority: Authority, tmp_path: Path) -> None:
    before = {path.name: path.lstat().st_mtime_ns for path in HOST_TRUST.iterdir()}
    bundle = make_trust(tmp_path / "trust", authority)
    known, own = (HOST_TRUST / bundle.name).read_bytes(), authority.certificate_file.read_bytes()
    assert bundle.read_bytes() == known + own
    assert own not in known
    assert {path.name: path.lstat().st_mtime_ns for path in HOST_TRUST.iterdir()} == before


def test_a_program_that_looks_up_trust_in_a_folder_finds_the_sandbox(authority: Authority, tmp_path: Path) -> None:
    make_trust(tmp_path / "trust", authority)
    chain, _ = authority.issue("api", ["api.example.com"])
    command = ["openssl", "verify", "-CApath", str(tmp_path / "trust"), "-no-CAfile", str(chain)]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
