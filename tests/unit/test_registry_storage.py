"""Where the registry keeps images: what the program declares for each kind of storage."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.unit.engine import RecordingEngine, run_program

S3 = {"bucket": "images", "accessKey": "the-access-key", "secretKey": "the-secret-key"}


@pytest.fixture(scope="module")
def engine() -> RecordingEngine:
    """The program with the required settings only."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DIGITALOCEAN_TOKEN", "dop_v1_of_a_unit_test")
        return run_program()


def test_the_bucket_is_private(engine: RecordingEngine) -> None:
    assert engine.named("registry-bucket-bucket").inputs["acl"] == "private"


def test_after_a_failed_change_the_previous_registry_settings_are_applied_again(engine: RecordingEngine) -> None:
    script = engine.script("registry-storage")
    restore = script.index('mv "$1" /etc/gitlab/registry.rb')
    assert 0 < script.index("reconfigure ||", restore) - restore < 80


def test_the_storage_is_verified_with_the_key_that_the_registry_uses(engine: RecordingEngine) -> None:
    script = engine.script("registry-storage")
    assert "S3_ACCESS_KEY=DO-registry-bucket-key\n" in script
    assert "S3_SECRET_KEY=secret-registry-bucket-key\n" in script
    assert "maker" not in script
    assert script.index("verify_bucket\n") < script.index('apply_settings "$unfinished"')


def test_the_registry_key_is_valid_for_its_bucket_only(engine: RecordingEngine) -> None:
    [grant] = engine.named("registry-bucket-key").inputs["grants"]
    assert grant == {"bucket": "slipway-test-registry-0badcafe", "permission": "readwrite"}


def test_amazon_gets_a_region_and_no_endpoint() -> None:
    script = run_program(registry={"storage": "s3", "s3": {**S3, "region": "eu-west-1"}}).script("registry-storage")
    assert "regionendpoint" not in script
    assert "checksum_disabled" not in script
    assert "S3_ENDPOINT=https://s3.eu-west-1.amazonaws.com" in script


def test_a_compatible_store_gets_its_endpoint() -> None:
    s3 = {**S3, "endpoint": "https://minio.example.test"}
    script = run_program(registry={"storage": "s3", "s3": s3}).script("registry-storage")
    assert "https://minio.example.test" in script
    assert "checksum_disabled" in script


def test_without_spaces_there_is_neither_bucket_nor_key() -> None:
    for registry in ({"storage": "filesystem"}, {"storage": "s3", "s3": S3}):
        engine = run_program(registry=registry)
        assert not engine.of_type(":SpacesBucket")
        assert not engine.of_type(":SpacesKey")


def test_each_storage_has_a_database_of_its_own() -> None:
    stacks = ({"storage": "filesystem"}, {"storage": "s3", "s3": S3}, {"storage": "spaces"})
    names = {re.search(r"'dbname' => '(\w+)' }", _registry_rb(registry)) for registry in stacks}
    assert len({found and found[1] for found in names}) == len(stacks)
    assert all("registry['database'] = { 'enabled' => true, " in _registry_rb(registry) for registry in stacks)


def test_the_garbage_collector_is_on_and_waits_as_long_as_the_settings_say() -> None:
    assert "registry['gc'] = { 'reviewafter' => '24h', " in _registry_rb({"storage": "filesystem"})
    assert "'reviewafter' => '72h', " in _registry_rb({"storage": "filesystem", "keepUntagged": "72h"})


def _registry_rb(registry: dict[str, Any]) -> str:
    script = run_program(registry=registry).script("registry-storage").replace("'\"'\"'", "'")
    return script[script.index("REGISTRY_RB=") : script.index("S3_ACCESS_KEY=")]


def test_with_images_on_the_filesystem_no_bucket_is_verified() -> None:
    script = run_program(registry={"storage": "filesystem"}).script("registry-storage")
    assert "S3_BUCKET=''" in script
    assert "rootdirectory" in script
