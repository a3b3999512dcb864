"""Whether a provided certificate, its chain and its private key belong together and to this installation.

After a reload with a certificate and another key, nginx keeps serving the old pair, and does not start the next time:
nobody notices until a reboot. Everything that can be known is therefore checked before the first step.
"""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Iterator
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID

from components.settings.certificate import Certificate, CertificateSource

#: Debian's and Ubuntu's OpenSSL (security level 2) rejects certificates with a shorter RSA key.
_SHORTEST_RSA_KEY: Final = 2048


def certificate_errors(certificate: Certificate, fqdn: str | None, now: datetime.datetime) -> Iterator[str]:
    """Yield what is wrong with the certificates of a stack file that is valid otherwise, each with its key path.

    `fqdn` is the name that GitLab has; None if it is not known, because the settings that it comes from are invalid.
    Says nothing about a certificate that is obtained on the server.
    """
    roots = _read("certificate.caCertificate", certificate.ca_certificate)
    yield from roots.errors
    yield from _dates("certificate.caCertificate", roots.certificates, now)
    if certificate.source is not CertificateSource.PROVIDED or not certificate.chain or not certificate.private_key:
        return
    chain = _read("certificate.chain", certificate.chain)
    yield from chain.errors
    yield from _key_errors(certificate.private_key.get_secret_value(), chain.certificates)
    if chain.certificates:
        yield from _order(chain.certificates)
        yield from _use(chain.certificates[0], fqdn)
        yield from _dates("certificate.chain", chain.certificates, now)


class _Pem:
    """Certificates read from PEM, or the error that they cannot be read."""

    def __init__(self, certificates: list[x509.Certificate], errors: list[str]) -> None:
        self.certificates, self.errors = certificates, errors


def _read(path: str, text: str | None) -> _Pem:
    if not text:
        return _Pem([], [])
    try:
        return _Pem(x509.load_pem_x509_certificates(text.encode()), [])
    except ValueError:
        error = (
            f"{path}: cannot be read as certificates in PEM format; nginx would not start. Copy the whole text again"
        )
        return _Pem([], [error])


def _key_errors(text: str, chain: list[x509.Certificate]) -> Iterator[str]:
    path = "certificate.privateKey"
    try:
        key: PrivateKeyTypes = load_pem_private_key(text.encode(), password=None)
    except TypeError:
        yield (
            f"{path}: is encrypted with a passphrase; nginx would not start, because nobody could enter it. Decrypt it "
            "with: openssl pkey -in FILE, and set the result with --secret"
        )
        return
    except (ValueError, UnsupportedAlgorithm):
        yield f"{path}: cannot be read as a private key; nginx would not start. Copy the whole text again"
        return
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size < _SHORTEST_RSA_KEY:
        yield (
            f"{path}: is an RSA key of {key.key_size} bits; clients would reject it. "
            f"Get a certificate for a key of {_SHORTEST_RSA_KEY} bits or more"
        )
    if not chain or _same(chain[0].public_key(), key.public_key()):
        return
    if any(_same(other.public_key(), key.public_key()) for other in chain[1:]):
        yield (
            "certificate.chain: does not begin with the certificate of privateKey; nginx would not start. "
            "Put the server's certificate first, then its intermediate certificates"
        )
        return
    yield (
        f"{path}: does not belong to the certificate in certificate.chain; nginx would serve the previous one until "
        "it restarts, and then not start. Set the key that the certificate was requested with"
    )


def _same(one: PublicKeyTypes, other: PublicKeyTypes) -> bool:
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return one.public_bytes(*form) == other.public_bytes(*form)


def _order(chain: list[x509.Certificate]) -> Iterator[str]:
    for place, (one, issuer) in enumerate(itertools.pairwise(chain), start=1):
        try:
            one.verify_directly_issued_by(issuer)
        except (ValueError, TypeError, InvalidSignature):
            yield (
                f"certificate.chain: certificate {place + 1} did not issue certificate {place}; clients could not "
                "verify the chain. Put each certificate before the one that issued it, and remove all others"
            )


def _use(leaf: x509.Certificate, fqdn: str | None) -> Iterator[str]:
    names = _names(leaf)
    if fqdn and not any(_covers(name, fqdn) for name in names):
        found = f"is for {', '.join(names)} and not" if names else "has no subjectAltName, so it is not"
        yield (
            f"certificate.chain: {found} for {fqdn}; clients would reject it. "
            f"Get a certificate whose subjectAltName contains {fqdn}, or change hostname and domain"
        )
    try:
        usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return
    if not {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE} & set(usage):
        yield (
            "certificate.chain: is not a certificate for servers (its extended key usage lacks serverAuth); clients "
            "would reject it. Get one for TLS servers"
        )


def _names(leaf: x509.Certificate) -> list[str]:
    try:
        found = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        # Go, and with it Docker and the runner, has ignored common names since 1.15.
        return []
    return [name.lower() for name in found.get_values_for_type(x509.DNSName)]


def _covers(name: str, fqdn: str) -> bool:
    """Whether a name of a certificate is that of a host; a wildcard stands for one label (RFC 6125)."""
    return name == fqdn or (name.startswith("*.") and name[2:] == fqdn.partition(".")[2])


def _dates(path: str, certificates: list[x509.Certificate], now: datetime.datetime) -> Iterator[str]:
    for place, one in enumerate(certificates, start=1):
        which = f"certificate {place} " if len(certificates) > 1 else ""
        if one.not_valid_after_utc <= now:
            yield (
                f"{path}: {which}expired on {one.not_valid_after_utc:%Y-%m-%d}; clients would reject it. "
                "Set a renewed one"
            )
        if one.not_valid_before_utc > now:
            yield (
                f"{path}: {which}is not valid before {one.not_valid_before_utc:%Y-%m-%d %H:%M} UTC; clients would "
                "reject it until then. Wait, or check the clock of this machine"
            )
