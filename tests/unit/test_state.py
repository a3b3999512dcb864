"""The deployed state, and which changes it allows."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pulumi
import pytest
from pulumi import RunError
from pulumi.output import UNKNOWN

from components.settings import SettingsError
from components.state import DeploymentState
from components.upgrades import upgrade_errors
from tests.unit.engine import ENVELOPE, RecordingEngine, run_program

KEPT: dict[str, Any] = {
    "gitlab_version": "19.3.0-ce.0",
    "region": "nyc3",
    "domain": "example.test",
    "has_domain": True,
    "has_bucket": True,
    "spaces_region": "nyc3",
    "kept": True,
    "projects": {},
    "slugs": ["s-4vcpu-8gb", "ubuntu-24-04-x64"],
    "adopted": {},
    "protected": [],
    "groups": {},
    "has_backups": False,
    "backups_region": "",
    "volume_gb": 50,
    "leaves_domain": False,
}


ANSWER = SimpleNamespace(value={"outputs": {"deployed": KEPT}})


def after(deployed: dict[str, Any], **changes: Any) -> Any:
    """Run the program with `changes` after an update that exported `deployed`."""
    return run_program(previous_outputs={"deployed": deployed}, **changes)


@pytest.mark.parametrize(
    ("deployed", "wanted"),
    [
        ("19.3.0-ce.0", "19.3.0-ce.0"),
        ("19.3.0-ce.0", "19.3.1-ce.0"),
        ("19.3.0-ce.0", "19.5.2-ce.0"),
        ("19.2.1-ce.0", "19.5.0-ce.0"),
        ("19.5.0-ce.0", "19.8.0-ce.0"),
    ],
)
def test_an_upgrade_up_to_the_next_stop_is_allowed(deployed: str, wanted: str) -> None:
    assert upgrade_errors(deployed, wanted) == []


@pytest.mark.parametrize(
    ("deployed", "wanted", "stop"),
    [
        ("19.3.0-ce.0", "19.6.0-ce.0", "19.5"),
        ("18.10.0-ce.0", "19.3.0-ce.0", "18.11"),
        ("19.2.1-ce.0", "19.9.0-ce.0", "19.5"),
    ],
)
def test_an_upgrade_that_skips_a_stop_is_refused_and_names_the_stop(deployed: str, wanted: str, stop: str) -> None:
    [line] = upgrade_errors(deployed, wanted)
    assert line.startswith(f"gitlab.version: {wanted} cannot follow {deployed}; upgrades must stop at {stop}, ")


def test_a_downgrade_is_refused() -> None:
    [line] = upgrade_errors("19.3.1-ce.0", "19.3.0-ce.0")
    assert "is older than the running 19.3.1-ce.0, whose database it cannot read" in line


def test_an_upgrade_to_an_unknown_major_version_is_refused() -> None:
    [line] = upgrade_errors("19.11.0-ce.0", "20.1.0-ce.0")
    assert "is later than 19, and the required stops on the way to it are not known" in line


def test_nothing_is_registered_when_an_upgrade_is_refused() -> None:
    engine = RecordingEngine()
    with pytest.raises(SettingsError, match=r"must stop at 19\.5"):
        after(KEPT, engine=engine, gitlab={"version": "19.6.0-ce.0"})
    assert [one.name for one in engine.registrations if not one.is_provider] == ["slipway-test"]


def test_a_new_stack_may_have_any_version_and_exports_its_state() -> None:
    engine = run_program(gitlab={"version": "19.6.0-ce.0"})
    assert "GITLAB_VERSION=19.6.0-ce.0" in engine.script("gitlab-package")
    assert engine.exports["deployed"] == {**KEPT, "gitlab_version": "19.6.0-ce.0"}


def test_an_unchanged_stack_exports_the_same_state() -> None:
    assert after(KEPT).exports["deployed"] == KEPT


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"region": "fra1", "registry": {"spacesRegion": "nyc3"}}, "region"),
        ({"domain": "other.test"}, "domain"),
        ({"registry": {"spacesRegion": "fra1"}}, "registry.spacesRegion"),
    ],
)
def test_protected_data_cannot_be_moved(change: dict[str, Any], path: str) -> None:
    with pytest.raises(SettingsError) as caught:
        after(KEPT, **change)
    [line] = caught.value.errors
    assert line.startswith(f"{path}: ")
    assert "is protected. Set it back to" in line


def test_data_that_is_not_kept_may_be_moved() -> None:
    engine = after({**KEPT, "kept": False}, region="fra1", domain="other.test")
    assert engine.named("server-data").inputs["region"] == "fra1"


def test_a_volume_grows_and_does_not_shrink() -> None:
    with pytest.raises(SettingsError, match=r"server\.volumeSizeGb: 40 cannot follow 50; volumes do not shrink"):
        after(KEPT, server={"volumeSizeGb": 40})
    grown = after(KEPT, server={"volumeSizeGb": 60})
    assert grown.named("server-data").inputs["size"] == 60
    assert "VOLUME_SIZE_GB=60\n" in grown.script("server-preparation")
    # Not recorded by earlier versions, and another one in another region.
    for deployed in ({**KEPT, "volume_gb": 0}, {**KEPT, "kept": False, "region": "fra1"}):
        assert after(deployed, server={"volumeSizeGb": 40}).named("server-data")


def test_a_protected_bucket_stays_when_images_are_stored_elsewhere() -> None:
    engine = after(KEPT, registry={"storage": "filesystem"})
    assert engine.named("registry-bucket-bucket").request.protect
    assert "S3_BUCKET=''" in engine.script("registry-storage")
    assert engine.exports["deployed"]["has_bucket"] is True
    assert not after({**KEPT, "kept": False}, registry={"storage": "filesystem"}).of_type(":SpacesBucket")


def test_a_protected_domain_stays_when_the_settings_call_it_existing() -> None:
    assert after(KEPT, dns={"zone": "existing"}).named("dns-domain").request.protect


def test_an_own_domain_that_the_settings_call_existing_is_left_behind_with_whatever_is_in_it() -> None:
    deployed = {**KEPT, "kept": False}
    left = after(deployed, dns={"zone": "existing"}, removal="everything").named("dns-domain").request
    assert (left.protect, left.retainOnDelete) == (False, True)
    assert not after({**deployed, "leaves_domain": True}, domain="other.test", dns={"zone": "existing"}).of_type(
        ":Domain"
    )
    assert not after({**deployed, "has_domain": False}, dns={"zone": "existing"}).of_type(":Domain")


def test_one_update_lifts_the_protection_before_another_can_delete_the_data() -> None:
    engine = after(KEPT, removal="everything", registry={"storage": "filesystem"})
    assert not engine.named("registry-bucket-bucket").request.protect
    assert engine.exports["deployed"]["kept"] is False


IMPORTED = {**KEPT, "projects": {"hello": "17"}, "adopted": {"hello": "17"}}
PROJECT = {"path": "hello", "importId": "17", "runners": []}


@pytest.mark.parametrize("deployed", [{**IMPORTED, "protected": ["hello"]}, {**IMPORTED, "protected": None}])
def test_the_protection_of_an_imported_project_is_not_removed_without_a_word(deployed: dict[str, Any]) -> None:
    known = {key: value for key, value in deployed.items() if value is not None}
    with pytest.raises(SettingsError, match=r"projects\[0\]\.protectDefaultBranch: is not set, .* would be removed"):
        after(known, projects=[PROJECT])
    for choice, expected in ((True, ["hello"]), (False, [])):
        engine = after(known, projects=[{**PROJECT, "protectDefaultBranch": choice}])
        assert [one.name for one in engine.of_type(":BranchProtection")] == ["delivery-hello-protection"] * choice
        assert engine.exports["deployed"]["protected"] == expected


def test_an_import_without_protection_stays_without_it() -> None:
    engine = after(IMPORTED, projects=[PROJECT])
    assert not engine.of_type(":BranchProtection")


GROUPED = {**KEPT, "projects": {"hello": "42"}, "groups": {"hello": "team/apps"}}


def move(group: str | None, now: str, deployed: dict[str, Any] = GROUPED, **project: Any) -> RecordingEngine:
    """Run the program with another group for a project whose full path is `now`."""
    engine = RecordingEngine(answers={"getProject": {"id": "42", "pathWithNamespace": now}})
    projects = [{"path": "hello", "group": group, "runners": [], **project}]
    after(deployed, engine=engine, existing_groups={"team": 7, "other": 8}, projects=projects)
    return engine


def test_a_project_moves_within_its_top_level_namespace() -> None:
    engine = move("Team", "team/apps/hello")
    assert engine.named("delivery-hello-project").inputs["namespaceId"] == 7
    assert engine.exports["deployed"]["groups"] == {"hello": "Team"}


@pytest.mark.parametrize(("group", "target"), [("other", "other"), (None, "root")])
def test_a_move_that_gitlab_refuses_for_images_is_refused_at_preview(group: str | None, target: str) -> None:
    with pytest.raises(RunError, match=f"Project team/apps/hello cannot move to {target}; .* namespace, which is team"):
        move(group, "team/apps/hello")


def test_an_import_is_not_moved_where_its_images_could_not_follow() -> None:
    with pytest.raises(RunError, match="Project old/hello cannot move to other; "):
        move("other", "old/hello", KEPT, importId="42")


def test_a_project_that_was_moved_by_hand_is_left_where_it_is() -> None:
    assert move("other", "other/hello").named("delivery-hello-project").inputs["namespaceId"] == 8
    assert "namespaceId" not in move(None, "root/hello").named("delivery-hello-project").inputs


def test_outputs_that_an_update_of_some_targets_left_unknown_count_as_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    outputs: dict[str, Any] = {"deployed": KEPT, "server_address": UNKNOWN, "gitlab_url": UNKNOWN}
    monkeypatch.setattr(pulumi.runtime, "invoke", lambda *_: Mock(value={"outputs": outputs}))
    found = DeploymentState.of_stack()
    assert found
    assert (found.address, found.fqdn) == ("", "")
    outputs["deployed"] = UNKNOWN
    assert DeploymentState.of_stack() is None


def test_a_state_file_that_is_being_written_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    unfinished = RuntimeError("reading stack outputs: failed to load checkpoint: EOF")
    asked = Mock(side_effect=[unfinished, unfinished, ANSWER])
    monkeypatch.setattr(pulumi.runtime, "invoke", asked)
    found = DeploymentState.of_stack()
    assert found
    assert found.as_output() == KEPT
    assert asked.call_count == 3


def test_a_state_that_cannot_be_read_is_an_error_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Mock(side_effect=RuntimeError("incorrect passphrase"))
    monkeypatch.setattr(pulumi.runtime, "invoke", asked)
    with pytest.raises(RuntimeError, match="incorrect passphrase"):
        DeploymentState.of_stack()
    assert asked.call_count == 1


def test_a_failed_update_reports_no_outputs_so_that_the_engine_keeps_the_former_ones() -> None:
    engine = RecordingEngine()
    projects = [{"path": "hello", "group": "nowhere"}]
    with pytest.raises(pulumi.RunError, match="GitLab has no group nowhere"):
        run_program(engine=engine, projects=projects, runners=[{"name": "docker-builder"}])
    # The engine keeps the former value of an output that is not among those that a failed update reports.
    assert engine.exports == {}


def test_only_the_secret_parts_of_an_output_are_secret() -> None:
    engine = run_program(projects=[{"path": "hello"}], runners=[{"name": "docker-builder"}])
    [project] = engine.sent_outputs["slipway-test"]["projects"]
    assert {key for key, value in project.items() if ENVELOPE in str(value)} == {"deploy_token"}
