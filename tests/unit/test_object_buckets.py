"""Object storage for GitLab's files: what the program declares, and what stays until the files have moved back."""

from __future__ import annotations

import json
from typing import Any
from unittest import mock

import pytest
from pulumi import RunError

from components.object_buckets import TYPES
from components.settings import SettingsError
from tests.unit.engine import RecordingEngine, run_program
from tests.unit.test_nasty_stack_files import shell
from tests.unit.test_state import KEPT

SPACES = {"storage": "spaces"}
URN = "urn:pulumi:test::slipway::slipway:index:ObjectBuckets$digitalocean:index/spacesBucket:SpacesBucket::"
#: The Spaces in the state of a stack.
KNOWN = {f"{URN}object-buckets-artifacts": {"name": "slipway-test-artifacts-0badcafe", "region": "fra1"}}
MINE = {**KEPT, "kept": False}
EVERYTHING = {"removal": "everything"}


@pytest.fixture(scope="module")
def engine() -> RecordingEngine:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DIGITALOCEAN_TOKEN", "dop_v1_of_a_unit_test")
        return run_program(objectStorage=SPACES, backup={"enabled": True})


def buckets(engine: RecordingEngine) -> list[str]:
    return [one.inputs["name"] for one in engine.of_type(":SpacesBucket") if one.name.startswith("object-buckets-")]


def test_each_type_of_files_has_a_private_bucket_with_the_same_digits(engine: RecordingEngine) -> None:
    assert buckets(engine) == [f"slipway-test-{type_.replace('_', '-')}-0badcafe" for type_ in TYPES]
    for bucket in engine.of_type(":SpacesBucket"):
        assert bucket.inputs["acl"] == "private"
        assert bucket.inputs["lifecycleRules"][0]["abortIncompleteMultipartUploadDays"] == 3


def test_one_key_is_valid_for_these_buckets_alone(engine: RecordingEngine) -> None:
    grants = engine.named("object-buckets-key").inputs["grants"]
    assert grants == [{"bucket": name, "permission": "readwrite"} for name in buckets(engine)]


def test_gitlab_uses_them_with_a_secret_that_is_in_no_configuration_file(engine: RecordingEngine) -> None:
    sent = shell(engine, "gitlab-configuration")
    for type_, bucket in zip(TYPES, buckets(engine), strict=True):
        assert f"gitlab_rails['object_store']['objects']['{type_}']['bucket'] = '{bucket}'\n" in sent["GITLAB_RB"]
    assert "'endpoint' => 'https://nyc3.digitaloceanspaces.com'" in sent["GITLAB_RB"]
    assert "'aws_secret_access_key' => secrets['objectStorage.secretKey']\n" in sent["GITLAB_RB"]
    assert "secret-object-buckets-key" not in sent["GITLAB_RB"]
    assert json.loads(sent["SECRETS_JSON"]) == {"objectStorage.secretKey": "secret-object-buckets-key"}
    assert sent["USES_OBJECTS"] == "yes"


def test_files_move_over_once_everything_else_on_the_server_is_done(engine: RecordingEngine) -> None:
    step = engine.named("object-migration-move")
    assert {"registry-login", "backup-machine", "public-access-firewall"} <= step.depends_on


def test_backups_have_the_buckets_of_files(engine: RecordingEngine) -> None:
    sent = shell(engine, "backup-machine")["SETTINGS"]
    assert "OBJECTS_BUCKETS='artifacts=slipway-test-artifacts-0badcafe external_diffs=" in sent
    assert "OBJECTS_SECRET_KEY=secret-object-buckets-key\n" in sent
    shown = engine.named("backup-machine-rendered").inputs["SETTINGS"]
    assert "OBJECTS_SECRET_KEY='[secret]'\n" in shown


def test_a_stack_with_files_on_the_volume_has_none_of_this() -> None:
    engine = run_program()
    assert buckets(engine) == []
    assert not [one for one in engine.registrations if one.name.startswith(("object-buckets", "object-migration"))]
    assert "object_store" not in shell(engine, "gitlab-configuration")["GITLAB_RB"]


def after(deployed: dict[str, Any], **settings: Any) -> RecordingEngine:
    """The update that follows `deployed`, with the Spaces in the state."""
    return run_program({"deployed": deployed}, engine=RecordingEngine(known=KNOWN), **settings)


USED = {"has_objects": True, "uses_objects": True, "objects_region": "fra1"}


def test_the_update_that_moves_files_back_keeps_the_buckets_and_deletes_nothing_in_them() -> None:
    engine = after({**MINE, **USED}, **EVERYTHING)
    assert len(buckets(engine)) == len(TYPES)
    assert all(not one.inputs["forceDestroy"] for one in engine.of_type(":SpacesBucket") if "object" in one.name)
    sent = shell(engine, "gitlab-configuration")
    assert (sent["USES_OBJECTS"], sent["S3_REGION"]) == ("no", "fra1")
    assert sent["OBJECT_BUCKETS"].startswith("artifacts=slipway-test-artifacts-")
    assert sent["SECRETS_JSON"] == ""
    assert "object_store" not in sent["GITLAB_RB"]
    deployed = engine.exports["deployed"]
    assert (deployed["has_objects"], deployed.get("uses_objects", False)) == (True, False)


def test_other_spaces_cannot_replace_those_with_files() -> None:
    with pytest.raises(
        RunError, match=r"objectStorage.spacesRegion: nyc3 cannot follow fra1; the Spaces with GitLab's"
    ):
        after({**MINE, **USED}, objectStorage=SPACES, **EVERYTHING)


@pytest.mark.parametrize(
    "line", ["gitlab_rails['object_store']['enabled'] = false", "gitlab_rails['lfs_object_store_enabled'] = true"]
)
def test_lines_of_gitlab_rb_cannot_override_object_storage(line: str) -> None:
    with pytest.raises(SettingsError, match=r"gitlab.extraConfiguration: sets (lfs_)?object_store"):
        run_program(objectStorage=SPACES, gitlab={"extraConfiguration": line})


def test_the_next_update_deletes_them() -> None:
    moved = {**MINE, "has_objects": True, "objects_region": "fra1"}
    assert buckets(after(moved, **EVERYTHING)) == []


def test_protected_buckets_stay() -> None:
    moved = {**KEPT, "has_objects": True, "objects_region": "fra1"}
    assert len(buckets(after(moved))) == len(TYPES)


def test_buckets_of_an_update_that_failed_stay_until_their_files_have_moved_back() -> None:
    engine = after(MINE, **EVERYTHING)
    assert len(buckets(engine)) == len(TYPES)
    assert shell(engine, "gitlab-configuration")["S3_REGION"] == "fra1"


@pytest.mark.parametrize(
    ("stack", "is_refused"), [("production-frankfurt-a-bcde", False), ("production-frankfurt-a-bcdef", True)]
)
def test_a_stack_whose_name_leaves_no_room_for_that_of_a_bucket_is_refused_at_preview(
    stack: str, *, is_refused: bool
) -> None:
    """A bucket's name has 63 characters at most, and that of `agent-plan-content` is the longest of the stack."""
    with mock.patch("pulumi.get_stack", return_value=stack):
        run_program()
        if not is_refused:
            names = [len(one.inputs["name"]) for one in run_program(objectStorage=SPACES).of_type(":SpacesBucket")]
            assert names
            assert max(names) <= 63
            return
        with pytest.raises(SettingsError) as caught:
            run_program(objectStorage=SPACES)
    [line] = caught.value.errors
    assert line.startswith(f"objectStorage.storage: the Space slipway-{stack}-agent-plan-content-… would have a name")
