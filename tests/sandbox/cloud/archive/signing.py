"""Signed apt repositories, made with apt's and GnuPG's own tools."""

from __future__ import annotations

import gzip
import os
import subprocess
import tempfile
from pathlib import Path


class Signer:
    """Keys that sign repositories, kept in one folder for as long as the cache lives. No passphrase, no expiry.

    A context: GnuPG starts an agent for it, which ends with it.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # The path of the agent's socket has at most 107 bytes, wherever the checkout is: it is reached by a short one.
        self._short = tempfile.TemporaryDirectory(prefix="sign-")
        home = Path(self._short.name) / "home"
        home.symlink_to(folder)
        self._environment = {"PATH": os.environ.get("PATH", ""), "GNUPGHOME": str(home), "LC_ALL": "C.UTF-8"}

    def __enter__(self) -> Signer:
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run(["gpgconf", "--kill", "all"], check=False, capture_output=True, env=self._environment)
        self._short.cleanup()

    def public_key(self, name: str, *, armored: bool) -> bytes:
        """The public key called `name`, made if there is none. `ValueError` if GnuPG gives nothing."""
        user = f"{name} (sandbox)"
        if not self._gpg("--list-secret-keys", "--with-colons", f"={user}", check=False):
            self._gpg("--passphrase", "", "--quick-generate-key", user, "ed25519", "sign", "never")
        key = self._gpg(*(["--armor"] if armored else []), "--export", f"={user}")
        if not key:
            raise ValueError(f"no key for {user}")
        return key

    def sign(self, release: Path, name: str) -> None:
        """Write `InRelease` and `Release.gpg` beside a `Release`."""
        user = f"={name} (sandbox)"
        clear, detached = release.with_name("InRelease"), release.with_name("Release.gpg")
        self._gpg("--local-user", user, "--clearsign", "--output", str(clear), str(release))
        self._gpg("--local-user", user, "--armor", "--detach-sign", "--output", str(detached), str(release))

    def _gpg(self, *arguments: str, check: bool = True) -> bytes:
        command = ["gpg", "--batch", "--yes", "--quiet", "--no-tty", "--pinentry-mode", "loopback", *arguments]
        done = subprocess.run(command, check=False, capture_output=True, env=self._environment)
        if check and done.returncode:
            raise RuntimeError(f"gpg {arguments[-1]}: {done.stderr.decode(errors='replace').strip()}")
        return done.stdout


def publish(root: Path, suite: str, architecture: str, *, origin: str, signer: Signer, key: str) -> None:
    """Make `root` (with packages under `pool/`) a signed repository `root suite main`."""
    dists = root / "dists" / suite
    binary = dists / "main" / f"binary-{architecture}"
    binary.mkdir(parents=True, exist_ok=True)
    (root / "pool" / suite).mkdir(parents=True, exist_ok=True)
    packages = _ftparchive(root, "--arch", architecture, "packages", f"pool/{suite}")
    (binary / "Packages").write_bytes(packages)
    (binary / "Packages.gz").write_bytes(gzip.compress(packages, mtime=0))
    for stale in ("Release", "InRelease", "Release.gpg"):
        (dists / stale).unlink(missing_ok=True)
    fields = {
        "Origin": origin,
        "Label": origin,
        "Suite": suite,
        "Codename": suite,
        "Components": "main",
        "Architectures": architecture,
    }
    options = [word for name, value in fields.items() for word in ("-o", f"APT::FTPArchive::Release::{name}={value}")]
    release = _ftparchive(root, *options, "release", f"dists/{suite}")
    (dists / "Release").write_bytes(release)
    signer.sign(dists / "Release", key)


def _ftparchive(folder: Path, *arguments: str) -> bytes:
    done = subprocess.run(["apt-ftparchive", "-q=2", *arguments], cwd=folder, check=False, capture_output=True)
    if done.returncode:
        raise RuntimeError(f"apt-ftparchive {arguments[-2]}: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout
