"""The step that mounts the server's data, on a machine whose commands are played: when GitLab starts on it again."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from components.rendering import script

#: Mounts are files in a folder, named after their target; they contain the number of their device.
MACHINE = """
with_heartbeat() { shift; "$@"; }
blkid() { echo ext4; }
resize2fs() { :; }
file_of() { echo "$ROOT/mounts/${1//\\//_}"; }
mountpoint() {
  case "$1" in
    --quiet) [ -e "$(file_of "$2")" ] ;;
    --fs-devno) cat "$(file_of "$2")" ;;
    --devno) cat "$ROOT/device" ;;
  esac
}
mount() { cat "$ROOT/device" >"$(file_of "$1")"; echo "mount ${1#"$ROOT"}" >>"$ROOT/commands"; }
umount() { rm "$(file_of "$2")"; echo "umount ${2#"$ROOT"}" >>"$ROOT/commands"; }
gitlab-ctl() { echo "gitlab-ctl $*" >>"$ROOT/commands"; }
"""
TARGETS = ("/mnt/gitlab", "/etc/gitlab", "/var/opt/gitlab", "/var/log/gitlab")


@dataclass(frozen=True)
class Server:
    """One machine, with a volume as its device 8:0."""

    root: Path

    def mount(self) -> list[str]:
        """Run the function; the commands that it ran."""
        folders = r"(?<!\w)/(mnt/gitlab|etc/|var/|opt/gitlab|dev/disk)"
        step = re.sub(folders, rf"{self.root}/\1", script("prepare-server.sh"))
        values = f"ROOT={self.root}\nVOLUME_NAME=data\nVOLUME_SIZE_GB=10\nLIMIT_SECONDS=9"
        text = "\n".join([script("prelude.sh"), values, step, MACHINE, "mount_data </dev/null"])
        commands = self.root / "commands"
        commands.write_text("")
        done = subprocess.run(["bash", "-s"], input=text, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return commands.read_text().splitlines()


@pytest.fixture
def server(tmp_path: Path) -> Server:
    for folder in ("mounts", "etc", "var/opt", "var/log", "mnt", "opt/gitlab/service", "dev/disk/by-id"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "dev/disk/by-id/scsi-0DO_Volume_data").touch()
    (tmp_path / "device").write_text("8:0")
    return Server(tmp_path)


def test_a_new_machine_gets_its_mounts_and_a_second_run_changes_nothing(server: Server) -> None:
    assert server.mount() == [f"mount {target}" for target in TARGETS]
    assert server.mount() == []
    assert len((server.root / "etc/fstab").read_text().splitlines()) == len(TARGETS)


def test_gitlab_is_started_again_on_data_that_was_away(server: Server) -> None:
    server.mount()
    (server.root / "opt/gitlab/service/puma").touch()
    for mount in (server.root / "mounts").iterdir():
        mount.unlink()
    assert server.mount() == [*(f"mount {target}" for target in TARGETS), "gitlab-ctl restart"]


def test_gitlab_whose_databases_are_between_two_servers_is_not_started(server: Server) -> None:
    server.mount()
    (server.root / "opt/gitlab/service/puma").touch()
    (server.root / "etc/gitlab/slipway-moving").touch()
    for mount in (server.root / "mounts").iterdir():
        mount.unlink()
    assert "gitlab-ctl restart" not in server.mount()


def test_gitlab_that_was_never_configured_on_the_machine_is_not_started(server: Server) -> None:
    # As a snapshot brings it along, with data from an earlier machine on the volume.
    (server.root / "var/opt/gitlab").mkdir()
    (server.root / "var/opt/gitlab/bootstrapped").touch()
    assert "gitlab-ctl restart" not in server.mount()


def test_mounts_of_a_device_that_is_gone_are_released_first(server: Server) -> None:
    server.mount()
    (server.root / "opt/gitlab/service/puma").touch()
    (server.root / "device").write_text("8:16")
    commands = server.mount()
    assert commands[0] == "gitlab-ctl stop"
    assert {f"umount {target}" for target in TARGETS} == set(commands[1:5])
    assert commands[5:] == [*(f"mount {target}" for target in TARGETS), "gitlab-ctl restart"]
