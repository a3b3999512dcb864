"""`python -m tools status`: what it says of each part in each state, how it ends, and that no part hides another."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import gitlab
import httpx
import pytest

from tests.unit.status_world import (
    BUCKET,
    COMMAND,
    REGISTRY,
    RESOURCES,
    URL,
    VALUES,
    World,
    asked,
    pipeline,
    state,
    world,
)
from tests.unit.test_down import resource
from tools import drift, status, status_parts
from tools.answers import Answer, Health, Question
from tools.clients import CheckError, Outputs
from tools.drift import Part
from tools.findings import Finding
from tools.progress import ToolError
from tools.state import StackState
from tools.verify import Certificate

__all__ = ["world"]


def test_a_healthy_stack_is_described_in_one_line_for_each_part(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    del world
    assert status.status("test", as_json=False, within=60) == 0
    first, *lines, last = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert first == f"{URL} and its registry {REGISTRY}"
    assert last == "healthy"
    texts = dict(line[3:].split(maxsplit=1) for line in lines)
    assert texts.pop("GitLab").startswith("19.3.0, sign-in page in ")
    assert texts == {
        "Registry": "answers; 2.0 GiB in bucket images",
        "Certificate": "60 days left, issued by R12",
        "Tokens": "the stack's API token 100 days left",
        "Disks": "slipway-test: / 20% of 97.7 KiB, /mnt/gitlab 10% of 50.0 GiB; "
        "slipway-test-delivery-docker-1: / 20% of 97.7 KiB",
        "Runners": "docker online",
        "Cache": "none: no runner has dockerHubCache without a registryMirror",
        "Pipelines": "root/hello: success 5 h ago",
        "Backup": "none: the stack file has no backup.enabled",
        "Versions": "GitLab 19.3.0-ce.0, GitLab Runner 19.3.0-1: the newest that can follow",
        "Drift": "not compared since the last update: make drift",
    }
    assert all(line.startswith("✓  ") for line in lines)


def test_as_json_it_is_one_document_with_the_values_of_each_part(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.api["/runners/7"]["status"] = "offline"
    assert status.status("test", as_json=True, within=60) == 2
    document = json.loads(capsys.readouterr().out)
    assert (document["health"], document["healthy"], document["url"]) == ("failing", False, URL)
    parts = {one["name"]: one for one in document["parts"]}
    assert list(parts) == [part for part in status.PARTS if part not in {"Clusters", "Databases"}]
    assert parts["Certificate"]["values"] == {"days": 60}
    assert parts["Disks"]["values"]["slipway-test"]["/mnt/gitlab"] == {"bytes": 53687091200, "used": 5368709120}
    assert parts["Runners"]["values"] == {"docker": {"status": "offline", "machines": 1, "online": 1}}
    assert "glpat" not in json.dumps(document)
    assert "PRIVATE" not in json.dumps(document)


def test_a_part_that_fails_hides_no_other_and_is_named_at_the_end(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.ssh["198.51.100.7"] = CheckError("ssh failed: Connection timed out")
    assert status.status("test", as_json=False, within=60) == 1
    shown = capsys.readouterr().out
    assert "?  Disks" in shown
    assert (
        "slipway-test: cannot be asked: ssh failed: Connection timed out; slipway-test-delivery-docker-1: / 20%"
        in shown
    )
    assert shown.splitlines()[-1] == "nothing is failing; not known: Disks"
    world.pages[f"https://{REGISTRY}/v2/"] = 502
    assert status.status("test", as_json=False, within=60) == 2
    assert capsys.readouterr().out.splitlines()[-1] == "failing: Registry"


def test_a_part_that_never_answers_is_left_behind_when_the_time_is_up(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    del world
    never = threading.Event()

    def wait(_: Question) -> Answer:
        never.wait()
        return Answer(Health.HEALTHY, "too late")

    monkeypatch.setattr(status, "PARTS", {"GitLab": wait, "Drift": status.PARTS["Drift"]})
    found = status.ask(state(), Outputs(VALUES), 0.5)
    never.set()
    assert found["GitLab"].health is Health.UNKNOWN
    assert found["GitLab"].text.startswith("no answer within ")
    assert found["Drift"].health is Health.HEALTHY


@pytest.mark.parametrize(("used", "least"), [(0.0, 4.0), (2.0, 2.5), (30.0, 2.5)])
def test_the_parts_get_what_pulumi_has_left_of_the_time_and_never_too_little(
    used: float, least: float, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    del world
    given: list[float] = []

    def note(_: StackState, __: Outputs, seconds: float) -> dict[str, Answer]:
        given.append(seconds)
        return {}

    monkeypatch.setattr(status, "ask", note)
    monkeypatch.setattr(status, "running_for", lambda: used)
    assert status.status(None, as_json=True) == 0
    assert least <= given[0] <= status.WITHIN


REFUSED = httpx.ConnectError("[Errno 111] Connection refused")
Change = Callable[[World], None]


def change(**given: Any) -> Change:
    """Set attributes of the world, or add to its dictionaries."""

    def apply(world: World) -> None:
        for name, value in given.items():
            present = getattr(world, name)
            setattr(world, name, {**present, **value} if isinstance(present, dict) else value)

    return apply


FAILING, NOTICE, UNKNOWN = Health.FAILING, Health.NOTICE, Health.UNKNOWN


@pytest.mark.parametrize(
    ("part", "how", "health", "words"),
    [
        ("GitLab", change(pages={f"{URL}/users/sign_in": REFUSED}), FAILING, "does not answer: [Errno 111] Connection"),
        ("GitLab", change(pages={f"{URL}/users/sign_in": 502}), FAILING, "/users/sign_in answers 502"),
        ("GitLab", change(api={"/version": 401}), FAILING, "the stack's API token is not accepted"),
        ("GitLab", change(api={"/version": 500}), UNKNOWN, "cannot be asked: 500"),
        ("Registry", change(pages={f"https://{REGISTRY}/v2/": REFUSED}), FAILING, f"{REGISTRY} does not answer"),
        ("Registry", change(pages={f"https://{REGISTRY}/v2/": 200}), FAILING, "/v2/ answers 200, not 401"),
        (
            "Certificate",
            change(certificate=Certificate("R12", 13.9)),
            FAILING,
            "13 days left, issued by R12, and it was",
        ),
        ("Certificate", change(certificate=ssl.SSLCertVerificationError("self-signed")), FAILING, "port 443: "),
        ("Certificate", change(certificate=TimeoutError("timed out")), FAILING, "port 443: timed out"),
        ("Disks", change(ssh={"203.0.113.3": "/ 100 80\n"}), NOTICE, "slipway-test-delivery-docker-1: / 80% of 100 B"),
        ("Disks", change(ssh={"198.51.100.7": "/ 100 95\n/mnt/gitlab\n"}), FAILING, "not mounted at /mnt/gitlab"),
        ("Disks", change(ssh={"198.51.100.7": "/ 100 20\n/mnt/gitlab 10 9\n"}), FAILING, "/mnt/gitlab 90% of 10 B"),
        (
            "Disks",
            change(ssh={"203.0.113.3": subprocess.TimeoutExpired(["ssh", "-i", "/folder/x"], 2)}),
            UNKNOWN,
            "slipway-test-delivery-docker-1: no answer in time",
        ),
        ("Runners", change(api={"/runners/7": 404}), FAILING, "docker deleted in GitLab"),
        ("Runners", change(api={"/runners/7": {"status": "online", "paused": True}}), FAILING, "docker paused"),
        (
            "Runners",
            change(api={"/runners/7/managers": []}),
            FAILING,
            "docker online, 0 of 1 machines online: make logs",
        ),
        ("Runners", change(api={"/runners/7": 403}), UNKNOWN, "cannot be asked: 403"),
        (
            "Pipelines",
            change(api={"/projects/root%2Fhello/pipelines/latest": pipeline("failed")}),
            NOTICE,
            "failed 5 h ago",
        ),
        ("Pipelines", change(api={"/projects/root%2Fhello/pipelines/latest": 404}), NOTICE, "root/hello: no pipeline"),
        (
            "Versions",
            change(packages={"gitlab-ce": ["19.3.0-ce.0", "19.3.1-ce.0"]}),
            NOTICE,
            "can follow: GitLab 19.3.1",
        ),
        # 19.5 is a stop that an upgrade must not skip, and 19.2 is older than what runs.
        (
            "Versions",
            change(packages={"gitlab-ce": ["19.6.0-ce.0", "19.5.2-ce.0"]}),
            NOTICE,
            "GitLab 19.5.2-ce.0 (inst",
        ),
        (
            "Versions",
            change(packages={"gitlab-runner": ["19.4.0-1"]}),
            NOTICE,
            "GitLab Runner 19.4.0-1 (installed: 19.3",
        ),
    ],
)
def test_each_state_of_a_part_is_told_from_the_others(
    part: str, how: Change, health: Health, words: str, world: World
) -> None:
    how(world)
    found = asked(part)
    assert (found.health, words in found.text) == (health, True), found.text
    assert "/folder" not in found.text


def test_an_api_token_whose_date_has_passed_is_named(world: World) -> None:
    del world
    found = asked("GitLab", outputs={"gitlab_api_token_expires": "2020-01-01"})
    assert (found.health, "the API token has ended (2020-01-01)" in found.text) == (Health.NOTICE, True)


def test_a_registry_with_more_than_can_be_counted_in_time_says_so(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    del world
    clock = iter([0.0, 0.0, *(number * 1.0 for number in range(100))])
    monkeypatch.setattr(status_parts, "time", type("Clock", (), {"monotonic": lambda: next(clock)}))
    monkeypatch.setattr(status_parts, "objects_in", lambda *_, **__: ([{"Key": "x", "Size": 2**20}] for _ in range(99)))
    found = asked("Registry")
    assert found.text == "answers; more than 5.0 MiB in bucket images"
    assert found.values["counted_whole"] is False


def test_a_bucket_that_refuses_leaves_the_usage_unknown(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    del world

    def refuse(*_: object, **__: object) -> Iterator[list[Any]]:
        raise CheckError("AccessDenied")

    monkeypatch.setattr(status_parts, "objects_in", refuse)
    found = asked("Registry")
    assert (found.health, found.text) == (Health.UNKNOWN, "answers; its usage is not known: AccessDenied")


def test_images_on_the_servers_volume_are_counted_there(world: World) -> None:
    world.ssh["198.51.100.7"] = "1048576\t/var/opt/gitlab/gitlab-rails/shared/registry\n"
    assert asked("Registry", outputs={"registry_storage": None}).text == "answers; 1.0 MiB in the server's volume"


@pytest.mark.parametrize(
    ("hours", "health", "words"), [(5, Health.HEALTHY, "5 h old, 2 in all"), (27, Health.FAILING, "maxAgeHours is 26")]
)
def test_the_last_complete_backup_counts(hours: int, health: Health, words: str, world: World) -> None:
    now = datetime.now(UTC)
    keys = {"a/manifest.json.bin": hours, "b/manifest.json.bin": 99, "c/etc-gitlab.tar.bin": 1}
    world.objects = [
        [{"Key": f"p/backups/{key}", "LastModified": now - timedelta(hours=age)} for key, age in keys.items()]
    ]
    space = {**BUCKET, "prefix": "p", "max_age_hours": 26}
    found = asked("Backup", outputs={"backup": space})
    assert (found.health, words in found.text) == (health, True), found.text
    world.objects = [[]]
    assert asked("Backup", outputs={"backup": space}).text == "there is no complete backup; make one with: make backup"


def test_an_interrupted_update_and_marked_steps_are_known_drift(world: World) -> None:
    del world
    pending = asked("Drift", pending_operations=[{"type": "creating"}])
    assert (pending.health, "make repair" in pending.text) == (Health.FAILING, True)
    marked = asked("Drift", resource(COMMAND, "gitlab-configuration", "c9", taint=True))
    assert marked.text == "the next update repeats gitlab-configuration: make up"
    assert marked.health is Health.FAILING


def test_what_make_drift_has_found_is_known_until_the_state_is_written_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    del world
    found = [Finding("sign-up is on"), Finding("a file was changed"), Finding("not compared: x", is_unknown=True)]
    monkeypatch.setattr(drift, "compare", lambda *_: [Part("GitLab", tuple(found))])
    assert drift.drift("test", file=None, marks=False) == drift.DIFFERS
    known = asked("Drift")
    assert (known.health, known.text) == (
        Health.FAILING, "sign-up is on, and 1 more; compared 0 min ago, make up puts it right"
    )  # fmt: skip
    assert asked("Drift", manifest={"time": "later"}).text.startswith("not compared since")
    del found[:2]
    drift.drift("test", file=None, marks=False)
    assert (asked("Drift").health, "not everything could be compared" in asked("Drift").text) == (Health.NOTICE, True)
    found.clear()
    drift.drift("test", file=None, marks=False)
    assert asked("Drift").text == "none, compared 0 min ago"


def test_a_stack_without_projects_and_runners_is_healthy(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    del world
    bare = [one for one in RESOURCES if "delivery" not in one["urn"]]
    monkeypatch.setattr(StackState, "of_stack", lambda _: StackState("test", {"deployment": {"resources": bare}}))
    monkeypatch.setattr(Outputs, "of_stack", lambda _: Outputs({**VALUES, "projects": []}))
    assert status.status("test", as_json=True, within=60) == 0


def test_a_stack_that_pulumi_cannot_read_is_an_error_in_one_line(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    del world

    def fail(_: str | None) -> Outputs:
        raise CheckError("stack test is not deployed: run `pulumi up` first")

    monkeypatch.setattr(Outputs, "of_stack", fail)
    with pytest.raises(ToolError, match="is not deployed"):
        status.status("test", as_json=False)


def test_a_gitlab_that_is_gone_is_named_by_the_first_cause(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    del world
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = f"http://127.0.0.1:{closed.getsockname()[1]}"
    monkeypatch.setattr(Outputs, "gitlab", lambda _, timeout: gitlab.Gitlab(address, timeout=timeout))
    found = asked("Runners")
    assert (found.health, found.text) == (Health.UNKNOWN, "cannot be asked: [Errno 111] Connection refused")
