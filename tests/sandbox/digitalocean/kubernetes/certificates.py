"""The certificates of one cluster, from an authority of its own."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LIFETIME = dt.timedelta(days=3650)
#: Kubernetes takes the public key out of a private one only in the older of the two formats.
_USUAL, _OLD = serialization.PrivateFormat.PKCS8, serialization.PrivateFormat.TraditionalOpenSSL


def new_secrets() -> dict[str, str]:
    """An authority (`ca.crt`, `ca.key`) and the key for the tokens of service accounts."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _name("k8saas Cluster CA", ("DigitalOcean",))
    builder = _builder(subject, subject, key.public_key())
    certificate = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True).sign(
        key, hashes.SHA256()
    )
    accounts = ec.generate_private_key(ec.SECP256R1())
    return {"ca.crt": _pem(certificate), "ca.key": _key_pem(key), "service-accounts.key": _key_pem(accounts, _OLD)}


def issue(
    secrets: dict[str, str], name: str, groups: Sequence[str] = (), *, hosts: Sequence[str] = ()
) -> tuple[str, str]:
    """Certificate and key (PEM) for a client, and for a server of these names and addresses if there are any."""
    authority = x509.load_pem_x509_certificate(secrets["ca.crt"].encode())
    signer = serialization.load_pem_private_key(secrets["ca.key"].encode(), password=None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _builder(_name(name, groups), authority.subject, key.public_key())
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    usages = [ExtendedKeyUsageOID.CLIENT_AUTH]
    if hosts:
        usages.append(ExtendedKeyUsageOID.SERVER_AUTH)
        names = x509.SubjectAlternativeName([_general_name(host) for host in hosts])
        builder = builder.add_extension(names, critical=False)
    builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    return _pem(builder.sign(signer, hashes.SHA256())), _key_pem(key)


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _name(name: str, groups: Sequence[str]) -> x509.Name:
    organizations = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
    return x509.Name([*organizations, x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
    builder = builder.serial_number(x509.random_serial_number())
    return builder.not_valid_before(now - dt.timedelta(hours=1)).not_valid_after(now + LIFETIME)


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _key_pem(key: ec.EllipticCurvePrivateKey, shape: serialization.PrivateFormat = _USUAL) -> str:
    return key.private_bytes(serialization.Encoding.PEM, shape, serialization.NoEncryption()).decode()
