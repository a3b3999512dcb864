"""The container registry of the stand-in, in front of the real distribution: what GitLab's does and refuses."""

from __future__ import annotations

import errno
import json
import secrets
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.sandbox.gitlab.registry.documents import DOCKER_MANIFEST, OCI_MANIFEST, digest_of
from tests.sandbox_tests.support.registry_service import (
    AT_ONCE,
    Client,
    Registry,
    Store,
    bucket,
    error_of,
    folder,
    signer,
)
from tests.sandbox_tests.support.waiting import eventually

pytestmark = pytest.mark.real_time("the distribution and the S3 server are written in Go")

ACCEPTED_BY_GITLAB = {"accept": f"{DOCKER_MANIFEST}, {OCI_MANIFEST}"}
LAYER = b"layer " * 50_000


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """A registry of the test, which keeps images in a directory."""
    return Registry(tmp_path, folder(tmp_path).options)


@pytest.fixture(params=["filesystem", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """A directory, or a bucket."""
    if request.param == "filesystem":
        yield folder(tmp_path)
    else:
        with bucket(tmp_path) as found:
            yield found


@pytest.fixture(scope="module", params=[False, True], ids=["legacy", "database"])
def service(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a registry in each of the two modes, for tests that use a repository of their own."""
    directory = tmp_path_factory.mktemp("registry")
    with Registry(directory, folder(directory).options).serving(request.param) as found:
        yield found.url


@pytest.fixture
def client(service: str) -> Iterator[Client]:
    """A client of a repository that nobody else uses, in each of the two modes."""
    with Client(service, f"root/{secrets.token_hex(4)}") as found:
        yield found


@pytest.fixture(scope="module")
def with_database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a registry with the database."""
    directory = tmp_path_factory.mktemp("registry")
    with Registry(directory, folder(directory).options).serving("prefer") as found:
        yield found.url


@pytest.fixture
def images(with_database: str) -> Iterator[Client]:
    """A client of a repository that nobody else uses, in a registry with the database."""
    with Client(with_database, f"root/{secrets.token_hex(4)}") as found:
        yield found


def test_an_image_that_was_pushed_can_be_pulled(client: Client) -> None:
    digest = client.push_index("v1", LAYER)
    assert client.tags() == ["v1"]
    answer = client.manifest("v1").raise_for_status()
    assert answer.headers["docker-content-digest"] == digest == digest_of(answer.content)
    inner = client.manifest(answer.json()["manifests"][0]["digest"]).raise_for_status().json()
    assert client.http.get(f"/v2/{client.name}/blobs/{inner['layers'][0]['digest']}").content == LAYER


def test_it_says_at_its_root_that_it_runs_and_nothing_about_itself(client: Client) -> None:
    answer = httpx.get(f"{client.http.base_url}/")
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["cache-control"] == "no-cache"
    assert "gitlab-container-registry-version" not in answer.headers


def test_a_manifest_whose_subject_is_unknown_is_refused(client: Client) -> None:
    subject = {"mediaType": OCI_MANIFEST, "digest": f"sha256:{'0' * 64}", "size": 1}
    manifest = client.image(LAYER, subject=subject)
    answer = client.put(digest_of(manifest), manifest)
    assert error_of(answer) == (400, "MANIFEST_BLOB_UNKNOWN", "blob unknown to registry")
    assert answer.json()["errors"][0]["detail"] == subject["digest"]


def test_a_manifest_whose_subject_was_pushed_before_is_taken(client: Client) -> None:
    digest = client.push("v1", LAYER)
    manifest = client.image(b"note", subject={"mediaType": OCI_MANIFEST, "digest": digest, "size": 1})
    assert client.put(digest_of(manifest), manifest).status_code == 201


def test_an_index_is_not_given_to_a_client_that_does_not_take_it(client: Client) -> None:
    client.push_index("v1", LAYER)
    refused = error_of(client.manifest("v1", ACCEPTED_BY_GITLAB))
    assert refused == (404, "MANIFEST_UNKNOWN", "OCI index found, but accept header does not support OCI indexes")


def test_a_tag_can_move_from_image_to_image_and_back(client: Client) -> None:
    for layer in (b"one", b"two", b"one", b"three"):
        digest = client.push_index("v1", layer)
        assert client.manifest("v1").headers["docker-content-digest"] == digest


def test_deleting_a_tag_keeps_the_other_tags_of_its_manifest(client: Client) -> None:
    manifest = client.image(LAYER)
    for tag in ("v1", "v2"):
        client.put(tag, manifest).raise_for_status()
    assert client.http.delete(f"/v2/{client.name}/manifests/v1").status_code == 202
    assert client.tags() == ["v2"]
    assert client.manifest("v2").is_success
    assert client.http.delete(f"/v2/{client.name}/manifests/v1").status_code == 404


@pytest.mark.parametrize("token", [{}, {"authorization": "Bearer nonsense"}, signer().token("root/other", "pull")])
def test_a_request_without_the_right_token_is_told_where_to_get_one(client: Client, token: dict[str, str]) -> None:
    for path in ("manifests/v1", "tags/list"):
        answer = httpx.get(f"{client.url}/v2/{client.name}/{path}", headers=token)
        assert answer.status_code == 401
        assert f'scope="repository:{client.name}:pull' in answer.headers["www-authenticate"]


def test_a_token_to_pull_does_not_push_or_delete(client: Client) -> None:
    client.push("v1", LAYER)
    with Client(client.url, client.name, "pull") as reader:
        assert reader.manifest("v1").is_success
        assert reader.put("v2", client.manifest("v1").content).status_code == 401
        assert reader.http.delete(f"/v2/{client.name}/manifests/v1").status_code == 401
        assert reader.http.post(f"/v2/{client.name}/blobs/uploads/").status_code == 401


def test_gitlabs_api_exists_only_with_the_database(client: Client) -> None:
    database = client.http.get("/v2/").headers["gitlab-container-registry-database-enabled"] == "true"
    assert client.http.get("/gitlab/v1/").status_code == (200 if database else 404)
    assert httpx.get(f"{client.url}/gitlab/v1/").status_code == 401


def test_the_api_knows_date_and_size_of_a_tag(images: Client) -> None:
    digest = images.push_index("v1", LAYER)
    listed = images.http.get(f"/gitlab/v1/repositories/{images.name}/tags/list/").json()
    assert [(tag["name"], tag["digest"]) for tag in listed] == [("v1", digest)]
    assert listed[0]["size_bytes"] > len(LAYER)
    assert listed[0]["published_at"] == listed[0]["created_at"]
    for size in ("self", "self_with_descendants"):
        details = images.http.get(f"/gitlab/v1/repositories/{images.name}/?size={size}").json()
        assert (details["path"], details["size_bytes"]) == (images.name, len(LAYER))


def test_a_repository_can_be_renamed_with_what_is_below_it(images: Client) -> None:
    digest = images.push("v1", LAYER)
    target, name = f"/gitlab/v1/repositories/{images.name}/", secrets.token_hex(4)
    assert images.http.patch(f"{target}?dry_run=true", json={"name": name}).status_code == 202
    assert images.tags() == ["v1"]
    assert images.http.patch(target, json={"name": name}).status_code == 204
    assert images.tags() == []
    with Client(images.url, f"root/{name}") as renamed:
        assert renamed.manifest("v1").headers["docker-content-digest"] == digest
        layer = renamed.manifest("v1").json()["layers"][0]["digest"]
        assert renamed.http.get(f"/v2/root/{name}/blobs/{layer}").content == LAYER


@pytest.mark.parametrize(("body", "status"), [({"namespace": "elsewhere"}, 400), ({"name": "taken"}, 409), ({}, 400)])
def test_a_rename_that_cannot_be_is_refused(images: Client, body: dict[str, str], status: int) -> None:
    images.push("v1", LAYER)
    with Client(images.url, "root/taken") as other:
        other.push("v1", LAYER)
    assert images.http.patch(f"/gitlab/v1/repositories/{images.name}/", json=body).status_code == status


def test_content_of_another_repository_is_mounted_only_with_a_token_for_it(images: Client) -> None:
    images.push("v1", LAYER)
    layer = images.manifest("v1").json()["layers"][0]["digest"]
    with Client(images.url, "root/mounted") as target:
        mount = f"/v2/root/mounted/blobs/uploads/?mount={layer}&from={images.name}"
        assert target.http.post(mount).status_code == 202
        both = signer().token("root/mounted", "pull", "push", also=images.name)
        assert target.http.post(mount, headers=both).status_code == 201
        assert target.http.get(f"/v2/root/mounted/blobs/{layer}").content == LAYER


def test_space_comes_back_after_the_last_tag_of_an_image_was_deleted(store: Store, tmp_path: Path) -> None:
    registry = Registry(tmp_path, store.options)
    registry.gc = AT_ONCE | {"reviewafter": "1s"}
    with registry.serving(True) as client:
        old = client.push_index("old", LAYER + b"old")
        kept = client.push_index("new", LAYER + b"new")
        assert store.size() > 2 * len(LAYER)
        assert client.http.delete(f"/v2/{client.name}/manifests/old").status_code == 202
        eventually(lambda: store.size() < 1.5 * len(LAYER), 30)
        assert client.manifest("new").headers["docker-content-digest"] == kept
        inner = client.manifest(client.manifest("new").json()["manifests"][0]["digest"]).json()
        assert client.http.get(f"/v2/{client.name}/blobs/{inner['layers'][0]['digest']}").content == LAYER + b"new"
        assert client.push_index("old", LAYER + b"old") == old
        assert client.manifest("old").is_success


def test_an_image_without_a_tag_is_kept_until_the_delay_is_over(images: Client) -> None:
    digest = images.push("v1", LAYER)
    images.http.delete(f"/v2/{images.name}/manifests/v1").raise_for_status()
    manifest = images.manifest(digest).raise_for_status().content
    images.put("v2", manifest).raise_for_status()
    assert images.manifest("v2").headers["docker-content-digest"] == digest


def test_with_the_database_of_another_storage_the_registry_lists_what_is_not_there(tmp_path: Path) -> None:
    first, second = (Registry(tmp_path, folder(tmp_path / name).options) for name in ("first", "second"))
    with first.serving(True) as client:
        client.push("v1", LAYER)
    with second.serving(True) as client:
        assert client.tags() == ["v1"]
        layer = client.manifest("v1").json()["layers"][0]["digest"]
        assert client.http.get(f"/v2/{client.name}/blobs/{layer}").status_code == 404
    with second.serving(True, "another") as client:
        assert client.tags() == []


def test_each_mode_refuses_the_storage_of_the_other(registry: Registry, tmp_path: Path) -> None:
    with registry.serving(True):
        pass
    assert "registry metadata database in use, please enable the database" in registry.refusal(False)
    legacy = Registry(tmp_path / "legacy", folder(tmp_path / "legacy").options)
    with legacy.serving(False) as client:
        client.push("v1", LAYER)
    with legacy.serving(False):
        pass
    assert "please import data before enabling the database" in legacy.refusal(True)
    with legacy.serving("prefer") as client:
        assert client.http.get("/gitlab/v1/").status_code == 404
        assert client.tags() == ["v1"]


def test_a_database_without_tables_is_refused(registry: Registry) -> None:
    config = registry.write(True)
    done = registry.command("serve", config, registry.directory / "distribution.yml", "/usr/bin/true")
    assert "there are pending database migrations" in done.stderr


def test_an_import_in_three_steps_loses_nothing(store: Store, tmp_path: Path) -> None:
    registry = Registry(tmp_path, store.options)
    config = registry.directory / "config.yml"
    with registry.serving(False) as client:
        one, two = client.push("v1", LAYER), client.push_index("v2", LAYER + b"2")
    with registry.serving(False) as client:
        assert registry.command("database", "import", "--step-one", "--log-to-stdout", config).returncode == 0
        three = client.push("v3", LAYER + b"3")
    with registry.serving(False, read_only=True) as client:
        assert client.http.post(f"/v2/{client.name}/blobs/uploads/").status_code == 405
        done = registry.command("database", "import", "--step-two", "--log-to-stdout", config)
        assert done.returncode == 0, done.stderr
        assert "3 tags imported" in done.stdout
    with registry.serving(True) as client:
        assert client.tags() == ["v1", "v2", "v3"]
        digests = [client.manifest(tag).headers["docker-content-digest"] for tag in client.tags()]
        assert digests == [one, two, three]
        layer = client.manifest("v1").json()["layers"][0]["digest"]
        assert client.http.get(f"/v2/{client.name}/blobs/{layer}").content == LAYER
        registry.write("prefer")
        assert registry.command("database", "import", "--step-three", config).returncode == 0


def test_a_read_only_registry_takes_and_deletes_nothing_in_either_mode(registry: Registry) -> None:
    for database in (False, True):
        with registry.serving(database, read_only=True) as client:
            manifest = json.dumps({"schemaVersion": 2, "mediaType": OCI_MANIFEST}).encode()
            assert client.put("v1", manifest).status_code == 405
            assert client.http.delete(f"/v2/{client.name}/manifests/v1").status_code == 405
            assert client.http.post(f"/v2/{client.name}/blobs/uploads/").status_code == 405


@pytest.mark.parametrize("database", [True, False])
def test_the_distribution_ends_with_the_registry(registry: Registry, database: bool) -> None:
    address = str(registry.directory / "distribution.socket")
    with registry.serving(database), socket.socket(socket.AF_UNIX) as running:
        assert running.connect_ex(address) == 0
    with socket.socket(socket.AF_UNIX) as ended:
        assert ended.connect_ex(address) == errno.ECONNREFUSED


def test_a_registry_that_is_stopped_while_it_starts_leaves_no_distribution(registry: Registry) -> None:
    with registry.starting() as process:
        eventually(lambda: distributions(registry), 30)
        process.terminate()
        process.wait(30)
    assert distributions(registry) == []


def distributions(registry: Registry) -> list[str]:
    """The process IDs of a registry's distributions."""
    pattern = f"docker-registry serve {registry.directory}/"
    return subprocess.run(["pgrep", "-f", pattern], capture_output=True, text=True, check=False).stdout.split()
