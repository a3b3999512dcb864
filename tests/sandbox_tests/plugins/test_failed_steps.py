"""Steps on machines that fail, in the real engine: each step of the program by its name, whichever it has by then."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sandbox_tests.support.pulumi_engine import Engine
from tests.sandbox_tests.support.ssh_server import SshServer, ssh_server
from tests.sandbox_tests.support.steps_of_program import config, path_with_programs, written
from tests.unit.delivered import delivered


@pytest.fixture(scope="module")
def steps() -> dict[str, bool]:
    """Every step of a stack that has one of everything, and whether it runs only once for each machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DIGITALOCEAN_TOKEN", "dop_v1_of_a_test")
        commands = delivered({"receiveImages": True}, backup={"enabled": True}).of_type(":Command")
    return {one.name: "stdin" in one.request.ignoreChanges for one in commands}


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SshServer]:
    monkeypatch.setenv("PATH", path_with_programs(tmp_path))
    with ssh_server() as running:
        yield running


def unnamed(output: str, names: list[str]) -> list[str]:
    """The steps whose failure does not name them."""
    failures = [line for line in output.splitlines() if "Process exited with status 1: running" in line]
    return [name for name in names if not any(f"bash -s -- {name} " in line for line in failures)]


def test_every_step_that_failed_runs_again_whether_its_inputs_are_new_or_those_from_before(
    server: SshServer, tmp_path: Path, steps: dict[str, bool]
) -> None:
    machine, names = tmp_path / "machine", sorted(steps)
    repeated = [name for name in names if not steps[name]]
    assert len(repeated) > 10
    engine = Engine(
        tmp_path / "engine",
        "steps",
        config(server, machine, steps, "broken"),
    )
    output = engine.up("--continue-on-error", fails=True)
    assert unnamed(output, names) == [], output
    assert output.count("the machine is broken") >= len(names)

    engine.configure({"value": "good"})
    engine.up()
    assert written(machine) == dict.fromkeys(names, "good")
    assert engine.changes().keys() == {"same"}

    for _ in range(2):
        engine.configure({"value": "broken"})
        output = engine.up("--continue-on-error", fails=True)
        assert unnamed(output, repeated) == []
        assert written(machine) == {name: "good" if once else "broken" for name, once in steps.items()}

    engine.configure({"value": "good"})
    assert engine.changes()["update"] == len(repeated)
    engine.up()
    assert written(machine) == dict.fromkeys(names, "good")
    assert engine.changes().keys() == {"same"}


def test_a_repetition_that_fails_as_well_is_repeated_in_turn(
    server: SshServer, tmp_path: Path, steps: dict[str, bool]
) -> None:
    machine, one = tmp_path / "machine", {"gitlab-configuration": False}
    assert one.keys() <= steps.keys()
    engine = Engine(
        tmp_path / "engine",
        "steps",
        config(server, machine, one, "good"),
    )
    engine.up()
    engine.configure({"value": "broken"})
    engine.up(fails=True)
    # The folder cannot be written: the way back fails, too.
    engine.configure({"value": "good"})
    machine.rename(tmp_path / "elsewhere")
    engine.up(fails=True)
    (tmp_path / "elsewhere").rename(machine)
    engine.up()
    assert written(machine) == {"gitlab-configuration": "good"}
    assert engine.changes().keys() == {"same"}


@pytest.mark.machines
def test_every_step_whose_connection_is_cut_fails_in_time_with_its_name_and_runs_again(
    tmp_path: Path, steps: dict[str, bool]
) -> None:
    program = [sys.executable, "-m", "tests.sandbox_tests.support.cut_connections", str(tmp_path), json.dumps(steps)]
    done = subprocess.run(
        ["unshare", "--net", *program], cwd=Path(__file__).parents[3], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    lost = "wait: remote command exited without exit status or exit signal: running "
    failures = [line for line in report["output"].splitlines() if lost in line]
    repeated = [name for name in sorted(steps) if not steps[name]]
    assert [name for name in repeated if not any(f"bash -s -- {name} " in line for line in failures)] == [], report[
        "output"
    ]
    assert report["written"] == dict.fromkeys(steps, "good")
