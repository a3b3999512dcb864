"""A partial Debian mirror for machines without the internet, served as `mirrors.digitalocean.com`.

Downloads a list of packages and all their dependencies from the archive that the machine's own apt uses. The Debian
release need not be the machine's own. Machines trust the key that the mirror is signed with.
"""

from __future__ import annotations

import filecmp
import hashlib
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from tests.sandbox.cloud.archive.signing import Signer, publish
from tools.progress import Say, ToolError, run, say

_HERE = Path(__file__).parent
PACKAGES_FILE = _HERE / "mirror-packages.txt"
TRUST = "/usr/share/keyrings/debian-archive-keyring.gpg"
KEY = "Debian mirror"
GITLAB_KEY = "GitLab packages"
AGENT_KEY = "DigitalOcean agent"
#: The agent has one archive for all releases of all distributions.
AGENT_SUITE = "main"

_TEMPLATES = Environment(loader=FileSystemLoader(_HERE), undefined=StrictUndefined, autoescape=False)  # noqa: S701


def folder(cache: Path) -> Path:
    """Where both archives and their keys are."""
    return cache / "mirror"


def pool(suite: str, cache: Path) -> Path:
    """Where the packages of one Debian release are; filled by `build`."""
    return folder(cache) / "debian" / "pool" / suite


def keyring(cache: Path) -> Path:
    """The public key of the Debian mirror, as apt's `Signed-By` takes it; made by `make_keys`."""
    return folder(cache) / "keyring.gpg"


def gitlab_key(cache: Path) -> Path:
    """The public key of GitLab's archive (armored); made by `make_keys`."""
    return folder(cache) / "gitlab.asc"


def agent_key(cache: Path) -> Path:
    """The public key of the metrics agent's archive (armored); made by `publish_agent`."""
    return folder(cache) / "agent.asc"


def make_keys(cache: Path) -> None:
    """Create the keys that both archives are signed with. `build` signs again what was signed with lost keys."""
    keys = folder(cache) / "keys"
    if keys.exists() and keyring(cache).exists() and gitlab_key(cache).exists():
        return
    for signed in folder(cache).rglob("InRelease"):
        signed.unlink()
    with Signer(keys) as signer:
        keyring(cache).write_bytes(signer.public_key(KEY, armored=False))
        gitlab_key(cache).write_bytes(signer.public_key(GITLAB_KEY, armored=True))


def wanted_packages(suite: str) -> list[str]:
    """The packages of the list that are meant for a release: all, but for those after which other releases stand."""
    lines = (line.partition("#")[0].split() for line in PACKAGES_FILE.read_text().splitlines())
    return [words[0] for words in lines if words and (len(words) == 1 or suite in words[1:])]


def build(suite: str, cache: Path, progress: Say = say) -> Path:
    """Have the mirror of one release; returns its root. Downloads some 200 MB unless the cache has it.

    `ToolError` when the archive cannot be reached or lacks a package.
    """
    root, stamp = folder(cache) / "debian", folder(cache) / f"{suite}.stamp"
    wanted = _fingerprint(suite)
    if stamp.exists() and stamp.read_text() == wanted and (root / "dists" / suite / "InRelease").exists():
        progress(f"mirror {suite}: cached")
        return root
    stamp.unlink(missing_ok=True)
    progress(f"mirror {suite}: downloading {len(wanted_packages(suite))} packages and what they need")
    debian = pool(suite, cache)
    (debian / "partial").mkdir(parents=True, exist_ok=True)
    _download(suite, cache, debian)
    _name_as_archive(debian)
    with Signer(folder(cache) / "keys") as signer:
        publish(root, suite, _architecture(), origin="Debian", signer=signer, key=KEY)
    stamp.write_text(wanted)
    count, size = _size(debian)
    progress(f"mirror {suite}: {count} packages, {size // 2**20} MB")
    return root


def publish_gitlab(packages: Sequence[Path], suite: str, cache: Path) -> None:
    """Put the built packages of GitLab into the archive that machines know as packages.gitlab.com."""
    _publish(packages, folder(cache) / "gitlab" / suite, suite, cache)


def publish_runner(packages: Sequence[Path], suite: str, cache: Path) -> None:
    """Put the built packages of the runner into its own archive on packages.gitlab.com."""
    _publish(packages, folder(cache) / "gitlab-runner", suite, cache)


def publish_agent(packages: Sequence[Path], cache: Path) -> None:
    """Put the built package of the metrics agent into its own archive on repos.insights.digitalocean.com."""
    with Signer(folder(cache) / "keys") as signer:
        agent_key(cache).write_bytes(signer.public_key(AGENT_KEY, armored=True))
    _publish(packages, folder(cache) / "do-agent", AGENT_SUITE, cache, vendor="DigitalOcean", key=AGENT_KEY)


def _publish(
    packages: Sequence[Path], root: Path, suite: str, cache: Path, *, vendor: str = "GitLab", key: str = GITLAB_KEY
) -> None:
    place = root / "pool" / suite
    place.mkdir(parents=True, exist_ok=True)
    kept = {package: place / package.name for package in packages}
    is_signed = (root / "dists" / suite / "InRelease").exists()
    former = set(place.glob("*.deb")) - set(kept.values())
    same = all(copy.exists() and filecmp.cmp(made, copy, shallow=False) for made, copy in kept.items())
    if is_signed and same and not former:
        return
    for package in former:
        package.unlink()
    for made, copy in kept.items():
        shutil.copy2(made, copy)
    with Signer(folder(cache) / "keys") as signer:
        publish(root, suite, _architecture(), origin=vendor, signer=signer, key=key)


def _download(suite: str, cache: Path, pool: Path) -> None:
    work = folder(cache) / f"apt-{suite}"
    for part in ("state/lists/partial", "cache"):
        (work / part).mkdir(parents=True, exist_ok=True)
    (work / "state" / "status").write_text("")
    (work / "sources.list").write_text("".join(f"{line}\n" for line in _sources(suite)))
    text = _TEMPLATES.get_template("apt.conf.j2").render(work=work, archives=pool, architecture=_architecture())
    (work / "apt.conf").write_text(text)
    environment = {**os.environ, "APT_CONFIG": str(work / "apt.conf"), "LC_ALL": "C.UTF-8"}
    log = cache / "logs" / f"mirror-{suite}.log"
    run(
        f"mirror {suite}: package lists",
        ["apt-get", "-q", "update", "-o", "APT::Update::Error-Mode=any"],
        log,
        environment,
    )
    fetch = ["apt-get", "-q", "install", "--download-only", *wanted_packages(suite)]
    run(f"mirror {suite}: packages", fetch, log, environment)


def _sources(suite: str) -> list[str]:
    """The machine's own Debian archives, with the wanted release instead of the machine's."""
    fields = "$(REPO_URI) $(RELEASE) $(COMPONENT)"
    asked = ["apt-get", "indextargets", "--format", fields, "Created-By: Packages", "Origin: Debian"]
    listed = subprocess.run(asked, check=True, capture_output=True, text=True).stdout.splitlines()
    own = _codename()
    lines = dict.fromkeys(
        f"deb [signed-by={TRUST}] {uri} {release.replace(own, suite)} {component}"
        for uri, release, component in (line.split(" ", 2) for line in listed)
        if release.startswith(own) and component == "main"
    )
    if not lines:
        raise ToolError(f"apt on this machine knows no Debian archive of {own}: run `apt-get update` and try again")
    return list(lines)


def _codename() -> str:
    lines = Path("/etc/os-release").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line).get("VERSION_CODENAME", "").strip('"')


def _architecture() -> str:
    return subprocess.run(["dpkg", "--print-architecture"], check=True, capture_output=True, text=True).stdout.strip()


def _name_as_archive(pool: Path) -> None:
    """File names without epoch, as in every archive: apt's own cache writes it as `%3a`."""
    for package in pool.glob("*.deb"):
        name, version, rest = package.name.split("_", 2)
        package.rename(pool / f"{name}_{version.rpartition('%3a')[2]}_{rest}")
    shutil.rmtree(pool / "partial", ignore_errors=True)
    (pool / "lock").unlink(missing_ok=True)


def _fingerprint(suite: str) -> str:
    template = (_HERE / "apt.conf.j2").read_text()
    return hashlib.sha256("\n".join([suite, template, *wanted_packages(suite)]).encode()).hexdigest()


def _size(pool: Path) -> tuple[int, int]:
    sizes = [package.stat().st_size for package in pool.glob("*.deb")]
    return len(sizes), sum(sizes)
