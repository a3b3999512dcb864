"""The sandbox's own certificate authority.

Owns one root, created when a sandbox starts and deleted with it; the certificates of the emulated services; and the
folder of trusted certificates that the workstation sees instead of the machine's own. The machine's trust store is only
read.
"""

from __future__ import annotations

import datetime as dt
import os
import shutil
import subprocess
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

HOST_TRUST = Path("/etc/ssl/certs")
BUNDLE = "ca-certificates.crt"
LIFETIME = dt.timedelta(days=365)
_MOST_OF_A_COMMON_NAME = 64


def write_private(path: Path, content: bytes) -> None:
    """Write a file that nobody else can read, not even for a moment."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)


class Authority:
    """A root certificate with its key, kept in one folder (`ca.crt`, `ca.key`)."""

    def __init__(self, folder: Path, name: str = "Slipway sandbox root") -> None:
        self.folder, self._name = folder, name
        self.certificate_file = folder / "ca.crt"
        self._key_file = folder / "ca.key"
        if not self._key_file.exists() or not self.certificate_file.exists():
            self._create()
        key = serialization.load_pem_private_key(self._key_file.read_bytes(), password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise TypeError(f"{self._key_file} holds another kind of key than this authority creates: remove {folder}")
        self._key = key
        self.certificate = x509.load_pem_x509_certificate(self.certificate_file.read_bytes())

    def issue(self, name: str, hosts: list[str]) -> tuple[Path, Path]:
        """Files with certificate and key for `hosts` (wildcards allowed); made once for the same hosts."""
        certificate_file, key_file = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        if key_file.exists() and certificate_file.exists() and _hosts(certificate_file) == hosts:
            return certificate_file, key_file
        key = ec.generate_private_key(ec.SECP256R1())
        # As public authorities do: a longer name does not fit into the subject, and is among the others alone.
        fits = len(hosts[0]) <= _MOST_OF_A_COMMON_NAME
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hosts[0])] if fits else [])
        names = x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts])
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
        certificate = (
            self._builder(subject, key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(names, critical=not fits)
            .add_extension(usage, critical=False)
            .sign(self._key, hashes.SHA256())
        )
        write_private(key_file, _key_pem(key))
        certificate_file.write_bytes(_pem(certificate))
        return certificate_file, key_file

    def cross_sign(self, root: x509.Certificate) -> bytes:
        """A certificate (PEM) of this authority for another root's name and key.

        Appended to a chain, it makes that root's certificates valid for everybody who trusts this authority: how young
        public authorities came to be trusted as well.
        """
        identifier = x509.SubjectKeyIdentifier.from_public_key(root.public_key())
        for extension in root.extensions:
            if isinstance(extension.value, x509.SubjectKeyIdentifier):
                identifier = extension.value
        builder = self._builder(root.subject, root.public_key(), identifier)
        return _pem(_as_authority(builder).sign(self._key, hashes.SHA256()))

    def _builder(
        self, subject: x509.Name, key: object, identifier: x509.SubjectKeyIdentifier | None = None
    ) -> x509.CertificateBuilder:
        own_identifier = self.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        return (
            _dated(subject, self.certificate.subject)
            .public_key(key)  # type: ignore[arg-type]
            .add_extension(identifier or x509.SubjectKeyIdentifier.from_public_key(key), critical=False)  # type: ignore[arg-type]
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own_identifier), critical=False
            )
        )

    def _create(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self._name)])
        identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        builder = _dated(name, name).public_key(key.public_key()).add_extension(identifier, critical=False)
        certificate = _as_authority(builder).sign(key, hashes.SHA256())
        write_private(self._key_file, _key_pem(key))
        self.certificate_file.write_bytes(_pem(certificate))


def make_trust(folder: Path, authority: Authority) -> Path:
    """Fill `folder` with what the machine trusts plus `authority`; returns the bundle in it."""
    if folder.exists():
        shutil.rmtree(folder)
    if HOST_TRUST.is_dir():
        shutil.copytree(HOST_TRUST, folder, symlinks=True)
    folder.mkdir(exist_ok=True)
    bundle = folder / BUNDLE
    known = bundle.read_bytes() if bundle.exists() else b""
    bundle.unlink(missing_ok=True)
    bundle.write_bytes(known + authority.certificate_file.read_bytes())
    # OpenSSL's own look-up in a folder is by a hash of the name, which only OpenSSL knows how to make.
    asked = ["openssl", "x509", "-noout", "-subject_hash", "-in", str(authority.certificate_file)]
    subject_hash = subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip()
    shutil.copyfile(authority.certificate_file, folder / f"{subject_hash}.0")
    return bundle


def _dated(subject: x509.Name, issuer: x509.Name) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer)
    builder = builder.serial_number(x509.random_serial_number())
    return builder.not_valid_before(now - dt.timedelta(hours=1)).not_valid_after(now + LIFETIME)


def _as_authority(builder: x509.CertificateBuilder) -> x509.CertificateBuilder:
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    constraints = x509.BasicConstraints(ca=True, path_length=None)
    return builder.add_extension(constraints, critical=True).add_extension(usage, critical=True)


def _hosts(certificate_file: Path) -> list[str]:
    certificate = x509.load_pem_x509_certificate(certificate_file.read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return names.get_values_for_type(x509.DNSName)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
