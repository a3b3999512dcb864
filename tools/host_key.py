"""Make a stack use the SSH host key that its server has taken over from a backup.

The key is a resource of the stack, and every connection is pinned to it.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_ssh_private_key,
)

from tools.clients import CheckError
from tools.progress import ToolError
from tools.state import put_outputs, secret

_RESOURCE: Final = "tls:index/privateKey:PrivateKey::server-host-keys-lasting"


def take_over(which: list[str], private_key: str) -> None:
    """Put a key, in OpenSSH's format, in the place of the stack's own.

    Raises:
        ToolError: it is not such a key, or the state cannot be changed.
    """
    try:
        outputs = key_outputs(private_key)
        put_outputs(which, _RESOURCE, outputs, str(outputs["id"]))
    except (CheckError, ValueError) as error:
        raise ToolError(
            f"the backup is restored with its host key, but the stack does not have that key yet: {error}. Restore "
            "again with --host-key keep, from the server's console"
        ) from error


def key_outputs(private_key: str) -> dict[str, Any]:
    """Return the outputs of a `tls.PrivateKey` for an Ed25519 key; secrets are marked as Pulumi does.

    Raises:
        ValueError: it is not an Ed25519 key in OpenSSH's format.
    """
    key = load_ssh_private_key(private_key.encode(), None)
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError("the host key of the backup is not an Ed25519 key")
    public = key.public_key()
    line = public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    blob = base64.b64decode(line.split()[1])
    md5 = hashlib.md5(blob, usedforsecurity=False).hexdigest()
    sha256 = base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")
    pkcs8 = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    openssh = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    return {
        "id": hashlib.sha1(pem.encode(), usedforsecurity=False).hexdigest(),
        "privateKeyOpenssh": secret(openssh),
        "privateKeyPem": secret(pkcs8),
        "privateKeyPemPkcs8": secret(pkcs8),
        "publicKeyFingerprintMd5": ":".join(md5[at : at + 2] for at in range(0, len(md5), 2)),
        "publicKeyFingerprintSha256": f"SHA256:{sha256}",
        "publicKeyOpenssh": f"{line.decode()}\n",
        "publicKeyPem": pem,
    }
