"""Every script that runs on a machine, and what happens to what works there when it fails. A new script needs its case.

That every step runs again after a failure, whatever its inputs are by then, is tested with the real engine in
`tests/sandbox_tests/plugins/test_failed_steps.py`, for each step by its name.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from components.rendering import script
from tests.unit.source import tree
from tests.unit.test_scripts import SCRIPTS, shell

TESTS = Path(__file__).resolve().parents[1]

#: What could break something that works, and the test that it does not; None if the script only reads or asks GitLab's
#: API, which refuses what is wrong before it changes anything.
CASES: dict[str, tuple[str, str] | None] = {
    "await-runner.sh": None,
    # Before anything works, and never after.
    "begin-registry.sh": None,
    "check-registry-login.sh": None,
    "commit-pipeline.sh": None,
    "configure-gitlab.sh": (
        "unit/test_configure_gitlab.py",
        "test_a_configuration_that_gitlab_rejects_is_replaced_by_the_last_one_that_worked",
    ),
    "configure-registry.sh": (
        "unit/test_configure_registry.py",
        "test_settings_with_which_the_registry_does_not_work_give_way_to_the_previous_ones",
    ),
    # On a machine of their own, which is deleted whatever happens.
    "image-runner.sh": None,
    "image-server.sh": None,
    "install-gitlab.sh": (
        "unit/test_packages.py",
        "test_an_archive_out_of_reach_is_not_taken_for_one_that_lacks_the_version",
    ),
    # Nothing else on the machine uses what these two install: one that fails takes nothing away.
    "install-health-check.sh": None,
    # Runs once, on a machine on which nothing works yet.
    "install-host-key.sh": None,
    "install-metrics-agent.sh": None,
    "keep-deploy-tokens.sh": None,
    # GitLab's tasks leave each file in one of two places, and GitLab reads it from there.
    "move-objects.sh": ("unit/test_object_steps.py", "test_a_file_that_cannot_be_moved_fails_the_step_with_its_cause"),
    "prepare-backup.sh": ("unit/test_broken_steps.py", "test_a_timer_that_systemd_rejects_leaves_the_previous_one"),
    # It changes nothing that GitLab uses: clusters are new to it, or prepared already.
    "prepare-database.sh": (
        "unit/test_prepare_database.py",
        "test_what_gitlab_could_not_use_is_refused_by_name_and_nothing_is_kept",
    ),
    "prepare-runner.sh": (
        "unit/test_docker_script.py",
        "test_the_former_settings_are_restored_if_the_engine_does_not_take_the_mirror",
    ),
    "prepare-server.sh": ("unit/test_broken_steps.py", "test_ssh_keeps_a_configuration_with_which_it_starts"),
    "prepare-target.sh": (
        "unit/test_broken_steps.py",
        "test_ssh_keeps_a_configuration_for_deploy_jobs_with_which_it_starts",
    ),
    "provision-admin.sh": None,
    "register-runner.sh": (
        "unit/test_register_runner.py",
        "test_a_runner_that_does_not_keep_running_gets_its_former_configuration_back",
    ),
    "seed-project.sh": None,
}


def test_every_script_has_a_case() -> None:
    assert sorted(CASES) == SCRIPTS


@pytest.mark.parametrize("case", [case for case in CASES.values() if case], ids=lambda case: case[1])
def test_the_test_of_a_case_is_there(case: tuple[str, str]) -> None:
    path, name = case
    assert name in {node.name for node in tree((TESTS / path).read_text()).body if isinstance(node, ast.FunctionDef)}


def test_settings_of_backups_that_do_not_work_leave_the_previous_ones(tmp_path: Path) -> None:
    file = tmp_path / "backup.env"
    file.write_text("before\n")
    text = script("prepare-backup.sh").replace("/etc/slipway", str(tmp_path)).replace("/usr/local", str(tmp_path))
    world = """
        rclone() { :; }; jq() { :; }; sleep() { SECONDS=$((SECONDS + 60)); }
        round_trip() { grep -qx new "$1/backup.env" && echo "403 Forbidden"; return 1; }
        COMMON= CREATE= DATABASE_LIBRARY= PROGRAM= RESTORE= SERVICE= SETTINGS=new TIMER= BUCKET=b
    """
    done = shell(f"{text}\n{world}\nmain")
    assert "in the Space b, and the previous settings stay: 403 Forbidden" in done.stderr
    assert [(one.name, one.read_text()) for one in tmp_path.iterdir()] == [("backup.env", "before\n")]


def test_ssh_keeps_a_configuration_with_which_it_starts(tmp_path: Path) -> None:
    file = tmp_path / "10-slipway.conf"
    file.write_text("before\n")
    text = script("hardening.sh").replace("/etc/ssh/sshd_config.d", str(tmp_path))
    world = 'sshd() { ! grep -q AllowUsers "$FOLDER/10-slipway.conf"; }; systemctl() { say "reloaded"; }'
    done = shell(f"{text}\nFOLDER={tmp_path} ADMIN_USER=root AUTHORIZED_KEYS= SSHD_CONF=\n{world}\nharden_ssh")
    assert done.returncode == 1
    assert "error: sshd rejects its new configuration; the previous one stays" in done.stderr
    assert "reloaded" not in done.stderr
    assert file.read_text() == "before\n"


def test_ssh_keeps_a_configuration_for_deploy_jobs_with_which_it_starts(tmp_path: Path) -> None:
    file = tmp_path / "20-slipway-deploy.conf"
    file.write_text("before\n")
    text = script("prepare-target.sh").replace("/etc/ssh/sshd_config.d", str(tmp_path))
    world = """
        id() { :; }; usermod() { :; }; chown() { :; }; getent() { echo "deploy:x:1000:1000::$FOLDER:/bin/bash"; }
        install() { mkdir -p "${!#}"; }; sshd() { ! grep -q AllowUsers "$FOLDER/20-slipway-deploy.conf"; }
        systemctl() { say "reloaded"; }
    """
    values = f"FOLDER={tmp_path} DEPLOY_USER=deploy DEPLOY_KEY=key DEPLOY_SSHD_CONF='AllowUsers deploy'"
    done = shell(f"{text}\n{values}\n{world}\nadmit_deploy_user")
    assert done.returncode == 1
    assert "error: sshd rejects its new configuration; the previous one stays" in done.stderr
    assert "reloaded" not in done.stderr
    assert file.read_text() == "before\n"


def test_a_timer_that_systemd_rejects_leaves_the_previous_one(tmp_path: Path) -> None:
    for folder in ("systemd", "etc", "sbin"):
        (tmp_path / folder).mkdir()
    timer = tmp_path / "systemd/slipway-backup.timer"
    timer.write_text("before\n")
    text = script("prepare-backup.sh")
    for folder, place in (("/etc/systemd/system", "systemd"), ("/etc/slipway", "etc"), ("/usr/local/sbin", "sbin")):
        text = text.replace(folder, f"{tmp_path}/{place}")
    text = text.replace("/usr/local/lib", f"{tmp_path}/lib")
    world = """
        rclone() { :; }; jq() { :; }; systemctl() { say "systemctl $*"; }; systemd-analyze() { ! grep -q never "$2"; }
        require_space_for_backups() { :; }
        COMMON= CREATE= DATABASE_LIBRARY= PROGRAM= RESTORE= SERVICE= SETTINGS= TIMER=never BUCKET=b
    """
    done = shell(f"{text}\n{world}\nmain")
    assert done.returncode == 1
    assert "error: systemd rejects the times in backup.times; the previous ones stay" in done.stderr
    assert "systemctl" not in done.stderr
    assert timer.read_text() == "before\n"
