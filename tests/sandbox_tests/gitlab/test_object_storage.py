"""Files of the stand-in in object storage: a real S3 server, the tasks that move files, and what gitlab.rb may say."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import gitlab
import httpx
import pytest

from tests.sandbox.gitlab.web import object_tasks
from tests.sandbox.gitlab.web.app import create_app
from tests.sandbox.gitlab.web.core.config import Config
from tests.sandbox.gitlab.web.core.objects import LOCAL, REMOTE
from tests.sandbox.gitlab.web.core.s3 import ObjectStorageError
from tests.sandbox.gitlab.web.faults import Faults
from tests.sandbox_tests.support.gitlab_instance import Instance, listen, running, serving
from tests.sandbox_tests.support.gitlab_projects import commit, make_project, make_runner
from tests.sandbox_tests.support.gitlab_rb import evaluated
from tests.sandbox_tests.support.registry_service import LIMITED, Store, bucket

pytestmark = [pytest.mark.new_instance, pytest.mark.real_time("the S3 server is written in Go")]

PIPELINE = "build: {script: build, artifacts: {paths: [out]}}\n"
LOG = "a line of the log\n"
CONTENT = b"an archive"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A bucket for artifacts and one for uploads."""
    with bucket(tmp_path / "s3") as found:
        for name in ("artifacts", "uploads"):
            found.client.create_bucket(Bucket=name)
        yield found


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[Instance]:
    """An instance whose files are on this machine."""
    (tmp_path / "gitlab").mkdir()
    with running(tmp_path / "gitlab") as found:
        yield found


def with_objects(instance: Instance, store: Store, *, proxied: bool = True, valid: bool = True) -> Config:
    """The instance's configuration after object storage is turned on for it."""
    given = store.options["s3_v2"]
    folder = instance.directory
    settings = json.loads((folder / "gitlab.json").read_text())
    settings["object_store"] = {
        "endpoint": given["regionendpoint"],
        "region": given["region"],
        "path_style": True,
        "buckets": {"artifacts": "artifacts", "uploads": "uploads", "packages": "packages"},
        "proxied": ["artifacts", "uploads"] if proxied else [],
    }
    keys = json.loads((folder / "secrets.json").read_text())
    keys |= {
        "object_store_access_key": given["accesskey"],
        "object_store_secret_key": given["secretkey"] if valid else "another",
    }
    (folder / "with-objects").mkdir(exist_ok=True)
    (folder / "with-objects" / "gitlab.json").write_text(json.dumps(settings))
    (folder / "with-objects" / "secrets.json").write_text(json.dumps(keys))
    return Config.load(folder / "with-objects", folder / "version")


@contextmanager
def served(instance: Instance, config: Config) -> Iterator[Instance]:
    """The instance with another configuration."""
    sock, url = listen()
    with serving(create_app(config, Faults()), sock):
        yield Instance(url, config, instance.directory, instance.token, Faults())


def build(instance: Instance) -> tuple[gitlab.Gitlab, int, int]:
    """A client, a project with a file that is attached to it, and a job that has left a log and an archive."""
    client = instance.client()
    project = make_project(client)
    runner = make_runner(client, project)
    commit(project, {".gitlab-ci.yml": PIPELINE})
    job = runner.take()
    job.log(LOG)
    assert job.upload(CONTENT).status_code == 201
    job.succeed()
    project.upload("notes.txt", filedata=b"an attachment")
    return client, project.id, project.jobs.list(get_all=True)[0].id


def everything(client: gitlab.Gitlab, project_id: int, job_id: int) -> tuple[bytes, bytes, bytes]:
    """The log, the archive and the attachment, as users get them."""
    project = client.projects.get(project_id)
    job = project.jobs.get(job_id)
    uploads = client.http_list(f"/projects/{project_id}/uploads", get_all=True)
    [attached] = list(uploads)
    url = f"{client.url}/api/v4/projects/{project_id}/uploads/{attached['id']}"
    attachment = httpx.get(url, headers={"PRIVATE-TOKEN": str(client.private_token)})
    return bytes(job.trace()), bytes(job.artifacts()), attachment.content


def on_disk(instance: Instance) -> list[str]:
    folders = (instance.config.artifacts_path, instance.config.uploads_path)
    return [path.name for folder in folders for path in folder.rglob("*") if path.is_file()]


def names(store: Store, name: str) -> list[str]:
    return [one["Key"] for one in store.client.list_objects_v2(Bucket=name).get("Contents", [])]


def test_new_files_go_to_the_bucket_of_their_type_and_none_to_the_disk(instance: Instance, store: Store) -> None:
    with served(instance, with_objects(instance, store)) as changed:
        known = build(changed)
        assert everything(*known) == (LOG.encode(), CONTENT, b"an attachment")
    assert on_disk(instance) == []
    assert sorted(name.rpartition("/")[2] for name in names(store, "artifacts")) == ["artifacts.zip", "job.log"]
    [attached] = names(store, "uploads")
    assert attached.startswith("@hashed/")


def test_without_the_proxy_a_download_is_a_link_that_works_for_a_while(instance: Instance, store: Store) -> None:
    with served(instance, with_objects(instance, store, proxied=False)) as changed:
        client, project, job = build(changed)
        headers = {"PRIVATE-TOKEN": changed.token}
        answer = httpx.get(f"{client.url}/api/v4/projects/{project}/jobs/{job}/artifacts", headers=headers)
        assert answer.status_code == 302
        link = answer.headers["location"]
        assert urlsplit(link).netloc == urlsplit(store.options["s3_v2"]["regionendpoint"]).netloc
        assert httpx.get(link).content == CONTENT
        assert httpx.get(link.replace("X-Amz-Expires=600", "X-Amz-Expires=60000")).status_code == 403


def test_files_move_over_and_back_and_nothing_is_lost(instance: Instance, store: Store) -> None:
    known = build(instance)
    before = everything(*known)
    config = with_objects(instance, store)
    object_tasks.TASKS["gitlab:artifacts:migrate"](config)
    object_tasks.move_upload(config, 1, REMOTE)
    assert on_disk(instance) == []
    with served(instance, config) as changed:
        assert everything(changed.client(), *known[1:]) == before
    object_tasks.TASKS["gitlab:artifacts:migrate_to_local"](config)
    object_tasks.move_upload(config, 1, LOCAL)
    assert sorted(on_disk(instance)) == ["artifacts.zip", "job.log", "notes.txt"]
    assert names(store, "artifacts") == names(store, "uploads") == []
    assert everything(*known) == before


def test_a_file_that_cannot_be_moved_stays_and_is_reported(
    instance: Instance, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    known = build(instance)
    before = everything(*known)
    config = with_objects(instance, store, valid=False)
    object_tasks.TASKS["gitlab:artifacts:migrate"](config)
    assert "ERROR -- : Expected(200) <=> Actual(403 Forbidden)" in capsys.readouterr().out
    with pytest.raises(ObjectStorageError, match=re.escape("Expected(200) <=> Actual(403 Forbidden)")):
        object_tasks.move_upload(config, 1, REMOTE)
    assert everything(*known) == before


def test_the_tasks_of_uploads_move_nothing_themselves(instance: Instance, store: Store) -> None:
    build(instance)
    with pytest.raises(SystemExit, match="leaves jobs to Sidekiq"):
        object_tasks.TASKS["gitlab:uploads:migrate:all"](with_objects(instance, store))
    assert "notes.txt" in on_disk(instance)


def test_an_upload_that_object_storage_refuses_fails_and_leaves_no_trace(instance: Instance, store: Store) -> None:
    with served(instance, with_objects(instance, store, valid=False)) as changed:
        client = changed.client()
        project = make_project(client)
        url = f"{changed.url}/api/v4/projects/{project.id}/uploads"
        headers = {"PRIVATE-TOKEN": changed.token}
        assert httpx.post(url, headers=headers, files={"file": ("a.txt", b"x")}).status_code == 500
        assert httpx.get(url, headers=headers).json() == []


def test_without_object_storage_the_tasks_say_so(instance: Instance, capsys: pytest.CaptureFixture[str]) -> None:
    build(instance)
    object_tasks.TASKS["gitlab:artifacts:migrate"](instance.config)
    assert "ERROR -- : Object Storage is not enabled" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="Object store is disabled for packages feature"):
        object_tasks.TASKS["gitlab:packages:migrate"](instance.config)


def test_an_erased_job_leaves_nothing_in_the_bucket(instance: Instance, store: Store) -> None:
    with served(instance, with_objects(instance, store)) as changed:
        client, project, job = build(changed)
        client.projects.get(project).jobs.get(job).erase()
    assert names(store, "artifacts") == []


CONNECTION = {
    "provider": "AWS",
    "region": "nyc3",
    "endpoint": "https://nyc3.digitaloceanspaces.com",
    "aws_access_key_id": LIMITED["access"],
    "aws_secret_access_key": LIMITED["secret"],
}
TYPES = (
    *("artifacts", "external_diffs", "lfs", "uploads", "packages", "dependency_proxy", "terraform_state"),
    *("ci_secure_files", "agent_plan_content"),
)


def ruby(value: Any) -> str:
    return json.dumps(value).replace('": ', '" => ')


def lines(connection: dict[str, Any] | None = None, buckets: dict[str, str] | None = None, more: str = "") -> str:
    """A gitlab.rb with the consolidated form."""
    found = buckets if buckets is not None else {type_: f"b-{type_}" for type_ in TYPES}
    set_ = "".join(
        f"gitlab_rails['object_store']['objects']['{one}']['bucket'] = '{name}'\n" for one, name in found.items()
    )
    return (
        "external_url 'https://gitlab.example.com'\ngitlab_rails['object_store']['enabled'] = true\n"
        f"gitlab_rails['object_store']['connection'] = {ruby(connection or CONNECTION)}\n{set_}{more}"
    )


def evaluate(folder: Path, text: str) -> Any:
    (folder / "gitlab.rb").write_text(text)
    done = evaluated(folder, "object_store")
    return json.loads(done.stdout) if done.returncode == 0 else done.stderr


def test_the_application_gets_a_bucket_for_each_type(tmp_path: Path) -> None:
    found = evaluate(tmp_path, lines(more="gitlab_rails['object_store']['proxy_download'] = true\n"))
    assert found["buckets"] == {type_: f"b-{type_}" for type_ in TYPES}
    assert found["endpoint"] == CONNECTION["endpoint"]
    assert found["proxied"] == list(TYPES)
    assert LIMITED["secret"] not in json.dumps(found)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            lines(buckets={type_: f"b-{type_}" for type_ in TYPES if type_ != "lfs"}),
            "Object storage for lfs must have a bucket specified",
        ),
        (
            lines(buckets=dict.fromkeys(TYPES, "one")),
            "a different bucket for each type must be used, and one is that of several",
        ),
        (lines({**CONNECTION, "provider": "DigitalOcean"}), "DigitalOcean is not a recognized provider"),
        (lines({**CONNECTION, "secret": "x"}), "gitlab_rails['object_store']['connection']['secret'] in"),
        (lines({**CONNECTION, "aws_access_key_id": ""}), "Missing required arguments: aws_access_key_id"),
        (lines(more="gitlab_rails['object_store']['objects']['mail']['bucket'] = 'b'\n"), "['objects']['mail'] in"),
        (lines(more="gitlab_rails['object_store']['bucket'] = 'b'\n"), "gitlab_rails['object_store']['bucket'] in"),
        (lines(more="gitlab_rails['lfs_object_store_enabled'] = true\n"), "does not support: gitlab_rails['lfs_object"),
    ],
)
def test_what_gitlab_could_not_use_is_refused(tmp_path: Path, text: str, words: str) -> None:
    assert words in evaluate(tmp_path, text)


def test_a_type_that_is_off_needs_no_bucket(tmp_path: Path) -> None:
    some = {type_: f"b-{type_}" for type_ in TYPES if type_ not in {"lfs", "packages"}}
    off = (
        "gitlab_rails['lfs_enabled'] = false\ngitlab_rails['object_store']['objects']['packages']['enabled'] = false\n"
    )
    assert evaluate(tmp_path, lines(buckets=some, more=off))["buckets"] == some


def test_without_a_connection_the_section_has_no_effect(tmp_path: Path) -> None:
    assert evaluate(tmp_path, "external_url 'https://gitlab.example.com'\n") is None
