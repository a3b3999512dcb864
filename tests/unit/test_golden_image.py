"""Images with the packages installed: how they are made, what is never in them, and which droplets start from them."""

from __future__ import annotations

import datetime
import subprocess
from pathlib import Path
from typing import Any, Self

import pytest
import yaml
from pulumi import automation

from components.golden_image import GoldenImageArgs
from components.rendering import script
from components.settings import SettingsError
from components.shutdown import shut_down_before_snapshot
from tests.unit.engine import REQUIRED, RecordingEngine, run_program
from tests.unit.engine_answers import RefusedCall
from tests.unit.golden import image_args, image_program
from tests.unit.test_account import RUNNERS, RUNNING, droplet
from tests.unit.test_state import KEPT
from tools import golden_image
from tools.progress import ToolError

IMAGE: dict[str, Any] = {
    "id": 77,
    "distribution": "Ubuntu",
    "regions": ["nyc3"],
    "minDiskSize": 25,
    "created": f"{datetime.datetime.now(tz=datetime.UTC):%Y-%m-%dT%H:%M:%SZ}",
}
DROPLET = "urn:pulumi:test::slipway::slipway:index:GitLabServer$digitalocean:index/droplet:Droplet::server-droplet"
DEPLOYED = {"deployed": {**KEPT, "kept": False}}


def run(
    image: Any, previous: dict[str, Any] | None = None, *, made_from: str | None = None, **changes: Any
) -> RecordingEngine:
    """The program, in an account with that snapshot; with `made_from`, its server runs already."""
    engine = RecordingEngine(answers={"getImage": image})
    if made_from:
        # The API has no slug for a snapshot.
        server = {**droplet("slipway-test-server"), "name": "slipway-test", "image": made_from}
        engine.answers["getDroplets"] = {"droplets": [server]}
        engine.known = {**RUNNING, DROPLET: {"name": "slipway-test", "image": made_from}}
    return run_program(engine=engine, previous_outputs=previous, **changes)


def image_of(engine: RecordingEngine, name: str = "server-droplet") -> str:
    return str(engine.named(name).inputs["image"])


def names_asked(engine: RecordingEngine) -> list[str]:
    return [asked["name"] for token, asked in engine.calls if token.endswith(":getImage") and asked.get("name")]


def test_new_machines_start_from_the_snapshot_of_that_name_and_others_from_the_public_image() -> None:
    runners = [{**RUNNERS["runners"][0], "count": 2, "snapshot": "golden"}]
    engine = run(IMAGE, projects=RUNNERS["projects"], runners=runners)
    assert [image_of(engine, f"delivery-a-{number}-droplet") for number in (1, 2)] == ["77", "77"]
    assert image_of(engine) == "ubuntu-24-04-x64"
    assert names_asked(engine) == ["golden"]


@pytest.mark.parametrize(
    ("image", "message", "advice"),
    [
        (
            RefusedCall("no user image found with name golden"),
            "the account has no snapshot golden",
            "`make image` makes",
        ),
        ({**IMAGE, "distribution": "Debian"}, "golden is of Debian, and server.image is ubuntu-24-04-x64", "of Ubuntu"),
        ({**IMAGE, "regions": ["fra1"]}, "golden is in fra1, and the stack in nyc3", "in this region"),
    ],
)
def test_a_snapshot_that_no_machine_could_start_from_is_refused_before_anything_is_registered(
    image: Any, message: str, advice: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        run(image, server={"snapshot": "golden"})
    [line] = caught.value.errors
    assert line.startswith("server.snapshot: ")
    assert message in line
    assert advice in line


def test_a_snapshot_that_is_larger_than_the_disk_is_refused() -> None:
    with pytest.raises(
        SettingsError, match=r"server\.size: s-4vcpu-8gb has a disk of 160 GB, and golden needs one of 200 GB"
    ):
        run({**IMAGE, "minDiskSize": 200}, server={"snapshot": "golden"})


@pytest.mark.parametrize("server", [{"snapshot": "golden"}, {}], ids=["another snapshot", "none any more"])
@pytest.mark.parametrize("made_from", ["ubuntu-24-04-x64", "76"])
def test_a_machine_that_exists_keeps_what_it_was_made_from_and_nothing_is_asked(server: Any, made_from: str) -> None:
    engine = run(IMAGE, DEPLOYED, made_from=made_from, server=server)
    assert image_of(engine) == made_from
    assert names_asked(engine) == []


@pytest.mark.parametrize("change", [{"image": "debian-12-x64"}, {"vpcCidr": "10.20.0.0/24"}])
def test_a_machine_that_is_replaced_starts_from_the_snapshot(change: dict[str, Any]) -> None:
    image = {**IMAGE, "distribution": "Debian"} if "image" in change else IMAGE
    engine = run(image, DEPLOYED, made_from="ubuntu-24-04-x64", server={"snapshot": "golden", **change})
    assert image_of(engine) == "77"


def test_an_old_snapshot_is_named_at_preview() -> None:
    old = {**IMAGE, "created": "2026-01-01T00:00:00Z"}
    [line] = [one for one in run(old, dry_run=True, server={"snapshot": "golden"}).messages if "golden" in one]
    assert "days old" in line
    assert "`make image`" in line
    assert not [one for one in run(old, server={"snapshot": "golden"}).messages if "golden" in one]
    assert not [one for one in run(IMAGE, dry_run=True, server={"snapshot": "golden"}).messages if "golden" in one]


@pytest.mark.parametrize("which", ["server", "docker-builder"])
def test_an_image_is_kept_once_its_machine_has_its_packages_and_is_off(which: str) -> None:
    engine = image_program(which)
    snapshot = engine.named("image-snapshot")
    assert "image-packages" in snapshot.depends_on
    assert snapshot.request.retainOnDelete
    [name] = snapshot.request.hooks.before_create
    assert engine.hooks[name].callback is shut_down_before_snapshot
    assert [one.name for one in engine.custom if one.request.retainOnDelete] == ["image-snapshot"]
    assert "vpcUuid" not in engine.named("image-droplet").inputs
    [rule] = engine.named("image-firewall").inputs["inboundRules"]
    assert (rule["portRange"], rule["sourceAddresses"]) == ("22", ["192.0.2.10/32"])


def test_an_image_has_the_versions_of_the_stack_and_none_of_its_secrets() -> None:
    server, runner = image_args("server"), image_args("docker-builder")
    assert server.name.startswith(f"golden-server-{server.values['GITLAB_VERSION']}-ubuntu-24-04-x64-2")
    assert runner.values["RUNNER_VERSION"] in runner.name
    for engine in (image_program("server"), image_program("docker-builder")):
        assert "PRIVATE" not in engine.script("image-packages")
        assert not engine.of_type(":RenderedStep")


def test_an_image_for_a_machine_that_the_stack_does_not_have_is_refused_with_the_names_of_those_it_has() -> None:
    with pytest.raises(ToolError, match=r"the stack has no build; .* Use one of server, docker-builder"):
        image_args("build")


def test_what_belongs_to_one_machine_alone_is_removed_from_the_image(tmp_path: Path) -> None:
    private = ["home/slipway/.ssh/authorized_keys", "etc/ssh/ssh_host_ed25519_key", "var/lib/slipway/written/a.sha256"]
    private += ["var/log/slipway-packages.log", "root/.ssh/authorized_keys", "var/lib/systemd/random-seed"]
    for name in [*private, "etc/machine-id", "etc/ssh/sshd_config"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("known\n")
    text = script("seal.sh").replace(" /", f" {tmp_path}/").replace(">/etc", f">{tmp_path}/etc")
    world = f"""
        getent() {{ echo "slipway:x:1000:1000::{tmp_path}/home/slipway:/bin/bash"; }}
        apt-get() {{ :; }}; journalctl() {{ :; }}; cloud-init() {{ echo "$*" >{tmp_path}/forgotten; }}; sync() {{ :; }}
        ADMIN_USER=slipway
    """
    done = subprocess.run(
        ["bash", "-euc", f"{text}\nsay() {{ :; }}; die() {{ exit 1; }}\n{world}\nseal"],
        check=False,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    assert [name for name in private if (tmp_path / name).exists()] == []
    assert (tmp_path / "etc/machine-id").read_text() == ""
    assert (tmp_path / "etc/ssh/sshd_config").exists()
    assert (tmp_path / "forgotten").read_text() == "clean --logs\n"


class Made:
    """A stack of the Automation API, which records what is done with it."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.args: list[GoldenImageArgs] = []
        self.left = self.fails = False
        self.folder = Path("/")

    @property
    def workspace(self) -> Self:
        return self

    def export_stack(self) -> automation.Deployment:
        return automation.Deployment(version=3, deployment={"resources": [{"urn": "a"}]} if self.left else {})

    def up(self, **_: Any) -> None:
        self.done.append("up")
        if self.fails:
            raise automation.CommandError(automation.CommandResult(stdout="", stderr="error: no space", code=1))

    def destroy(self, **_: Any) -> None:
        self.done.append("destroy")

    def remove_stack(self, name: str) -> None:
        self.done.append(f"remove {name}")


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Made:
    """An account that has one older image, and three sizes of droplets."""
    made, real = Made(), golden_image.inputs
    sizes = [("large", 80, 24.0), ("small", 25, 42.0), ("tiny", 10, 4.0)]

    def every(path: str, _: str) -> list[dict[str, Any]]:
        if path == "/v2/sizes":
            common = {"available": True, "regions": ["nyc3"], "memory": 2048}
            return [{"slug": slug, "disk": disk, "price_monthly": price, **common} for slug, disk, price in sizes]
        names = {1: "golden-server-old", 2: made.args[0].name, 3: "somebody else's"}
        return [{"id": number, "name": name, "size_gigabytes": 2.5} for number, name in names.items()]

    def inputs(*given: Any) -> GoldenImageArgs:
        made.args.append(real(*given))
        return made.args[0]

    monkeypatch.setattr(golden_image, "every", every)
    monkeypatch.setattr(golden_image, "inputs", inputs)

    def select(*_: Any, opts: automation.LocalWorkspaceOptions, **__: Any) -> Made:
        made.folder = Path(str(opts.work_dir))
        return made

    monkeypatch.setattr(automation, "create_or_select_stack", select)
    return made


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A stack file."""
    path = tmp_path / "Pulumi.dev.yaml"
    path.write_text(yaml.safe_dump({"config": {f"slipway:{key}": value for key, value in REQUIRED.items()}}))
    return path


def test_an_image_is_made_on_the_smallest_disk_and_the_line_that_uses_it_is_printed(
    made: Made, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = golden_image.make_image("dev", "server", file)
    assert made.args[0].size == "small"
    assert made.done == ["up", "destroy", "remove dev-server"]
    assert not made.folder.exists()
    said = capsys.readouterr().out
    assert f"pulumi config set --stack dev --path 'slipway:server.snapshot' {name}" in said
    assert f"{name} has 2.5 GB, for 0.15 dollars a month" in said
    assert "golden-server-old is older; once no stack file names it: doctl compute snapshot delete 1" in said
    assert "somebody" not in said


def test_what_an_interrupted_run_has_left_is_deleted_first(made: Made, file: Path) -> None:
    made.left = True
    golden_image.make_image("dev", "server", file)
    assert made.done == ["destroy", "up", "destroy", "remove dev-server"]


def test_nothing_that_costs_money_stays_if_an_image_cannot_be_made(made: Made, file: Path) -> None:
    made.fails = True
    with pytest.raises(ToolError, match=r"the image was not made, .* \(error: no space\)\. Run this again"):
        golden_image.make_image("dev", "server", file)
    assert made.done == ["up", "destroy"]
