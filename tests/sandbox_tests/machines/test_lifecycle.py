"""Machines: they boot, take what the API was given, keep their state, and go off and on as told."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import asyncssh
import pytest

from tests.sandbox.digitalocean.state.backend import MachineSpec, VolumeSpec
from tests.sandbox_tests.support.machines_tree import IMAGE, MachinesTree

pytestmark = pytest.mark.machines

_USER_DATA = (Path(__file__).parent / "user_data.yaml").read_text()
_VOLUME = VolumeSpec("volume-1", "data", size_gb=1, filesystem="ext4", label="data")
_DEVICE = "/dev/disk/by-id/scsi-0DO_Volume_data"


@pytest.fixture(scope="module")
def key() -> asyncssh.SSHKey:
    """The admin's key."""
    return asyncssh.generate_private_key("ssh-ed25519")


@pytest.fixture(scope="module")
def machine(tree: MachinesTree, key: asyncssh.SSHKey) -> MachineSpec:
    """A machine that has finished its first boot."""
    spec = MachineSpec(
        id=1,
        name="one",
        image=IMAGE,
        vcpus=4,
        memory_mb=1024,
        disk_gb=25,
        public_ipv4="203.0.113.11",
        anchor_ipv4="10.10.0.11",
        user_data=_USER_DATA,
        ssh_keys=(key.export_public_key().decode().strip(),),
        region="nyc3",
    )
    tree.call("create_machine", spec)
    ready(tree, "1")
    return spec


def ready(tree: MachinesTree, place: str) -> None:
    """Wait until a machine has booted, cloud-init included."""
    assert tree.eventually(place, "systemctl", "is-active", "dbus").ok
    waited = tree.run(place, "cloud-init", "status", "--wait", "--long", timeout_s=60)
    assert "status: done" in waited.output, waited.output
    assert "degraded" not in waited.output


def ssh(tree: MachinesTree, spec: MachineSpec, key: asyncssh.SSHKey, command: str) -> str:
    """Run a command over SSH as root from the workstation, with the system's own client."""
    identity = tree.layout.state / "admin"
    identity.touch(mode=0o600)
    identity.write_bytes(key.export_private_key())
    options = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR", "ConnectTimeout=5"]
    flags = [word for option in options for word in ("-o", option)]
    target = f"root@{spec.public_ipv4}"
    finished = tree.eventually("workstation", "ssh", "-i", str(identity), *flags, target, command, within_s=15)
    assert finished.ok, finished.output
    return finished.output


def boot_id(tree: MachinesTree, place: str) -> str:
    """Changes with every boot of a machine."""
    return tree.run(place, "cat", "/proc/sys/kernel/random/boot_id").output.strip()


def test_user_data_is_applied_and_the_system_is_healthy(tree: MachinesTree, machine: MachineSpec) -> None:
    del machine
    assert tree.run("1", "stat", "-c", "%a %U", "/etc/greeting").output.strip() == "640 root"
    assert tree.run("1", "cat", "/etc/greeting", "/root/ran").output == "hello\nyes\n"
    assert tree.run("1", "hostname").output.strip() == "one"
    assert tree.eventually("1", "systemctl", "is-system-running").output.strip() == "running"
    assert "0 loaded units" in tree.run("1", "systemctl", "--failed").output


def test_root_logs_in_with_the_key_and_has_no_password(
    tree: MachinesTree, machine: MachineSpec, key: asyncssh.SSHKey
) -> None:
    assert ssh(tree, machine, key, "id -un; passwd --status root").split()[:3] == ["root", "root", "L"]


def test_a_machine_has_no_software_that_its_real_image_lacks(tree: MachinesTree, machine: MachineSpec) -> None:
    del machine
    for absent in ("docker", "git", "ruby", "nginx", "ufw"):
        assert not tree.run("1", "which", absent).ok
    for present in ("sshd", "cloud-init", "python3", "curl", "gpg", "iptables", "rsync"):
        assert tree.run("1", "which", present).ok


def test_a_machine_trusts_the_sandbox_and_installs_from_its_mirror_only(
    tree: MachinesTree, machine: MachineSpec
) -> None:
    del machine
    uris = tree.run("1", "apt-get", "update", "--print-uris").output.split("\n")
    asked = [line.split("'")[1] for line in uris if line.startswith("'")]
    assert asked
    assert all(uri.startswith("https://mirrors.digitalocean.com/debian/dists/trixie/") for uri in asked)
    trusted = tree.run("1", "openssl", "verify", "/usr/local/share/ca-certificates/sandbox-ca.crt")
    assert trusted.output.strip().endswith("OK")


def test_kernel_settings_of_the_host_are_out_of_reach(tree: MachinesTree, machine: MachineSpec) -> None:
    del machine
    before = tree.run("cloud", "sysctl", "-n", "vm.swappiness", "kernel.pid_max").output
    assert tree.run("1", "sysctl", "-w", "vm.swappiness=1", "kernel.pid_max=32768", "fs.file-max=9999").ok
    assert tree.run("1", "sysctl", "-n", "vm.swappiness", "kernel.pid_max").output == "1\n32768\n"
    assert tree.run("1", "sysctl", "--system").ok
    assert tree.run("cloud", "sysctl", "-n", "vm.swappiness", "kernel.pid_max").output == before


def test_a_reboot_from_inside_keeps_state_and_runs_user_data_once(
    tree: MachinesTree, machine: MachineSpec, key: asyncssh.SSHKey
) -> None:
    host_key = tree.run("1", "cat", "/etc/ssh/ssh_host_ed25519_key.pub").output
    tree.run(
        "1", "sh", "-c", "echo kept > /root/state; echo '10.1.1.1 friend' >> /etc/cloud/templates/hosts.debian.tmpl"
    )
    before = boot_id(tree, "1")
    tree.run("1", "systemctl", "reboot")
    assert tree.eventually("1", "sh", "-c", f"test $(cat /proc/sys/kernel/random/boot_id) != {before}").ok
    ready(tree, "1")
    assert ssh(tree, machine, key, "cat /root/state /root/ran") == "kept\nyes\n"
    assert tree.run("1", "cat", "/etc/ssh/ssh_host_ed25519_key.pub").output == host_key
    assert "friend" in tree.run("1", "cat", "/etc/hosts").output


def test_a_machine_that_powers_itself_off_stays_off_until_powered_on(tree: MachinesTree, machine: MachineSpec) -> None:
    tree.run("1", "systemctl", "poweroff")
    assert tree.eventually("cloud", "sh", "-c", "! ip link show p1").ok
    assert tree.call("running", 1) is False
    tree.restart_backend()
    assert tree.call("running", 1) is False
    tree.call("power_on", machine.id)
    ready(tree, "1")
    assert tree.run("1", "cat", "/root/state").output == "kept\n"


def test_power_calls_are_idempotent(tree: MachinesTree, machine: MachineSpec) -> None:
    for call in ("shut_down", "shut_down", "power_off"):
        tree.call(call, machine.id)
        assert tree.call("running", machine.id) is False
    tree.call("resize_machine", machine.id, 1, 768, 25)
    limit = ("sh", "-c", "cat /sys/fs/cgroup/memory/memory.limit_in_bytes || cat /sys/fs/cgroup/memory.max")
    for call in ("power_on", "power_on", "reboot"):
        tree.call(call, machine.id)
        assert tree.call("running", machine.id) is True
    ready(tree, "1")
    assert tree.run("1", *limit).output.strip() == str(768 * 2**20)


def test_machines_keep_running_while_the_backend_restarts(tree: MachinesTree, machine: MachineSpec) -> None:
    del machine
    before = boot_id(tree, "1")
    tree.restart_backend()
    assert boot_id(tree, "1") == before


def test_an_attached_volume_has_its_name_and_filesystem_and_is_mounted_again_after_a_reboot(
    tree: MachinesTree, machine: MachineSpec
) -> None:
    tree.call("create_volume", _VOLUME)
    tree.call("attach_volume", _VOLUME.id, machine.id)
    assert tree.run("1", "blkid", "-o", "value", "-s", "TYPE", "-s", "LABEL", _DEVICE).output.split() == [
        "data",
        "ext4",
    ]
    tree.run(
        "1", "sh", "-c", f"mkdir /mnt/data; echo '{_DEVICE} /mnt/data ext4 defaults,nofail,discard 0 2' >> /etc/fstab"
    )
    mounted = tree.run("1", "sh", "-c", "systemctl daemon-reload; mount /mnt/data && echo precious > /mnt/data/file")
    assert mounted.ok, mounted.output
    tree.call("reboot", machine.id)
    ready(tree, "1")
    assert tree.eventually("1", "findmnt", "-n", "-o", "FSTYPE", "/mnt/data").output.strip() == "ext4"
    assert tree.run("1", "cat", "/mnt/data/file").output == "precious\n"


def test_a_mounted_volume_can_be_detached_grown_and_attached_to_another_machine(
    tree: MachinesTree, machine: MachineSpec
) -> None:
    loops = tree.run("cloud", "losetup", "--associated", str(tree.layout.state / "volumes" / "volume-1.img"))
    assert loops.output.count("/dev/loop") == 1
    tree.call("detach_volume", _VOLUME.id, machine.id)
    assert not tree.run("1", "findmnt", "/mnt/data").ok
    assert not tree.run("1", "ls", _DEVICE).ok
    loops = tree.run("cloud", "losetup", "--associated", str(tree.layout.state / "volumes" / "volume-1.img"))
    assert loops.output == ""
    tree.call("resize_volume", _VOLUME.id, 2)
    tree.call("attach_volume", _VOLUME.id, machine.id)
    assert tree.run("1", "blockdev", "--getsize64", _DEVICE).output.strip() == str(2 * 2**30)
    assert tree.run("1", "sh", "-c", "mount /mnt/data && cat /mnt/data/file").output == "precious\n"


def test_after_a_crash_everything_is_back_and_nothing_was_left_on_the_host(
    tree: MachinesTree, machine: MachineSpec
) -> None:
    off = dataclasses.replace(machine, id=2, name="two", public_ipv4="203.0.113.12", anchor_ipv4="10.10.0.12")
    tree.call("create_machine", off)
    tree.call("power_off", off.id)
    tree.run("1", "sh", "-c", "echo still > /root/here; sync")
    tree.crash()
    assert tree.call("running", machine.id) is True
    assert tree.call("running", off.id) is False
    ready(tree, "1")
    assert tree.run("1", "cat", "/root/here").output == "still\n"
    assert tree.eventually("1", "cat", "/mnt/data/file").output == "precious\n"
    loops = tree.run("cloud", "losetup", "--noheadings", "--output", "BACK-FILE").output
    assert loops.count(str(tree.layout.state)) == 1
    tree.call("destroy_machine", off.id)


def test_a_rebuilt_machine_is_new_and_has_its_volume(tree: MachinesTree, machine: MachineSpec) -> None:
    tree.call("rebuild_machine", machine)
    ready(tree, "1")
    assert not tree.run("1", "ls", "/root/state").ok
    assert tree.run("1", "ls", _DEVICE).ok


def test_a_machine_that_starts_from_a_snapshot_has_its_disk_and_a_name_of_its_own(
    tree: MachinesTree, machine: MachineSpec
) -> None:
    assert tree.run("1", "sh", "-c", "echo kept >/root/mark && sync").ok
    assert tree.call("create_snapshot", 1, 900) > 0
    other = dataclasses.replace(
        machine, id=9, name="nine", image="900", public_ipv4="203.0.113.19", anchor_ipv4="10.10.0.19"
    )
    tree.call("create_machine", other)
    ready(tree, "9")
    assert tree.run("9", "cat", "/root/mark").output.strip() == "kept"
    assert tree.run("9", "hostname").output.strip() == "nine"
    tree.call("delete_snapshot", 900)
    assert tree.run("9", "cat", "/root/mark").ok
    tree.call("destroy_machine", 9)


def test_a_destroyed_machine_leaves_nothing(tree: MachinesTree, machine: MachineSpec) -> None:
    tree.call("destroy_machine", machine.id)
    tree.call("destroy_machine", machine.id)
    tree.call("delete_volume", _VOLUME.id)
    assert not tree.run("cloud", "ip", "link", "show", "p1").ok
    assert not (tree.layout.state / "machines" / "1").exists()
    assert list((tree.layout.state / "volumes").iterdir()) == []
    engine = f"unix://{tree.layout.engine_socket}"
    assert tree.run("cloud", "docker", "--host", engine, "ps", "--all", "--quiet").output == ""
    assert tree.run("cloud", "docker", "--host", engine, "volume", "ls", "--quiet").output == ""
