"""Which certificate authorities are trusted on the machine that runs Pulumi and the tools.

Those of its system, and beside them the stack's own: a private authority, or the staging roots of Let's Encrypt.
Libraries that bring roots of their own along trust neither, so every connection to a stack uses what is here.
"""

from __future__ import annotations

import pkgutil
import ssl
from contextlib import suppress
from pathlib import Path


def trust(ca_certificate: str | None = None) -> ssl.SSLContext:
    """Return a context that trusts this machine's authorities and, beside them, `ca_certificate`, which is PEM.

    The machine's are those that the system's Python trusts or, if that is nothing, those that the engine's protocol
    library brings along: Python as python.org packages it for macOS trusts no authority until somebody runs its
    "Install Certificates".

    Raises:
        ssl.SSLError: `ca_certificate` has no certificate.
    """
    context = ssl.create_default_context()
    folder = _folder()
    has_folder = bool(folder and any(folder.iterdir()))
    if not (ssl.get_default_verify_paths().cafile or has_folder or context.get_ca_certs()):
        authorities = pkgutil.get_data("grpc", "_cython/_credentials/roots.pem") or b""
        context.load_verify_locations(cadata=authorities.decode())
    if ca_certificate:
        context.load_verify_locations(cadata=ca_certificate)
    return context


def bundle(ca_certificate: str | None) -> str:
    """Return the same authorities as PEM, for what reads a file: the stack's own first."""
    context = trust()
    folder = _folder()
    if folder and not context.get_ca_certs():
        # OpenSSL opens the files of a folder only when it looks for one of them.
        for file in folder.iterdir():
            with suppress(OSError):
                context.load_verify_locations(cafile=str(file))
    machine = [ssl.DER_cert_to_PEM_cert(one) for one in context.get_ca_certs(binary_form=True)]
    return "\n".join([*([ca_certificate.strip()] if ca_certificate else []), *machine])


def _folder() -> Path | None:
    path = ssl.get_default_verify_paths().capath
    return Path(path) if path else None
