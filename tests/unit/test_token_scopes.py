"""What the token of the cloud may do: compared with what the stack needs, before anything is created."""

from __future__ import annotations

import io
import re
import urllib.error
from typing import Any

import pytest

from components import api
from components.settings import SettingsError
from components.token_scopes import needed
from tests.unit.engine import ROOT, RecordingEngine, run_program

READS = {scope for scope in needed(spaces=True, alerts=True, clusters=True, databases=True) if scope.endswith(":read")}


def run(scopes: set[str] | None, **changes: Any) -> RecordingEngine:
    engine = RecordingEngine(scopes=None if scopes is None else frozenset(scopes))
    return run_program(engine=engine, **changes)


def refused(scopes: set[str], **changes: Any) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        run(scopes, **changes)
    return caught.value.errors


def documented() -> set[str]:
    """The scopes in the table of the documentation, without those of `make strays` and of `snapshot` alone."""
    table = (ROOT / "docs/settings.md").read_text().partition("## Scopes of the API token")[2]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    found: set[str] = set()
    for row in rows[:-2]:
        found |= set(re.findall(r"`([a-z_]+:[a-z_]+)`", row))
        for kinds, verbs in re.findall(r"((?:`[a-z_]+`(?:, )?)+): ((?:`[a-z_]+`(?:, )?)+)", row):
            found |= {f"{kind}:{verb}" for kind in re.findall(r"\w+", kinds) for verb in re.findall(r"\w+", verbs)}
    return found


def test_the_documentation_lists_the_scopes_that_are_checked() -> None:
    assert documented() == needed(spaces=True, alerts=True, clusters=True, databases=True)


def test_a_token_with_exactly_the_scopes_that_are_needed_is_accepted_without_a_word() -> None:
    assert run({*needed(spaces=True, alerts=True, clusters=True, databases=True)}, dry_run=True).messages == []
    assert run({*needed(spaces=False, alerts=False)}, registry={"storage": "filesystem"}, dry_run=True).messages == []


def test_an_update_whose_token_lacks_a_scope_is_refused_before_anything_is_registered() -> None:
    lacking = {"droplet:create", "spaces_key:create_credentials"}
    engine = RecordingEngine(scopes=needed(spaces=True, alerts=True, clusters=True, databases=True) - lacking)
    with pytest.raises(SettingsError) as caught:
        run_program(engine=engine)
    [error] = caught.value.errors
    assert error.startswith("DIGITALOCEAN_TOKEN: lacks droplet:create, spaces_key:create_credentials; the update would")
    assert [one.name for one in engine.registrations if not one.is_provider] == ["slipway-test"]


def test_a_stack_with_managed_databases_may_see_their_passwords_and_who_may_reach_them() -> None:
    without = {*needed(spaces=True, alerts=False)}
    databases = {"postgresql": {"kind": "managed"}}
    run(without)
    [error] = refused(without, databases=databases)
    assert "lacks database:create, database:read, database:update, database:view_credentials;" in error


def test_scopes_of_spaces_are_needed_only_by_a_stack_that_has_some() -> None:
    without = {*needed(spaces=False, alerts=False)}
    run(without, registry={"storage": "filesystem"})
    assert "spaces_key:create_credentials" in refused(without)[0]
    assert (
        "spaces_key:create_credentials"
        in refused(without, registry={"storage": "filesystem"}, backup={"enabled": True})[0]
    )


@pytest.mark.parametrize("scopes", [READS, {"read"}])
def test_a_token_that_reads_can_preview_and_not_update(scopes: set[str]) -> None:
    [warning] = run(scopes, dry_run=True).messages
    assert "it can preview this stack, and an update that needs them would fail half way" in warning
    assert ":read" not in warning
    [error] = refused(scopes)
    assert "droplet:create" in error


def test_a_token_without_scopes_to_delete_or_change_is_enough_for_a_first_update() -> None:
    verbs = ("read", "create", "create_credentials")
    scopes = {
        scope
        for scope in needed(spaces=True, alerts=True, clusters=True, databases=True)
        if scope.partition(":")[2] in verbs
    } | {"reserved_ip:update"}
    assert run(scopes).messages == []
    [warning] = run(scopes, dry_run=True).messages
    assert "lacks block_storage:delete, domain:delete, domain:update, droplet:delete" in warning


def test_records_of_an_existing_zone_need_either_of_two_scopes() -> None:
    scopes = {*needed(spaces=True, alerts=True, clusters=True, databases=True)} - {"domain:create", "domain:delete"}
    answers: dict[str, Any] = {"getRecords": {"records": []}}
    engine = RecordingEngine(scopes=frozenset(scopes), answers=answers)
    assert run_program(engine=engine, dns={"zone": "existing"}, dry_run=True).messages == []
    assert "lacks domain:create;" in refused(scopes)[0]


def test_a_stack_that_exists_may_be_updated_with_less() -> None:
    [output] = [run(None).outputs["slipway-test"]["deployed"]]
    assert run({*READS, "tag:create"}, previous_outputs={"deployed": output}).messages == []


def test_a_token_that_is_too_wide_is_a_warning_of_the_preview_alone() -> None:
    [full] = run({"read", "write"}, dry_run=True).messages
    assert "has full access" in full
    [wide] = run(
        {*needed(spaces=True, alerts=True, clusters=True, databases=True), "app:delete", "app:read", "snapshot:delete"},
        dry_run=True,
    ).messages
    assert "may do what no stack needs (app:delete)" in wide
    assert run({"read", "write"}).messages == []


@pytest.mark.parametrize("scopes", [None, set[str]()])
def test_nothing_is_said_if_it_is_not_known_what_the_token_may_do(scopes: set[str] | None) -> None:
    assert run(scopes, dry_run=True).messages == []


def test_no_message_has_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIGITALOCEAN_TOKEN", "dop_v1_secret")
    texts = [*refused({"droplet:read"}), *run({"read", "write"}, dry_run=True).messages]
    assert "dop_v1_secret" not in str(texts)


class Panel:
    """The control panel: answers with a text or an error, and notes what it was asked."""

    def __init__(self, answer: str | Exception) -> None:
        self.answer = answer
        self.asked: list[tuple[str, str | None]] = []

    def urlopen(self, request: Any, **_: Any) -> io.BytesIO:
        self.asked.append((request.full_url, request.get_header("Authorization")))
        if isinstance(self.answer, Exception):
            raise self.answer
        return io.BytesIO(self.answer.encode())


@pytest.mark.parametrize(
    ("answer", "scopes"),
    [
        ('{"scopes": ["droplet:read", "vpc:read"]}', {"droplet:read", "vpc:read"}),
        ('{"scopes": "read write"}', None),
        ('{"scopes": [1]}', None),
        ("[]", None),
        ("<html>Sign in</html>", None),
        (urllib.error.URLError("no route"), None),
        (TimeoutError(), None),
    ],
)
def test_only_a_list_of_names_is_taken_for_the_scopes(
    answer: str | Exception, scopes: set[str] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    panel = Panel(answer)
    monkeypatch.setattr("urllib.request.urlopen", panel.urlopen)
    assert api.token_scopes() == scopes
    url = "https://cloud.digitalocean.com/v1/oauth/token/info"
    assert panel.asked == [(url, "Bearer dop_v1_of_a_unit_test")]


def test_a_token_for_another_endpoint_is_not_sent_to_digitalocean(monkeypatch: pytest.MonkeyPatch) -> None:
    panel = Panel('{"scopes": ["read", "write"]}')
    monkeypatch.setattr("urllib.request.urlopen", panel.urlopen)
    monkeypatch.setenv("DIGITALOCEAN_API_URL", "https://cloud.example.com")
    assert api.token_scopes() is None
    assert panel.asked == []


@pytest.mark.parametrize(
    ("answer", "seconds"),
    [
        ('{"expires_in_seconds": 7776000}', 7776000),
        ('{"expires_in_seconds": null}', None),
        ('{"expires_in_seconds": true}', None),
        ('{"scopes": []}', None),
        (TimeoutError(), None),
    ],
)
def test_only_a_number_is_taken_for_the_seconds_that_a_token_has_left(
    answer: str | Exception, seconds: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("urllib.request.urlopen", Panel(answer).urlopen)
    assert api.token_seconds() == seconds
