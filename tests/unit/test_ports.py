"""The firewall inside a machine, with a `ufw` that is played: what is open between two settings, and after them."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from components.rendering import script

UFW = """
ufw() {
  case "$*" in
    status) [ ! -e "$ROOT/active" ] || echo "Status: active" ;;
    "--force reset") rm -f "$ROOT"/open-* ;;
    "--force enable") touch "$ROOT/active" ;;
    "allow "*) touch "$ROOT/open-${2%/tcp}" ;;
    "delete allow "*) rm "$ROOT/open-${3%/tcp}" ;;
  esac
}
"""


@dataclass(frozen=True)
class Machine:
    """One machine."""

    root: Path

    def run(self, function: str, ports: str) -> set[int]:
        """Run a function with these public ports; what is open then."""
        files = "".join(script(name) for name in ("prelude.sh", "apt.sh", "ports.sh", "hardening.sh"))
        files = files.replace("/etc/ufw", str(self.root)).replace("/etc/default", str(self.root))
        text = f"{files}\nROOT={self.root}\nPUBLIC_PORTS='{ports}'\n{UFW}\n{function}"
        done = subprocess.run(["bash", "-s"], input=text, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return {int(file.name.removeprefix("open-")) for file in self.root.glob("open-*")}


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    (tmp_path / "ufw").touch()
    return Machine(tmp_path)


def test_another_port_is_opened_before_the_former_one_closes(machine: Machine) -> None:
    assert machine.run("configure_firewall", "80 443 5555") == {22, 80, 443, 5555}
    assert machine.run("configure_firewall", "80 443 5050") == {22, 80, 443, 5050, 5555}
    assert machine.run("configure_firewall", "80 443 5050") == {22, 80, 443, 5050, 5555}
    assert machine.run("close_other_ports", "80 443 5050") == {22, 80, 443, 5050}
    assert machine.run("close_other_ports", "80 443 5050") == {22, 80, 443, 5050}


def test_the_way_back_from_a_port_that_never_answered_leaves_what_was_open(machine: Machine) -> None:
    machine.run("configure_firewall", "80 443 5555")
    machine.run("configure_firewall", "80 443 5050")
    machine.run("configure_firewall", "80 443 5555")
    assert machine.run("close_other_ports", "80 443 5555") == {22, 80, 443, 5555}


def test_a_firewall_that_somebody_has_switched_off_is_set_up_again(machine: Machine) -> None:
    machine.run("configure_firewall", "80 443 5555")
    (machine.root / "active").unlink()
    (machine.root / "open-8080").touch()
    assert machine.run("configure_firewall", "80 443 5555") == {22, 80, 443, 5555}
