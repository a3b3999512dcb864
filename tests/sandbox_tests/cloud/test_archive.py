"""Package archives of the sandbox, judged by apt and asked over HTTP."""

from __future__ import annotations

import subprocess
from pathlib import Path

import httpx
import pytest

from tests.sandbox.agent.build import build as build_agent
from tests.sandbox.cloud.archive import mirror
from tests.sandbox.cloud.archive.signing import Signer, publish
from tests.sandbox.cloud.packages import create_packages_app
from tests.sandbox.layout import GITLAB_PACKAGES_HOST, INSIGHTS_HOST, MIRROR_HOST


def make_package(folder: Path, name: str, version: str) -> Path:
    tree = folder / "tree" / "DEBIAN"
    tree.mkdir(parents=True)
    fields = {"Package": name, "Version": version, "Architecture": "all", "Maintainer": "nobody", "Description": "test"}
    (tree / "control").write_text("".join(f"{field}: {value}\n" for field, value in fields.items()))
    package = folder / f"{name}_{version}_all.deb"
    subprocess.run(["dpkg-deb", "--build", folder / "tree", package], check=True, capture_output=True)
    return package


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A cache with two packages of GitLab's and an empty Debian mirror."""
    mirror.make_keys(tmp_path)
    packages = [make_package(tmp_path / v, "gitlab-ce", v) for v in ("19.2.1-ce.0", "19.3.0-ce.0")]
    mirror.publish_gitlab(packages, "trixie", tmp_path)
    with Signer(mirror.folder(tmp_path) / "keys") as signer:
        publish(mirror.folder(tmp_path) / "debian", "trixie", "amd64", origin="Debian", signer=signer, key=mirror.KEY)
    return tmp_path


def test_a_package_that_is_not_built_any_more_leaves_the_archive(cache: Path, tmp_path: Path) -> None:
    kept = make_package(tmp_path / "kept", "gitlab-ce", "19.3.0-ce.0")
    mirror.publish_gitlab([kept], "trixie", cache)
    folder = mirror.folder(cache) / "gitlab/trixie/pool/trixie"
    assert [path.name for path in folder.iterdir()] == [kept.name]


def apt_offers(folder: Path, archive: Path, key: bytes, package: str) -> str:
    """What an apt of its own, which trusts only `key`, would install from `archive`: a version, or its refusal."""
    for part in ("state/lists/partial", "cache/archives/partial"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    (folder / "key.gpg").write_bytes(key)
    (folder / "status").touch()
    (folder / "list").write_text(f"deb [signed-by={folder}/key.gpg] file:{archive} trixie main\n")
    settings = {
        "Dir::State": folder / "state",
        "Dir::State::status": folder / "status",
        "Dir::Cache": folder / "cache",
        "Dir::Etc::sourcelist": folder / "list",
        "Dir::Etc::sourceparts": "/dev/null",
        "APT::Sandbox::User": "root",
        "APT::Update::Error-Mode": "any",
    }
    options = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
    update = subprocess.run(["apt-get", *options, "update"], capture_output=True, text=True, check=False)
    if update.returncode:
        return update.stderr
    shown = subprocess.run(["apt-cache", *options, "policy", package], capture_output=True, text=True, check=True)
    return shown.stdout


def gitlab_keyring(cache: Path) -> bytes:
    with Signer(mirror.folder(cache) / "keys") as signer:
        return signer.public_key(mirror.GITLAB_KEY, armored=False)


def test_apt_finds_a_published_package_with_the_key_of_the_archive(cache: Path, tmp_path: Path) -> None:
    key = gitlab_keyring(cache)
    assert "Candidate: 19.3.0-ce.0" in apt_offers(
        tmp_path / "apt", mirror.folder(cache) / "gitlab/trixie", key, "gitlab-ce"
    )


def test_apt_refuses_an_archive_with_another_key(cache: Path, tmp_path: Path) -> None:
    key = mirror.keyring(cache).read_bytes()
    assert "NO_PUBKEY" in apt_offers(tmp_path / "apt", mirror.folder(cache) / "gitlab/trixie", key, "gitlab-ce")


def test_apt_refuses_an_archive_that_was_changed_after_it_was_signed(cache: Path, tmp_path: Path) -> None:
    archive, key = mirror.folder(cache) / "gitlab" / "trixie", gitlab_keyring(cache)
    for index in (archive / "dists/trixie/main/binary-amd64").iterdir():
        index.write_bytes(b"Package: smuggled\nVersion: 1\n")
    refusal = apt_offers(tmp_path / "apt", archive, key, "smuggled")
    assert "unexpected size" in refusal or "Failed to fetch" in refusal
    assert "Candidate" not in refusal


def test_keys_are_kept_and_everything_is_signed_again_if_they_are_lost(cache: Path) -> None:
    first = mirror.keyring(cache).read_bytes()
    mirror.make_keys(cache)
    assert mirror.keyring(cache).read_bytes() == first
    mirror.keyring(cache).unlink()
    mirror.make_keys(cache)
    assert not list(mirror.folder(cache).rglob("InRelease"))


def test_a_checkout_can_have_a_long_path(tmp_path: Path) -> None:
    deep = tmp_path / ("long" * 30)
    mirror.make_keys(deep)
    assert mirror.keyring(deep).read_bytes()


def test_a_package_can_be_limited_to_some_releases() -> None:
    assert "docker-buildx" in mirror.wanted_packages("trixie")
    assert "docker-buildx" not in mirror.wanted_packages("bookworm")
    assert "docker.io" in mirror.wanted_packages("bookworm")


async def status(cache: Path, host: str, path: str) -> int:
    transport = httpx.ASGITransport(create_packages_app(cache))
    async with httpx.AsyncClient(transport=transport) as client:
        return (await client.get(f"https://{host}{path}")).status_code


async def test_each_archive_answers_under_its_own_name_only(cache: Path) -> None:
    vendor = "/gitlab/gitlab-ce/debian/trixie/dists/trixie/InRelease"
    assert await status(cache, MIRROR_HOST, "/debian/dists/trixie/InRelease") == 200
    assert await status(cache, GITLAB_PACKAGES_HOST, vendor) == 200
    assert await status(cache, GITLAB_PACKAGES_HOST, "/debian/dists/trixie/InRelease") == 404
    assert await status(cache, MIRROR_HOST, vendor) == 404
    assert await status(cache, "elsewhere.example.com", "/debian/dists/trixie/InRelease") == 404


async def test_the_runners_archive_has_one_root_for_all_suites_and_keeps_older_versions(
    cache: Path, tmp_path: Path
) -> None:
    packages = [make_package(tmp_path / v, "gitlab-runner", f"{v}-1") for v in ("19.2.1", "19.3.0")]
    mirror.publish_runner(packages, "trixie", cache)
    base = "/runner/gitlab-runner/debian"
    assert await status(cache, GITLAB_PACKAGES_HOST, f"{base}/dists/trixie/InRelease") == 200
    assert await status(cache, GITLAB_PACKAGES_HOST, f"{base}/pool/trixie/gitlab-runner_19.2.1-1_all.deb") == 200
    assert await status(cache, GITLAB_PACKAGES_HOST, f"{base}/trixie/dists/trixie/InRelease") == 404
    assert await status(cache, GITLAB_PACKAGES_HOST, "/gitlab/gitlab-ce/debian/dists/trixie/InRelease") == 404
    assert await status(cache, MIRROR_HOST, f"{base}/dists/trixie/InRelease") == 404
    offered = apt_offers(
        tmp_path / "apt", mirror.folder(cache) / "gitlab-runner", gitlab_keyring(cache), "gitlab-runner"
    )
    assert "Candidate: 19.3.0-1" in offered
    assert "19.2.1-1" in offered


async def test_the_agents_archive_has_one_suite_for_all_releases_and_a_key_of_its_own(cache: Path) -> None:
    mirror.publish_agent(build_agent("3.18.14", cache / "built"), cache)
    assert await status(cache, INSIGHTS_HOST, "/apt/do-agent/dists/main/InRelease") == 200
    assert await status(cache, INSIGHTS_HOST, "/apt/do-agent/pool/main/do-agent_3.18.14_all.deb") == 200
    assert await status(cache, INSIGHTS_HOST, "/sonar-agent.asc") == 200
    assert await status(cache, MIRROR_HOST, "/sonar-agent.asc") == 404
    assert mirror.agent_key(cache).read_bytes() != mirror.gitlab_key(cache).read_bytes()


async def test_the_vendor_key_has_the_vendors_path_and_private_keys_are_not_served(cache: Path) -> None:
    for path in ("/gitlab/gitlab-ce/gpgkey", "/runner/gitlab-runner/gpgkey", "/gpgkey/gpg.key"):
        assert await status(cache, GITLAB_PACKAGES_HOST, path) == 200
        assert await status(cache, MIRROR_HOST, path) == 404
    assert mirror.gitlab_key(cache).read_text().startswith("-----BEGIN PGP PUBLIC KEY BLOCK-----")
    assert (mirror.folder(cache) / "keys/pubring.kbx").exists()
    for way in ("..", "%2e%2e", "trixie/../..", "trixie/%2e%2e/%2e%2e"):
        assert await status(cache, GITLAB_PACKAGES_HOST, f"/gitlab/gitlab-ce/debian/{way}/keys/pubring.kbx") == 404
