"""Provider `tls`: key pairs, kept in the state."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from typing import ClassVar

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from tests.sandbox.plugins.base.framework import Call, Failure, Field, Fields, Kind, Provider, Resource
from tests.sandbox.plugins.base.properties import Properties
from tests.sandbox.plugins.base.server import main

_CURVES: dict[str, type[ec.EllipticCurve]] = {
    "P224": ec.SECP224R1,
    "P256": ec.SECP256R1,
    "P384": ec.SECP384R1,
    "P521": ec.SECP521R1,
}
_Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


class PrivateKey(Resource):
    """A key pair. Any change makes a new one."""

    full_name = "tls:index/privateKey:PrivateKey"
    inputs: ClassVar[Fields] = {
        "algorithm": Field(required=True, replace=True, choices=("RSA", "ECDSA", "ED25519")),
        "ecdsaCurve": Field(replace=True, default="P224", choices=tuple(_CURVES)),
        "rsaBits": Field(Kind.INTEGER, replace=True, default=2048),
    }
    outputs = (
        "privateKeyOpenssh",
        "privateKeyPem",
        "privateKeyPemPkcs8",
        "publicKeyFingerprintMd5",
        "publicKeyFingerprintSha256",
        "publicKeyOpenssh",
        "publicKeyPem",
    )
    secret_outputs = frozenset({"privateKeyOpenssh", "privateKeyPem", "privateKeyPemPkcs8"})

    def validate(self, inputs: Properties) -> Iterable[Failure]:
        if isinstance(inputs["rsaBits"], int) and inputs["rsaBits"] < 1024:
            yield Failure("rsaBits", "must be at least 1024")

    def create(self, call: Call, inputs: Properties) -> tuple[str, Properties]:
        del call
        key = _generate(inputs)
        der = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        outputs = {
            "privateKeyPem": _private(key, _traditional(key)),
            "privateKeyPemPkcs8": _private(key, PrivateFormat.PKCS8),
            "publicKeyPem": key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode(),
            "privateKeyOpenssh": "",
            "publicKeyOpenssh": "",
            "publicKeyFingerprintMd5": "",
            "publicKeyFingerprintSha256": "",
        }
        if not (isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP224R1)):
            outputs |= _openssh(key)
        return hashlib.sha1(der, usedforsecurity=False).hexdigest(), outputs


def _generate(inputs: Properties) -> _Key:
    match inputs["algorithm"]:
        case "RSA":
            return rsa.generate_private_key(public_exponent=65537, key_size=inputs["rsaBits"])
        case "ECDSA":
            return ec.generate_private_key(_CURVES[inputs["ecdsaCurve"]]())
        case _:
            return ed25519.Ed25519PrivateKey.generate()


def _traditional(key: _Key) -> PrivateFormat:
    """PKCS#1 or SEC 1, which Ed25519 has no counterpart of."""
    return PrivateFormat.PKCS8 if isinstance(key, ed25519.Ed25519PrivateKey) else PrivateFormat.TraditionalOpenSSL


def _private(key: _Key, form: PrivateFormat) -> str:
    return key.private_bytes(Encoding.PEM, form, NoEncryption()).decode()


def _openssh(key: _Key) -> Properties:
    """What OpenSSH knows all keys by, those on the curve P-224 excepted."""
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    blob = base64.b64decode(public.split()[1])
    md5 = hashlib.md5(blob, usedforsecurity=False).hexdigest()
    sha256 = base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")
    return {
        "privateKeyOpenssh": _private(key, PrivateFormat.OpenSSH),
        "publicKeyOpenssh": f"{public}\n",
        "publicKeyFingerprintMd5": ":".join(md5[place : place + 2] for place in range(0, len(md5), 2)),
        "publicKeyFingerprintSha256": f"SHA256:{sha256}",
    }


class Tls(Provider):
    """The provider; it needs no configuration."""

    name = "tls"
    distribution = "pulumi-tls"
    resources = (PrivateKey(),)


if __name__ == "__main__":
    main(Tls())
