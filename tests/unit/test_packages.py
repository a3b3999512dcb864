"""Which keys apt trusts after a step has downloaded those of a repository."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from components.rendering import script


@dataclass(frozen=True)
class Keys:
    """Two signing keys, and the files that a repository could offer."""

    folder: Path
    pinned: str
    foreign: str

    def file(self, *fingerprints: str) -> str:
        """The URL of a file with these keys, in that order."""
        content = "".join(gpg(self.folder, "--armor", "--export", one) for one in fingerprints)
        path = self.folder / f"{'-'.join(one[:8] for one in fingerprints) or 'empty'}.key"
        path.write_text(content)
        return path.as_uri()

    def trust(self, url: str, fingerprint: str) -> tuple[str, list[str]]:
        """Run the function of the step; what it said, and the primary keys that apt then trusts."""
        functions = script("packages.sh").replace("/etc/apt", str(self.folder / "apt"))
        text = f"{script('prelude.sh')}\n{functions}\nKEY_FINGERPRINT={fingerprint}\ntrust_key {url} gitlab"
        done = subprocess.run(["bash", "-s"], input=text, capture_output=True, text=True, check=False)
        keyring = self.folder / "apt/keyrings/gitlab.asc"
        if done.returncode or not keyring.exists():
            return done.stderr, []
        shown = gpg(self.folder, "--show-keys", "--with-colons", str(keyring)).splitlines()
        primary = [place for place, line in enumerate(shown) if line.startswith("pub:")]
        return done.stderr, [shown[place + 1].split(":")[9] for place in primary]


def gpg(home: Path, *words: str) -> str:
    command = ["gpg", "--homedir", str(home), "--batch", *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keys]:
    home = tmp_path_factory.mktemp("gpg")
    os.chmod(home, 0o700)  # noqa: PTH101 - gpg refuses a folder that others can read
    found = []
    for name in ("pinned", "foreign"):
        gpg(home, "--passphrase", "", "--quick-generate-key", f"{name} <{name}@example.test>", "ed25519", "sign")
        listed = gpg(home, "--list-keys", "--with-colons", name).splitlines()
        found.append(next(line for line in listed if line.startswith("fpr:")).split(":")[9])
    yield Keys(home, *found)
    subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=True)


@pytest.mark.parametrize("order", [("pinned",), ("pinned", "foreign"), ("foreign", "pinned")])
def test_only_the_pinned_key_is_trusted_whatever_else_the_file_contains(keys: Keys, order: tuple[str, ...]) -> None:
    url = keys.file(*(getattr(keys, name) for name in order))
    assert keys.trust(url, keys.pinned) == ("", [keys.pinned])


def test_a_file_without_the_pinned_key_is_refused_and_its_keys_are_named(keys: Keys) -> None:
    said, _ = keys.trust(keys.file(keys.foreign), keys.pinned)
    assert f".key is {keys.foreign}, not {keys.pinned}; nothing was installed" in said


def test_a_file_without_any_key_is_refused(keys: Keys) -> None:
    said, _ = keys.trust(keys.file(), keys.pinned)
    assert f"is not a key, not {keys.pinned}; nothing was installed" in said


def test_an_unpinned_repository_is_trusted_with_all_keys_of_its_file(keys: Keys) -> None:
    said, trusted = keys.trust(keys.file(keys.foreign, keys.pinned), "unpinned")
    assert (said, trusted) == ("", [keys.foreign, keys.pinned])
