"""A stack whose state was lost: what the program takes over, what it refuses, and what `make recover` does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.object_buckets import TYPES
from components.settings import Settings, SettingsError
from tests.unit.account_api import AccountApi, served
from tests.unit.engine import RecordingEngine, run_program
from tests.unit.test_down import resource
from tools import buckets, cli, processes
from tools import recover as module
from tools import strays as strays_module
from tools.progress import ToolError
from tools.stack_files import read_settings
from tools.state import StackState

VOLUME = "506f78a4-e098-11e5-ad9f-000f53306ae1"
BUCKET = "slipway-test-registry-0a1b2c3d"
SPACES: dict[str, Any] = {"registry": {"storage": "spaces"}}
ACCOUNT: dict[str, list[dict[str, Any]]] = {
    "/v2/domains": [{"name": "example.test"}],
    "/v2/volumes": [{"id": VOLUME, "name": "slipway-test-data", "size_gigabytes": 50}],
    "/v2/reserved_ips": [{"ip": "203.0.113.7", "droplet": None, "region": {"slug": "nyc3"}}],
}
WHOLE = {"volume": VOLUME, "address": "203.0.113.7", "domain": True, "registryBucket": BUCKET}
HELLO: dict[str, Any] = {
    "projects": [{"path": "hello", "runners": ["docker"]}],
    "runners": [{"name": "docker"}],
}


def imported(engine: RecordingEngine) -> dict[str, str]:
    return {one.name: one.request.importId for one in engine.registrations if one.request.importId}


def refusals(account: dict[str, Any], **changes: Any) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        run_program(engine=RecordingEngine(listed=account), **changes)
    return caught.value.errors


def test_a_new_state_takes_over_exactly_what_the_settings_name() -> None:
    backup: dict[str, Any] = {"backup": {"enabled": True}}
    wanted = {**WHOLE, "backupBucket": "slipway-test-backup-ffffffff", "projects": {"hello": "12"}}
    engine = run_program(engine=RecordingEngine(listed=dict(ACCOUNT)), recover=wanted, **SPACES, **backup, **HELLO)
    assert imported(engine) == {
        "server-data": VOLUME,
        "server-address": "203.0.113.7",
        "dns-domain": "example.test",
        "registry-bucket-suffix": "ChssPQ",
        "registry-bucket-bucket": f"nyc3,{BUCKET}",
        "backup-suffix": "_____w",
        "backup-bucket": "nyc3,slipway-test-backup-ffffffff",
        "delivery-hello-project": "12",
    }


def test_what_the_state_has_is_not_imported_a_second_time() -> None:
    state = {one.urn: one.inputs for one in run_program(**SPACES, **HELLO).registrations}
    wanted = {**WHOLE, "projects": {"hello": "12"}}
    engine = RecordingEngine(listed=dict(ACCOUNT), known=state)
    assert imported(run_program(engine=engine, recover=wanted, **SPACES, **HELLO)) == {}


def test_in_a_new_state_data_that_is_there_is_named_with_the_setting_that_takes_it_over() -> None:
    found = refusals(ACCOUNT)
    assert f"\npulumi config set --stack test --path recover.volume {VOLUME}\n" in found[1]
    assert "\npulumi config set --stack test --path recover.domain true\n" in found[0]
    keys = {"/v2/spaces/keys": [{"name": "slipway-test-registry-maker", "access_key": "DO2"}]}
    assert "make recover STACK=test" in refusals(keys, **SPACES)[0]


@pytest.mark.parametrize(
    ("changes", "account", "words"),
    [
        ({"volume": VOLUME[:-1] + "2"}, {}, "recover.volume: the account has no volume slipway-test-data in nyc3"),
        ({"address": "203.0.113.8"}, {}, "recover.address: the account has no reserved address 203.0.113.8 in nyc3"),
        (
            {},
            {"/v2/reserved_ips": [{"ip": "203.0.113.7", "droplet": {"name": "theirs", "id": 5}}]},
            "recover.address: 203.0.113.7 points to the droplet theirs (ID 5)",
        ),
        ({}, {"/v2/domains": [{"name": "another.test"}]}, "recover.domain: the account has no zone example.test"),
        ({"registryBucket": None}, {}, "recover.registryBucket: is not set, but recover.volume is"),
        (
            {"registryBucket": "slipway-test-2-registry-0a1b2c3d"},
            {},
            "recover.registryBucket: slipway-test-2-registry-0a1b2c3d is not a bucket of this stack",
        ),
        (
            {},
            {"/v2/volumes": [{"id": VOLUME, "name": "slipway-test-data", "size_gigabytes": 60}]},
            "server.volumeSizeGb: 50 is less than the 60 GiB of the volume slipway-test-data",
        ),
    ],
)
def test_what_cannot_be_taken_over_is_refused_at_preview(
    changes: dict[str, Any], account: dict[str, Any], words: str
) -> None:
    wanted = {key: value for key, value in {**WHOLE, **changes}.items() if value is not None}
    found = refusals({**ACCOUNT, **account}, recover=wanted, **SPACES)
    assert any(line.startswith(words) for line in found), found


def test_the_spaces_of_gitlabs_files_are_taken_over_by_the_digits_of_their_names() -> None:
    files: dict[str, Any] = {"objectStorage": {"storage": "spaces"}}
    wanted = {**WHOLE, "objectBuckets": "0a1b2c3d"}
    engine = run_program(engine=RecordingEngine(listed=dict(ACCOUNT)), recover=wanted, **SPACES, **files)
    found = {name: taken for name, taken in imported(engine).items() if name.startswith("object-buckets-")}
    assert found.pop("object-buckets-suffix") == "ChssPQ"
    kinds = [type_.replace("_", "-") for type_ in TYPES]
    assert found == {f"object-buckets-{kind}": f"nyc3,slipway-test-{kind}-0a1b2c3d" for kind in kinds}
    new = run_program(
        engine=RecordingEngine(listed=dict(ACCOUNT)), recover={**wanted, "objectBuckets": "new"}, **SPACES, **files
    )
    assert not any(name.startswith("object-buckets-") for name in imported(new))
    found_errors = refusals(dict(ACCOUNT), recover=WHOLE, **SPACES, **files)
    assert any(line.startswith("recover.objectBuckets: is not set, but recover.volume is") for line in found_errors)


def test_a_registry_whose_space_is_gone_gets_a_new_one() -> None:
    wanted = {**WHOLE, "registryBucket": "new"}
    engine = run_program(engine=RecordingEngine(listed=dict(ACCOUNT)), recover=wanted, **SPACES)
    assert "registry-bucket-bucket" not in imported(engine)


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[AccountApi]:
    with served(monkeypatch) as served_api:
        yield served_api


@pytest.fixture
def state(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The resources in the new state: none, unless a test adds some."""
    resources: list[dict[str, Any]] = []
    monkeypatch.setattr(strays_module, "all_stacks", lambda: ["organization/slipway/test"])
    monkeypatch.setattr(StackState, "of_stack", lambda name: StackState(name, {"deployment": {"resources": resources}}))
    monkeypatch.setattr(
        buckets, "found", lambda *_: iter([(BUCKET, "nyc3", lambda: pytest.fail("a bucket is removed"))])
    )
    monkeypatch.setattr(strays_module, "stack_files", dict)
    return resources


@pytest.fixture
def updates(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The settings with which each update ran."""
    ran: list[dict[str, Any]] = []

    def run_attached(command: list[str], _: object) -> int:
        file = Path(command[command.index("--config-file") + 1])
        ran.append(yaml.safe_load(file.read_text())["config"])
        return 0

    monkeypatch.setattr(processes, "run_attached", run_attached)
    monkeypatch.setattr(module, "_in_gitlab", lambda *_: {"groups": {}, "projects": {"hello": "12"}})
    return ran


@pytest.fixture
def file(tmp_path: Path) -> Path:
    settings = {
        "domain": "example.test",
        "adminCidrs": ["192.0.2.10/32"],
        "projects": [
            {
                "path": "hello",
                "runners": ["docker"],
                "deploy": [{"name": "demo", "droplet": {}, "healthCheck": {"command": "true"}}],
            }
        ],
        "runners": [{"name": "docker"}],
    }
    path = tmp_path / "Pulumi.test.yaml"
    path.write_text(yaml.safe_dump({"config": {f"slipway:{key}": value for key, value in settings.items()}}))
    return path


#: A machine that a project was deployed to: nothing on it is kept.
TARGET = "slipway-test-target-hello-demo"


def left_behind(api: AccountApi) -> None:
    """A stack that was lost while it ran, and things of others."""
    droplet = {"id": 11, "name": "slipway-test", "tags": [], "region": {"slug": "nyc3"}, "status": "off"}
    api.things |= {
        "/v2/droplets": [
            droplet,
            {**droplet, "id": 12, "name": "slipway-test-2"},
            {**droplet, "id": 13, "name": TARGET},
        ],
        "/v2/volumes": [
            {"id": VOLUME, "name": "slipway-test-data", "size_gigabytes": 50, "tags": []},
            {"id": "v2", "name": "slipway-test-2-data", "size_gigabytes": 50, "tags": []},
        ],
        "/v2/spaces/keys": [{"access_key": "DO00", "name": "slipway-test-registry-maker", "grants": []}],
        "/v2/domains": [{"name": "example.test"}],
        "/v2/domains/example.test/records": [
            {"id": 1, "type": "A", "name": "gitlab", "data": "203.0.113.7"},
            {"id": 2, "type": "A", "name": "www", "data": "203.0.113.7"},
        ],
        "/v2/reserved_ips": [
            {"ip": "203.0.113.7", "droplet": {"name": "slipway-test"}, "region": {"slug": "nyc3"}},
            {"ip": "203.0.113.9", "droplet": None, "region": {"slug": "nyc3"}},
        ],
    }


def test_data_is_taken_over_in_two_updates_and_only_what_can_be_created_again_is_deleted(
    api: AccountApi, state: list[dict[str, Any]], updates: list[dict[str, Any]], file: Path
) -> None:
    del state
    left_behind(api)
    before = file.read_text()
    assert module.recover("test", module.Wish(file), confirmed=True) == 0
    assert api.writes == [
        "DELETE /v2/droplets/11",
        "DELETE /v2/droplets/13",
        "DELETE /v2/spaces/keys/DO00",
        "DELETE /v2/domains/example.test/records/1",
    ]
    assert updates[0]["slipway:recover"] == WHOLE
    assert "slipway:projects" not in updates[0]
    assert updates[1]["slipway:recover"] == {"projects": {"hello": "12"}}
    assert [one["path"] for one in updates[1]["slipway:projects"]] == ["hello"]
    assert file.read_text() == before
    for settings in updates:
        Settings.model_validate({key.removeprefix("slipway:"): value for key, value in settings.items()})


def test_a_cluster_holds_no_data_and_is_deleted_if_a_runner_of_the_stack_file_has_one(
    api: AccountApi, state: list[dict[str, Any]], file: Path
) -> None:
    del state
    left_behind(api)
    names = {"c1": "slipway-test-pods", "c2": "slipway-test-others"}
    api.things["/v2/kubernetes/clusters"] = [{"id": key, "name": name} for key, name in names.items()]
    no_space = module.Wish(new_space=True)
    assert not [
        one for one in module.look("test", read_settings("test", file), no_space).useless if "c1" in one.identifier
    ]
    content = yaml.safe_load(file.read_text())
    content["config"]["slipway:runners"] = [{"name": "pods", "kind": "kubernetes"}]
    for project in content["config"]["slipway:projects"]:
        project["runners"] = ["pods"]
    file.write_text(yaml.safe_dump(content))
    useless = module.look("test", read_settings("test", file), no_space).useless
    assert [one.identifier for one in useless if one.noun == "KubernetesCluster"] == ["c1"]


def test_a_space_with_caches_is_deleted_and_not_taken_for_one_of_gitlabs_files(
    api: AccountApi, state: list[dict[str, Any]], file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del state
    left_behind(api)
    space = "slipway-test-cache-0a1b2c3d"
    monkeypatch.setattr(buckets, "found", lambda *_: iter([(space, "nyc3", lambda: None)]))
    content = yaml.safe_load(file.read_text())
    content["config"]["slipway:objectStorage"] = {"storage": "spaces"}
    file.write_text(yaml.safe_dump(content))
    found = module.look("test", read_settings("test", file), module.Wish(new_space=True))
    assert found.settings["objectBuckets"] == "new"
    assert space in [one.name for one in found.useless]


def test_without_a_yes_nothing_is_touched(
    api: AccountApi,
    state: list[dict[str, Any]],
    file: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    del state
    left_behind(api)
    api.things["/v2/reserved_ips"] = api.things["/v2/reserved_ips"][1:]
    monkeypatch.setattr("tools.recover.Confirm.ask", lambda *_, **__: False)
    monkeypatch.setattr(processes, "run_attached", lambda *_: pytest.fail("an update runs"))
    with pytest.raises(ToolError, match="nothing was changed"):
        module.recover("test", module.Wish(file), confirmed=False)
    assert api.writes == []
    printed = capsys.readouterr().out
    assert f"volume: {VOLUME}" in printed
    assert "Droplet slipway-test (ID 11)" in printed
    # An address has no name, so it is never taken over by a guess.
    assert "If one of 203.0.113.9" in printed


@pytest.mark.parametrize("has_state", [True, False], ids=["a state that is whole", "an account without a volume"])
def test_where_nothing_was_lost_nothing_is_changed(
    has_state: bool, api: AccountApi, state: list[dict[str, Any]], updates: list[dict[str, Any]], file: Path
) -> None:
    if has_state:
        state += [
            resource("Volume", "server-data", VOLUME),
            {"urn": "urn::delivery-hello-project", "type": "gitlab:index/project:Project", "custom": True, "id": "12"},
        ]
    with pytest.raises(ToolError, match="nothing was changed" if has_state else "nothing to recover"):
        module.recover("test", module.Wish(file), confirmed=True)
    assert (api.writes, updates) == ([], [])


def test_a_registry_without_its_space_is_not_given_a_new_one_unless_somebody_says_so(
    api: AccountApi, state: list[dict[str, Any]], file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del state
    left_behind(api)
    asked: list[str] = []

    def found(regions: frozenset[str], _: object) -> Iterator[Any]:
        asked.extend(regions)
        return iter([])

    monkeypatch.setattr(buckets, "found", found)
    settings = read_settings("test", file)
    with pytest.raises(ToolError, match=r"no Space slipway-test-registry-… in nyc3, .* nothing was changed"):
        module.look("test", settings, module.Wish())
    # Nobody needs a state or a file in stacks/ for its region to be looked in.
    assert asked == ["nyc3"]
    assert module.look("test", settings, module.Wish(new_space=True)).settings["registryBucket"] == "new"


def test_managed_databases_are_taken_over_and_are_not_created_empty_unless_somebody_says_so(
    api: AccountApi, state: list[dict[str, Any]], file: Path
) -> None:
    del state
    left_behind(api)
    content = yaml.safe_load(file.read_text())
    content["config"]["slipway:databases"] = {"postgresql": {"kind": "managed"}, "valkey": {"kind": "managed"}}
    content["config"]["slipway:registry"] = {"storage": "filesystem"}
    file.write_text(yaml.safe_dump(content))
    settings = read_settings("test", file)
    cluster = {
        "id": "c1",
        "name": "slipway-test-postgresql",
        "size": "db-s-1vcpu-2gb",
        "num_nodes": 1,
        "region": "nyc3",
    }
    api.things |= {
        "/v2/databases": [cluster],
        "/v2/vpcs": [{"id": "n1", "name": "slipway-test-nyc3", "default": False, "region": "nyc3"}],
        "/v2/tags": [{"name": "slipway-test-server"}],
    }
    with pytest.raises(ToolError, match=r"no cluster slipway-test-valkey, .* nothing was changed\."):
        module.look("test", settings, module.Wish())
    found = module.look("test", settings, module.Wish(new_database=True))
    assert (found.settings["postgresql"], found.settings["valkey"]) == ("c1", "new")
    # The clusters are in the network, and accept what carries the tag.
    assert not [one for one in found.useless if one.noun in {"DatabaseCluster", "Vpc", "Tag"}]
    del api.things["/v2/databases"]
    lost = module.look("test", settings, module.Wish(new_database=True))
    assert {"Vpc", "Tag"} <= {one.noun for one in lost.useless}


def test_an_address_that_the_account_does_not_have_is_refused(
    api: AccountApi, state: list[dict[str, Any]], file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del state
    left_behind(api)
    words = ["--stack", "test", "--config-file", str(file), "--address", "203.0.113.99", "--yes"]
    monkeypatch.setattr("sys.argv", ["tools", "recover", *words])
    with pytest.raises(SystemExit, match=r"203\.0\.113\.99: is not a reserved address in nyc3 that no stack has"):
        cli.main()
    assert api.writes == []


def test_the_space_with_backups_is_taken_over_with_the_key_that_reads_them_and_not_without(
    api: AccountApi, state: list[dict[str, Any]], file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del state
    left_behind(api)
    space = "slipway-test-backup-0a1b2c3d"
    monkeypatch.setattr(buckets, "found", lambda *_: iter([(space, "nyc3", lambda: None)]))
    content = yaml.safe_load(file.read_text())
    content["config"]["slipway:backup"] = {"enabled": True}
    file.write_text(yaml.safe_dump(content))
    settings, no_space = read_settings("test", file), module.Wish(new_space=True)
    without = module.look("test", settings, no_space)
    assert "backupBucket" not in without.settings
    assert without.unreadable == space
    # A second key for the same Space would make every further backup fail.
    keys = {"bucket": space, "encryption_key": "sealed"}
    assert module.look("test", settings, no_space, keys=keys).settings["backupBucket"] == space
    with pytest.raises(ToolError, match="--keys: is for the Space another"):
        module.look("test", settings, no_space, keys={**keys, "bucket": "another"})
    (tmp_path / "keys.json").write_text("{}")
    with pytest.raises(ToolError, match="nothing was changed"):
        module.recover("test", module.Wish(file, keys=tmp_path / "keys.json"), confirmed=True)
    assert api.writes == []


def test_the_key_of_the_backups_is_put_into_the_state_as_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    urn = "urn:pulumi:test::slipway::random:index/randomPassword:RandomPassword::backup-encryption-key"
    exported = {"deployment": {"resources": [{"urn": urn, "id": "none", "outputs": {"result": "other"}}]}}
    sent: list[tuple[tuple[str, ...], str]] = []

    def run(*words: str, stdin: str = "", **_: Any) -> str:
        sent.append((words, stdin))
        return json.dumps(exported)

    monkeypatch.setattr("tools.state.run", run)
    module._put_key("test", "sealed")
    words, stdin = sent[-1]
    [resource_] = json.loads(stdin)["deployment"]["resources"]
    assert resource_["outputs"]["result"]["plaintext"] == '"sealed"'
    assert resource_["id"] == "none"
    assert "sealed" not in " ".join(words)


@pytest.mark.parametrize(
    ("recovered", "words"),
    [
        ({"registryBucket": BUCKET}, "recover.registryBucket: is set, but registry.storage is not spaces"),
        ({"backupBucket": "slipway-test-backup-0a1b2c3d"}, "recover.backupBucket: is set, but backup.enabled is not"),
        ({"volume": "slipway-test-data"}, "recover.volume: is not the ID of a volume"),
        ({"address": "gitlab.example.test"}, "recover.address: is not an IPv4 address"),
        ({"objectBuckets": "0a1b2c3d"}, "recover.objectBuckets: is set, but objectStorage.storage is not spaces"),
        ({"registryBucket": "images"}, "recover.registryBucket: is not the name of a bucket that a stack has created"),
        ({"groups": {"team": "Team"}}, "recover.groups.team: is not the ID of a group"),
        ({"projects": {"hello": "root/hello"}}, "recover.projects.hello: is not the ID of a project"),
    ],
)
def test_a_setting_that_could_take_nothing_over_is_refused(recovered: dict[str, Any], words: str) -> None:
    found = refusals({}, recover=recovered, registry={"storage": "filesystem"})
    assert any(line.startswith(words) for line in found), found
