"""Backups: what the program declares for them, and what the tools make of a server's answers."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from pulumi import RunError

from components.rendering import render
from components.settings.backup import Backup
from components.settings.sign_in import SignIn
from tests.unit.engine import RecordingEngine, run_program
from tests.unit.test_state import KEPT, after
from tools import backup, host_key, restore
from tools.cli import HostKey
from tools.clients import CheckError, Outputs
from tools.progress import ToolError

NOW = 1_800_000_000
ONE = {
    "id": "1799996400_2027_01_15_19.3.0", "time": NOW - 3600, "gitlab_version": "19.3.0-ce.0", "size": 1 << 20,
    "blobs": 3, "host": "gitlab.example.com", "storage": "filesystem", "reason": "scheduled", "files": [],
}  # fmt: skip
SPACE = {name: f"the-{name}" for name in restore._NAMES}


def outputs(listing: dict[str, Any] | None = None, **more: Any) -> Outputs:
    """The outputs of a stack whose server answers with a listing."""
    values = {"backup": {**SPACE, "max_age_hours": 26}, "gitlab_url": "https://gitlab.example.com", **more}
    return cast(
        "Outputs",
        SimpleNamespace(
            values=values,
            backup=values["backup"],
            ssh=lambda _: json.dumps(listing),
            host="gitlab.example.com",
            url=values["gitlab_url"],
        ),
    )


@pytest.fixture
def engine() -> RecordingEngine:
    return run_program(backup={"enabled": True, "keepLast": 3}, removal="keep-data")


def test_without_the_section_nothing_is_made_for_backups() -> None:
    names = {one.name for one in run_program().registrations}
    assert [name for name in names if name.startswith("backup")] == []


def test_the_space_and_its_encryption_key_are_kept_and_the_machines_key_is_for_that_space_alone(
    engine: RecordingEngine,
) -> None:
    space, encryption = engine.named("backup-bucket"), engine.named("backup-encryption-key")
    assert [one.request.protect for one in (space, encryption)] == [True, True]
    assert not space.inputs["forceDestroy"]
    [grant] = engine.named("backup-key").inputs["grants"]
    assert grant == {"bucket": space.inputs["name"], "permission": "readwrite"}


def test_the_keys_are_in_no_command_line_and_in_an_output_that_is_secret(engine: RecordingEngine) -> None:
    step = engine.named("backup-machine")
    assert "\nBACKUP_KEY=" in step.inputs["stdin"]
    assert "BACKUP_KEY=" not in step.inputs["create"] + step.inputs["delete"]
    assert "disable --now slipway-backup.timer" in step.inputs["delete"]


def test_a_preview_shows_the_settings_of_the_program_without_its_keys(engine: RecordingEngine) -> None:
    shown = engine.named("backup-machine-rendered").inputs["SETTINGS"]
    assert "KEEP_LAST=3\n" in shown
    for name in ("BACKUP_KEY", "BACKUP_SECRET_KEY", "REGISTRY_SECRET_KEY"):
        assert f"{name}='[secret]'\n" in shown


def test_gitlab_writes_its_archives_to_a_folder_that_nobody_else_uses() -> None:
    certificate = SimpleNamespace(source="provided", directory=None, contact_email=None)
    given = {"fqdn": "gitlab.example.com", "certificate": certificate, "memory_gb": 8, "time_zone": "UTC"}
    given |= {"extra_configuration": "", "has_secrets": False, "smtp": None, "sign_in": SignIn(), "metrics": False}
    given |= {"objects": None, "databases": {}}
    with_backups = render("gitlab.rb.j2", **given, has_health_page=False, has_backups=True)
    assert "gitlab_rails['backup_path'] = '/var/opt/gitlab/slipway-backups'\n" in with_backups
    assert "gitlab_rails['backup_keep_time'] = 604800\n" in with_backups
    assert "backup" not in render("gitlab.rb.j2", **given, has_health_page=False, has_backups=False)


def test_the_timer_starts_at_each_time_in_utc() -> None:
    timer = render("backup.timer.j2", times=("02:30", "14:30"))
    assert re.findall(r"OnCalendar=(.*)", timer) == ["*-*-* 02:30:00 UTC", "*-*-* 14:30:00 UTC"]


@pytest.mark.parametrize(
    ("times", "minutes"), [(("02:30",), 1440), (("00:00", "12:00"), 720), (("08:00", "20:00", "10:00"), 720)]
)
def test_the_longest_pause_is_counted_over_midnight(times: tuple[str, ...], minutes: int) -> None:
    assert Backup(times=times).longest_pause_minutes == minutes


def test_kept_backups_stay_when_the_section_is_removed_and_no_new_ones_are_made() -> None:
    names = {one.name for one in after({**KEPT, "has_backups": True, "backups_region": "fra1"}).registrations}
    assert "backup-bucket" in names
    assert "backup-machine" not in names


def test_kept_backups_cannot_move_to_another_region() -> None:
    with pytest.raises(RunError, match=r"backup\.spacesRegion: ams3 cannot follow fra1; the Space with all backups"):
        after({**KEPT, "has_backups": True, "backups_region": "fra1"}, backup={"enabled": True, "spacesRegion": "ams3"})


def test_a_young_backup_passes_and_an_old_or_missing_one_fails() -> None:
    listing = backup.list_backups(outputs({"backups": [ONE], "unfinished": []}))
    assert listing.require_younger(26, NOW).startswith("1799996400_2027_01_15_19.3.0, 1 h old, GitLab 19.3.0-ce.0")
    with pytest.raises(CheckError, match=r"3 days old|72 h old"):
        listing.require_younger(26, NOW + 71 * 3600)
    with pytest.raises(CheckError, match="there is no complete backup; make one with: make backup"):
        backup.list_backups(outputs({"backups": [], "unfinished": []})).require_younger(26, NOW)


def test_a_stack_without_backups_says_how_to_have_some() -> None:
    with pytest.raises(CheckError, match="Add the section backup to its stack file"):
        backup.list_backups(outputs(backup={**SPACE, "max_age_hours": None}))


def test_the_newest_backup_is_meant_by_latest() -> None:
    found = outputs({"backups": [ONE], "unfinished": []})
    assert restore._source(found, restore.Wish("latest", None, HostKey.KEEP, False)) == (None, ONE["id"])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "cannot be read as JSON"),
        ("[]", "lacks access_key"),
        ('{"bucket": "a"}', "lacks access_key, encryption_key"),
    ],
)
def test_a_file_without_all_keys_is_refused_with_the_command_that_makes_one(
    content: str, words: str, tmp_path: Path
) -> None:
    file = tmp_path / "keys.json"
    file.write_text(content)
    with pytest.raises(CheckError, match=re.escape(words)) as caught:
        restore._source(outputs(), restore.Wish("1", file, HostKey.KEEP, False))
    assert "pulumi stack output backup --show-secrets --json" in str(caught.value)


def test_what_is_sent_to_the_server_is_read_by_a_shell_as_it_was(tmp_path: Path) -> None:
    odd = {**SPACE, "secret_key": 'a\'b $(id) "c" `d`'}
    sent = restore._settings(odd, restore.Wish("1", None, HostKey.TAKE, True))
    shell = f'. {tmp_path}/given; printf "%s|%s|%s" "$BACKUP_SECRET_KEY" "$HOST_KEY" "$DISCARD_PRESENT"'
    (tmp_path / "given").write_text(sent)
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=True)
    assert done.stdout == f"{odd['secret_key']}|take|yes"


def test_without_a_terminal_a_restore_has_to_be_confirmed_by_an_option(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restore, "Outputs", SimpleNamespace(of_stack=lambda _: outputs()))
    with pytest.raises(ToolError, match=r"nothing was changed\. Confirm with --yes"):
        restore.restore("dev", restore.Wish("1", None, HostKey.KEEP, False), confirmed=False)


def test_a_host_key_that_is_taken_over_gets_all_outputs_that_the_provider_would_give_it() -> None:
    private = Ed25519PrivateKey.generate()
    text = private.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()
    found = host_key.key_outputs(text)
    assert found["publicKeyOpenssh"].startswith("ssh-ed25519 ")
    assert found["publicKeyFingerprintSha256"].startswith("SHA256:")
    assert json.loads(found["privateKeyOpenssh"]["plaintext"]).startswith("-----BEGIN OPENSSH PRIVATE KEY-----")


def test_a_host_key_of_another_kind_is_refused() -> None:
    key = generate_private_key(65537, 2048)
    text = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()
    with pytest.raises(ValueError, match="is not an Ed25519 key"):
        host_key.key_outputs(text)


def test_the_service_runs_the_program_that_the_tools_call() -> None:
    unit = Path("components/files/backup/slipway-backup.service").read_text()
    assert f"ExecStart={backup.PROGRAM.removeprefix('sudo ')} create" in unit
