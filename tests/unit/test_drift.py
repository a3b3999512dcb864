"""`python -m tools drift`: what it says of each difference, how it ends, and what it records for the next update."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from components.rendering import script
from tests.unit.account_api import served
from tests.unit.test_down import resource
from tools import drift as module
from tools import drift_gitlab, drift_machines
from tools.clients import CheckError, Outputs
from tools.drift_gitlab import gitlab_settings, require_gitlab
from tools.drift_machines import machine_files
from tools.drift_pulumi import differences, mark, switched_off
from tools.environment import ROOT
from tools.findings import Finding
from tools.state import Resource, StackState

OUTPUTS = Outputs(
    {
        "gitlab_url": "https://gitlab.example.test",
        "gitlab_api_token": "glpat-of-a-test",
        "server_address": "198.51.100.7",
        "server_ssh_host_key": "ssh-ed25519 AAAA",
        "server_ssh_private_key": "PRIVATE",
        "server_ssh_user": "slipway",
    }
)
RECORD = resource(
    "DnsRecord", "dns-a", "1", outputs={"fqdn": "gitlab.example.test", "type": "A", "value": "198.51.100.7"}
)
ATTACHMENT = resource("VolumeAttachment", "server-data-attachment", "2", outputs={"volumeId": "vol-1"})
DROPLET = resource("Droplet", "server-droplet", "11", outputs={"name": "slipway-production"})
COMMAND = "command:remote:Command"
PREPARATION = resource(COMMAND, "server-preparation", "c1")
CONFIGURATION = resource(COMMAND, "gitlab-configuration", "c2")
HOST_KEY = resource(
    "tls:index/privateKey:PrivateKey", "server-host-keys-lasting", "k", outputs={"publicKeyOpenssh": "ssh-ed25519 BB"}
)
DIGITS = resource("random:index/randomPassword:RandomPassword", "gitlab-api-token-digits", "none")
TOKEN = resource(COMMAND, "gitlab-api-token", "c3")


def state(*resources: dict[str, Any]) -> StackState:
    return StackState("production", {"deployment": {"resources": list(resources)}})


@pytest.fixture
def pulumi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder: what Pulumi prints is in `printed`, how it ends in `code`; its commands are added to `commands`."""
    program = '#!/bin/sh\nprintf "%s\\n" "$*" >>"$WORLD/commands"\ncat "$WORLD/printed"\nexit "$(cat "$WORLD/code")"\n'
    (tmp_path / "pulumi").write_text(program)
    (tmp_path / "pulumi").chmod(0o755)
    (tmp_path / "printed").write_text("")
    (tmp_path / "code").write_text("0")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("WORLD", str(tmp_path))
    return tmp_path


def prints(folder: Path, *steps: dict[str, Any], **more: Any) -> None:
    (folder / "printed").write_text(f"Refreshing:\n{json.dumps({'steps': steps, **more})}")


def changed(old: dict[str, Any], diff: dict[str, str], **outputs: Any) -> dict[str, Any]:
    new = {**old, "outputs": {**(old.get("outputs") or {}), **outputs}}
    detailed = {path: {"diffKind": kind} for path, kind in diff.items()}
    return {"op": "update", "urn": old["urn"], "oldState": old, "newState": new, "detailedDiff": detailed}


def gone(old: dict[str, Any]) -> dict[str, Any]:
    return {"op": "delete", "urn": old["urn"], "oldState": old}


def test_a_changed_value_is_shown_as_it_is_and_as_it_was(pulumi: Path) -> None:
    prints(pulumi, changed(RECORD, {"value": "update"}, value="203.0.113.9"), {"op": "refresh", "urn": DROPLET["urn"]})
    [finding] = differences(state(RECORD, DROPLET), "file.yaml", [RECORD["urn"], DROPLET["urn"]])
    assert finding.text == "DNS record gitlab.example.test A: value is 203.0.113.9 and was 198.51.100.7"
    assert finding.refresh == RECORD["urn"]
    assert (pulumi / "commands").read_text() == (
        "refresh --stack production --config-file file.yaml --preview-only --json --non-interactive "
        f"--target {RECORD['urn']} --target {DROPLET['urn']}\n"
    )


@pytest.mark.parametrize(
    ("diff", "before", "after", "words"),
    [
        (
            {"inboundRules[1]": "add"},
            [{}],
            [{}, {"portRange": "8080"}],
            'inboundRules[1] was added: {"portRange": "8080"}',
        ),
        ({"inboundRules[0]": "delete"}, [{"portRange": "22"}], [], 'inboundRules[0] was removed: {"portRange": "22"}'),
        ({"inboundRules[0].portRange": "update"}, [{"portRange": "22"}], [{"portRange": "23"}], "is 23 and was 22"),
        ({"inboundRules[0].text": "update"}, [{"text": "a" * 200}], [{"text": "b" * 200}], "[0].text was changed"),
        ({"other": "add"}, [], [], "firewall slipway-production-runner: other was added"),
    ],
)
def test_rules_that_were_added_removed_or_changed_are_told_apart(
    pulumi: Path, diff: dict[str, str], before: list[Any], after: list[Any], words: str
) -> None:
    old = resource("Firewall", "f", "1", outputs={"name": "slipway-production-runner", "inboundRules": before})
    prints(pulumi, changed(old, diff, inboundRules=after))
    [finding] = differences(state(old), None, [old["urn"]])
    assert finding.text.endswith(words)


def test_what_is_gone_is_named_and_a_detached_volume_needs_its_steps_again(pulumi: Path) -> None:
    runner = resource("gitlab:index/userRunner:UserRunner", "r", "5", outputs={"description": "docker-builder"})
    prints(pulumi, gone(runner), gone(ATTACHMENT))
    first, second = differences(state(runner, ATTACHMENT, PREPARATION, CONFIGURATION), None, [runner["urn"]])
    assert (first.text, first.repeat) == ("runner docker-builder is gone", ())
    assert second.text == "the attachment of volume vol-1 is gone"
    assert second.repeat == (PREPARATION["urn"], CONFIGURATION["urn"])


def test_what_cannot_be_read_is_reported_beside_what_was_found(pulumi: Path) -> None:
    error = {"severity": "error", "message": "reading\nfailed: 500"}
    prints(pulumi, gone(ATTACHMENT), diagnostics=[error, error, {"severity": "info", "message": "x"}])
    (pulumi / "code").write_text("255")
    first, second = differences(state(ATTACHMENT), None, [ATTACHMENT["urn"]])
    assert not first.is_unknown
    assert (second.is_unknown, second.text) == (True, "not compared: reading failed: 500")


@pytest.mark.parametrize(
    ("printed", "words"), [("error: the stack is locked", "the stack is locked"), ("", "ended with 255")]
)
def test_a_pulumi_that_reports_nothing_is_an_error(pulumi: Path, printed: str, words: str) -> None:
    (pulumi / "printed").write_text(printed)
    (pulumi / "code").write_text("255")
    with pytest.raises(CheckError, match=words):
        differences(state(RECORD), None, [RECORD["urn"]])


def test_a_pulumi_that_hangs_is_ended(pulumi: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (pulumi / "pulumi").write_text("#!/bin/sh\nexec sleep 60\n")
    monkeypatch.setattr("tools.drift_pulumi._LIMIT_SECONDS", 0.2)
    with pytest.raises(CheckError, match=r"no answer within 0\.2 s"):
        differences(state(RECORD), None, [RECORD["urn"]])


def test_a_droplet_that_is_off_is_named_with_the_command_that_switches_it_on(monkeypatch: pytest.MonkeyPatch) -> None:
    with served(monkeypatch) as api:
        api.things["/v2/droplets"] = [{"id": 11, "status": "off"}, {"id": 12, "status": "active"}]
        droplets = [DROPLET, resource("Droplet", "b", "12"), resource("Droplet", "c", "13")]
        [finding] = switched_off(state(*droplets))
    assert "droplet slipway-production is switched off" in finding.text
    assert "doctl compute droplet-action power-on 11" in finding.text


def test_findings_are_recorded_once_each(pulumi: Path) -> None:
    findings = [
        Finding("a", refresh=RECORD["urn"]),
        Finding("b", refresh=RECORD["urn"], repeat=(PREPARATION["urn"], CONFIGURATION["urn"])),
        Finding("c", repeat=(CONFIGURATION["urn"],)),
        Finding("d", is_unknown=True),
    ]
    assert mark(state(), "file.yaml", findings) == 0
    assert (pulumi / "commands").read_text().splitlines() == [
        f"refresh --stack production --config-file file.yaml --yes --skip-preview --target {RECORD['urn']}",
        f"state taint --stack production --yes {PREPARATION['urn']} {CONFIGURATION['urn']}",
    ]
    (pulumi / "code").write_text("1")
    assert mark(state(), None, findings) == 1
    assert mark(state(), None, findings[3:]) == 0


def test_files_are_compared_with_what_their_step_has_written(tmp_path: Path) -> None:
    written = tmp_path / "written"
    prelude = script("prelude.sh").replace("/var/lib/slipway/written", str(written))
    files = {name: tmp_path / name for name in ("same", "edited", "removed", "twice")}
    step = "\n".join(
        [
            *(f"write_file {path} 644 $(id -un):$(id -gn) <<<content" for path in files.values()),
            f"write_file {files['twice']} 644 $(id -un):$(id -gn) <<<other",
        ]
    )
    for _ in range(2):
        subprocess.run(["bash", "-c", f"{prelude}\nLIMIT_SECONDS=9\nSTEP=a-step\n{step}"], check=True)
    later = f"write_file {files['same']} 644 $(id -un):$(id -gn) <<<later"
    subprocess.run(["bash", "-c", f"{prelude}\nLIMIT_SECONDS=9\nSTEP=another-step\n{later}"], check=True)
    files["edited"].write_text("by hand")
    files["removed"].unlink()
    check = (ROOT / "tools/check-files.sh").read_text().replace("/var/lib/slipway/written", str(written))
    lines = subprocess.run(["bash", "-s"], input=check, capture_output=True, text=True, check=True).stdout.splitlines()
    assert sorted(line.split("\t") for line in lines) == [
        ["a-step", str(files["edited"]), "was changed"],
        ["a-step", str(files["removed"]), "is missing"],
        ["a-step", str(files["twice"]), "ok"],
        ["another-step", str(files["same"]), "ok"],
    ]
    assert written.stat().st_mode & 0o077 == 0


def test_every_machine_is_looked_at_and_one_that_does_not_answer_hides_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runner = resource(
        "Droplet", "delivery-builder-1-droplet", "12", outputs={"name": "builder", "ipv4Address": "203.0.113.5"}
    )
    key = resource(
        "tls:index/privateKey:PrivateKey",
        "delivery-builder-1-host-keys-lasting",
        "k",
        outputs={"publicKeyOpenssh": "ssh-ed25519 CC"},
    )
    asked: list[tuple[str, ...]] = []

    def answer(*command: str, **_: object) -> str:
        asked.append(command)
        known = next(word for word in command if word.startswith("UserKnownHostsFile=")).partition("=")[2]
        if "slipway@203.0.113.5" in command:
            assert Path(known).read_text() == "203.0.113.5 ssh-ed25519 CC\n"
            raise CheckError("ssh failed: Connection timed out")
        assert Path(known).read_text() == "198.51.100.7 ssh-ed25519 BB\n"
        step = "gitlab-configuration"
        return f"{step}\t/etc/gitlab/gitlab.rb\twas changed\n{step}\t/b\tok\nleft\t/c\tis missing\n"

    monkeypatch.setattr(drift_machines, "run", answer)
    found = machine_files(state(runner, key, DROPLET, HOST_KEY, CONFIGURATION), OUTPUTS)
    assert [(finding.text, finding.is_unknown) for finding in found] == [
        ("builder (203.0.113.5): not compared: ssh failed: Connection timed out", True),
        ("slipway-production: /etc/gitlab/gitlab.rb was changed (step gitlab-configuration)", False),
    ]
    assert found[1].repeat == (CONFIGURATION["urn"],)
    assert all("PRIVATE" not in word for command in asked for word in command)


def test_a_job_leaves_out_the_machine_that_it_runs_on_and_no_other(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    refused: list[str] = []

    def answer(*command: str, **_: object) -> str:
        refused.append(command[0])
        raise CheckError("ssh failed: Connection refused")

    monkeypatch.setattr(drift_machines, "run", answer)
    own = Resource(DROPLET)
    monkeypatch.setattr(drift_machines, "of_own_runner", lambda _: [own])
    assert machine_files(state(DROPLET, HOST_KEY), OUTPUTS) == []
    assert "left out, because this job runs there" in capsys.readouterr().out
    monkeypatch.setattr(drift_machines, "of_own_runner", lambda _: [])
    [finding] = machine_files(state(DROPLET, HOST_KEY), OUTPUTS)
    assert finding.is_unknown
    assert len(refused) == 2


def test_a_machine_without_any_note_of_its_files_is_not_taken_for_unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drift_machines, "run", lambda *_, **__: "")
    [finding] = machine_files(state(DROPLET, HOST_KEY), OUTPUTS)
    assert finding.is_unknown
    assert "run an update first" in finding.text


@pytest.mark.parametrize(
    ("user", "settings", "words", "repeat"),
    [
        ({"is_admin": True}, {"signup_enabled": False}, [], ()),
        ({"is_admin": True}, {"signup_enabled": True}, ["sign-up is on"], (TOKEN["urn"],)),
        ({"is_admin": False, "username": "root"}, {}, ["root, which the stack acts as, is no administrator"], ()),
        (None, {}, ["the stack's API token is not accepted", "sign-up: not compared"], (DIGITS["urn"],)),
    ],
)
def test_sign_up_token_and_administrator_are_looked_at(
    monkeypatch: pytest.MonkeyPatch, user: Any, settings: Any, words: list[str], repeat: tuple[str, ...]
) -> None:
    answers = {"user": user, "application/settings": settings}
    monkeypatch.setattr(drift_gitlab, "_ask", lambda _, __, path: answers[path])
    found = gitlab_settings(state(TOKEN, DIGITS), OUTPUTS)
    assert len(found) == len(words)
    assert all(finding.text.startswith(expected) for finding, expected in zip(found, words, strict=True))
    assert (found[0].repeat if found else ()) == repeat


def test_a_setting_of_the_stack_that_was_changed_in_gitlab_is_a_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"APPLICATION_SETTINGS": '{"require_two_factor_authentication": true, "two_factor_grace_period": 48}'}
    shown = {"urn": f"{TOKEN['urn']}-rendered", "type": "slipway:index:RenderedStep", "inputs": given}
    present = {"require_two_factor_authentication": False, "two_factor_grace_period": 48}
    answers = {"user": {"is_admin": True}, "application/settings": present}
    monkeypatch.setattr(drift_gitlab, "_ask", lambda _, __, path: answers[path])
    [finding] = gitlab_settings(state(TOKEN, shown), OUTPUTS)
    assert finding.text == "GitLab's setting require_two_factor_authentication is false, and the stack's is true"
    assert finding.repeat == (TOKEN["urn"],)
    assert gitlab_settings(state(TOKEN), OUTPUTS) == []


def test_a_gitlab_that_does_not_answer_is_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    silent = Outputs({**OUTPUTS.values, "server_address": "127.0.0.1:9"})
    with pytest.raises(CheckError, match=r"GitLab at 127\.0\.0\.1:9 does not answer"):
        gitlab_settings(state(), silent)
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: [(0, 0, 0, "", ("203.0.113.9", 443))])
    with pytest.raises(
        CheckError, match=r"leads to 203\.0\.113\.9 and not to 198\.51\.100\.7; .* would send the token there"
    ):
        require_gitlab(state(), OUTPUTS)


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What each part finds; an exception is raised."""
    found: dict[str, Any] = {"differences": [], "machine_files": [], "gitlab_settings": [], "switched_off": []}

    def play(name: str) -> Any:
        def answer(*_: Any) -> Any:
            if isinstance(found[name], Exception):
                raise found[name]
            return found[name]

        return answer

    for name in found:
        monkeypatch.setattr(module, name, play(name))
    monkeypatch.setattr(module, "require_gitlab", lambda *_: None)
    monkeypatch.setattr(StackState, "of_stack", lambda _: state(DROPLET))
    monkeypatch.setattr(Outputs, "of_stack", lambda _: OUTPUTS)
    return found


def test_one_part_that_fails_does_not_hide_the_others(
    parts: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    parts["gitlab_settings"] = CheckError("GitLab does\nnot answer")
    assert module.drift("production", file=None, marks=False) == module.UNKNOWN
    assert capsys.readouterr().out.splitlines() == [
        "Cloud: as the stack left it",
        "Machines: as the stack left it",
        "GitLab:",
        "  not compared: GitLab does not answer",
        "Projects: as the stack left it",
    ]
    parts["machine_files"] = [Finding("a file was changed")]
    assert module.drift("production", file=None, marks=False) == module.DIFFERS
    assert "make up puts this right." in capsys.readouterr().out
    parts |= {"machine_files": [], "gitlab_settings": []}
    assert module.drift("production", file=None, marks=False) == 0


def test_with_mark_the_findings_are_recorded(parts: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    recorded: list[Any] = []

    def record(*given: Any) -> int:
        recorded.append(given)
        return 0

    monkeypatch.setattr(module, "mark", record)
    parts["differences"] = [Finding("a record was changed", refresh="urn")]
    assert module.drift("production", file="f", marks=True) == 0
    [(_, file, findings)] = recorded
    assert (file, [finding.text for finding in findings]) == ("f", ["a record was changed"])


def test_a_stack_without_a_server_has_nothing_to_compare(
    parts: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    del parts
    monkeypatch.setattr(StackState, "of_stack", lambda _: state())
    assert module.drift(None, file=None, marks=True) == 0
    assert capsys.readouterr().out == "No server is deployed: there is nothing to compare.\n"
