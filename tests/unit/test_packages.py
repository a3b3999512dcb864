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


def test_the_pinned_key_is_trusted(keys: Keys) -> None:
    assert keys.trust(keys.file(keys.pinned), keys.pinned) == ("", [keys.pinned])


@pytest.mark.parametrize("order", [("pinned", "foreign"), ("foreign", "pinned")])
def test_a_file_with_another_primary_key_is_refused_and_all_are_named(keys: Keys, order: tuple[str, ...]) -> None:
    found = [getattr(keys, name) for name in order]
    said, trusted = keys.trust(keys.file(*found), keys.pinned)
    assert f"has more keys than {keys.pinned}: {','.join(found)}; nothing was installed" in said
    assert trusted == []


#: apt as it is by default: an archive that it cannot reach is a warning, and an error only on request.
APT = """
with_apt_lock() { "$@"; }
apt-get() {
  [[ $* != *Error-Mode=any* ]] || [ -z "$UNREACHABLE" ] || { say "E: Could not connect to 192.0.2.1:443"; return 100; }
}
apt-cache() { echo " gitlab-ce | 19.3.0-ce.0 | https://packages.example.test"; }
"""


@pytest.mark.parametrize(
    ("unreachable", "version", "said"),
    [
        ("", "19.3.0-ce.0", ""),
        ("", "19.9.0-ce.0", "error: gitlab-ce 19.9.0-ce.0 is not in the repository; nothing was installed"),
        (
            "yes",
            "19.9.0-ce.0",
            "error: the list of packages could not be downloaded from the repository of gitlab-ce",
        ),
    ],
)
def test_an_archive_out_of_reach_is_not_taken_for_one_that_lacks_the_version(
    tmp_path: Path, unreachable: str, version: str, said: str
) -> None:
    (tmp_path / "gitlab-ce.list").write_text("deb [signed-by=/x.asc] https://packages.example.test/ubuntu noble main\n")
    functions = script("packages.sh").replace("/etc/apt/sources.list.d", str(tmp_path))
    text = (
        f"{script('prelude.sh')}\n{functions}\n{APT}\nUNREACHABLE={unreachable}\nrequire_available gitlab-ce {version}"
    )
    done = subprocess.run(["bash", "-s"], input=text, capture_output=True, text=True, check=False)
    assert (done.returncode == 0) is (said == "")
    assert said in done.stderr


def test_a_file_without_the_pinned_key_is_refused_and_its_keys_are_named(keys: Keys) -> None:
    said, _ = keys.trust(keys.file(keys.foreign), keys.pinned)
    assert f".key is {keys.foreign}, not {keys.pinned}; nothing was installed" in said


def test_a_file_without_any_key_is_refused(keys: Keys) -> None:
    said, _ = keys.trust(keys.file(), keys.pinned)
    assert f"is not a key, not {keys.pinned}; nothing was installed" in said


def test_an_unpinned_repository_is_trusted_with_all_keys_of_its_file(keys: Keys) -> None:
    said, trusted = keys.trust(keys.file(keys.foreign, keys.pinned), "unpinned")
    assert (said, trusted) == ("", [keys.foreign, keys.pinned])


@pytest.mark.parametrize(("reachable", "offered"), [(False, ""), (True, ""), (True, "19.3.1-ce.0")])
def test_a_repository_out_of_reach_is_not_taken_for_one_that_lacks_the_version(
    tmp_path: Path, reachable: bool, offered: str
) -> None:
    # As apt does: without that option, a list that cannot be downloaded is only a warning.
    apt = """
    apt-get() {
      [ "$REACHABLE" = True ] && return
      echo "W: Failed to fetch https://packages.example/InRelease" >&2
      [[ "$*" != *Error-Mode=any* ]]
    }
    apt-cache() { [ -z "$OFFERED" ] || echo "gitlab-ce | $OFFERED | https://packages.example"; }
    """
    values = f"REACHABLE={reachable} OFFERED={offered} PACKAGES_LOG={tmp_path}/log"
    functions = "\n".join(script(name) for name in ("prelude.sh", "apt.sh", "packages.sh"))
    text = f"{functions}\n{values}\n{apt}\nrequire_available gitlab-ce 19.3.1-ce.0"
    done = subprocess.run(["bash", "-s"], input=text, capture_output=True, text=True, check=False)
    if not reachable:
        assert "could not be downloaded from the repository of gitlab-ce; nothing was installed" in done.stderr
        assert "W: Failed to fetch https://packages.example/InRelease" in done.stderr
    elif not offered:
        assert done.stderr == "error: gitlab-ce 19.3.1-ce.0 is not in the repository; nothing was installed\n"
    assert (done.returncode == 0) == bool(offered)
