"""Scan, bill of materials and signature: what a pipeline has with each setting, and what it has without."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import json_format

from components import versions
from components.build_pipeline import FOUND, pipeline_of
from components.pipeline_reader import problems
from components.settings import Builder, ProjectSettings, SettingsError, SupplyChain
from tests.unit.delivered import delivered, pipeline
from tests.unit.engine import ENVELOPE, RecordingEngine, run_program
from tests.unit.test_state import KEPT, after

BUILDERS = pytest.mark.parametrize("builder", list(Builder))
ALL = {"scan": "block", "sbom": True, "sign": True}
FLAGS = yaml.safe_load(Path(__file__).with_name("tool_flags.yaml").read_text())
VARIABLE = "delivery-hello-variable-SLIPWAY_SIGNING_KEY"
KEY = "signing-pair"


def text(chain: dict[str, Any], builder: Builder = Builder.DOCKER, **project: Any) -> str:
    settings = ProjectSettings.model_validate({"path": "hello", **project})
    return pipeline_of(settings, builder, None, None, SupplyChain.model_validate(chain))


def document(chain: dict[str, Any], builder: Builder = Builder.DOCKER, **project: Any) -> Any:
    return yaml.safe_load(text(chain, builder, **project))


def commands(job: dict[str, Any]) -> str:
    return "\n".join([*job["before_script"], *job["script"]])


@BUILDERS
def test_without_the_section_a_pipeline_is_what_it_was(builder: Builder) -> None:
    whole = document({}, builder)
    assert whole["stages"] == ["build", "test", "release"]
    assert not {"scan", "sbom", "sign"} & whole.keys()
    assert text({"scan": "off"}, builder) == text({}, builder)


def test_without_a_signature_there_is_no_key_no_variable_and_no_kept_tag() -> None:
    engine = delivered(supplyChain={"scan": "block", "sbom": True})
    assert [one.name for one in engine.custom if "signing" in one.name.lower()] == []
    assert "signing_public_key" not in engine.exports
    assert "cosign_verify" not in engine.exports["projects"][0]
    assert "sha256" not in str(engine.named("delivery-hello-project").inputs)


@BUILDERS
def test_the_digest_that_was_built_is_scanned_before_its_release_and_signed_after_it(builder: Builder) -> None:
    whole = document(ALL, builder)
    assert whole["stages"] == ["build", "test", "scan", "release", "sign"]
    assert list(problems(text(ALL, builder))) == []
    for name in ("scan", "sbom", "sign"):
        assert '"$(cat image.txt)"' in commands(whole[name])
    assert "rules" not in whole["scan"]
    assert whole["sign"]["rules"] == whole["release"]["rules"]


def test_a_finding_is_a_warning_or_fails_the_job_before_the_release() -> None:
    block, warn = document({"scan": "block"})["scan"], document({"scan": "warn"})["scan"]
    assert "allow_failure" not in block
    assert warn["allow_failure"] == {"exit_codes": [FOUND]}
    assert "so it is not released" in commands(block)
    assert "released" not in commands(warn)
    for job in (block, warn):
        assert f"--exit-code {FOUND}" in commands(job)
        assert "--severity HIGH,CRITICAL --ignore-unfixed" in commands(job)
        assert job["artifacts"]["paths"] == ["scan.json"]
        assert job["artifacts"]["when"] == "always"


def test_severities_and_what_has_no_fix_are_settings() -> None:
    job = document({"scan": "block", "severity": ["CRITICAL"], "ignoreUnfixed": False})["scan"]
    assert "--severity CRITICAL\n" in commands(job).replace(" --format", "\n--format")
    assert "--ignore-unfixed" not in commands(job)


def test_databases_come_from_the_mirror_of_the_settings_and_are_cached() -> None:
    for name, chain in (("scan", {"scan": "warn"}), ("sbom", {"sbom": True})):
        own = document({**chain, "databases": "registry.example.com:5000/mirror"})[name]
        assert "--db-repository registry.example.com:5000/mirror/trivy-db:2" in commands(own)
        assert "--java-db-repository registry.example.com:5000/mirror/trivy-java-db:1" in commands(own)
        assert "-repository" not in commands(document(chain)[name])
        assert own["cache"] == {"key": "trivy", "paths": [".trivy/db", ".trivy/java-db"]}


@BUILDERS
def test_every_image_and_every_platform_is_scanned_listed_and_signed(builder: Builder) -> None:
    images = [{"name": "api", "platforms": ["linux/amd64", "linux/arm64"]}, {"name": "web"}]
    whole = document(ALL, builder, sample=False, images=images)
    assert [name for name in whole if name.startswith("scan")] == ["scan:api", "scan:web"]
    scan, sign = commands(whole["scan:api"]), commands(whole["sign"])
    for platform in ("linux/amd64", "linux/arm64"):
        assert f"--platform {platform} " in scan
        suffix = f"api-{platform.replace('/', '-')}"
        assert f"scan-{suffix}.json" in whole["scan:api"]["artifacts"]["paths"]
        assert f"sbom-{suffix}.cdx.json" in whole["sbom:api"]["artifacts"]["paths"]
        assert f"--predicate sbom-{suffix}.cdx.json" in sign
    assert sign.count("cosign sign ") == len(images)
    assert "--platform" not in commands(whole["scan:web"])


@BUILDERS
def test_jobs_have_the_pinned_tools_and_nothing_of_the_builder(builder: Builder) -> None:
    whole = document(ALL, builder)
    images = {"scan": versions.TRIVY_IMAGE, "sbom": versions.TRIVY_IMAGE, "sign": versions.COSIGN_IMAGE}
    for name, image in images.items():
        job = whole[name]
        assert job["image"] == {"name": image, "entrypoint": [""]}
        assert job["services"] == []
        assert "docker info" not in commands(job)
        assert "buildah" not in commands(job)


def test_no_credential_is_an_argument_of_a_program() -> None:
    for name in ("scan", "sbom", "sign"):
        for line in commands(document(ALL)[name]).splitlines():
            if "CI_JOB_TOKEN" in line:
                assert re.fullmatch(r'echo "\$CI_JOB_TOKEN" \| .+ --password-stdin "\$CI_REGISTRY"', line)
            if "SLIPWAY_SIGNING_KEY" in line:
                # Built into every shell.
                assert line.startswith(("if [ ", "printf "))


@pytest.mark.parametrize(("job", "tool"), [("scan", "trivy"), ("sbom", "trivy"), ("sign", "cosign")])
def test_a_job_logs_in_and_no_variable_of_the_project_redirects_its_tool(tmp_path: Path, job: str, tool: str) -> None:
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / tool
    program.write_text('#!/bin/sh\necho "$0 $*" >>"$HOME/calls"\ncat >>"$HOME/input"\nenv >"$HOME/environment"\n')
    program.chmod(0o755)
    variables = {
        "CI_JOB_TOKEN": "example-of-a-job-token",
        "CI_REGISTRY": "registry.example.test:5555",
        "CI_SERVER_TLS_CA_FILE": "/builds/hello.tmp/CI_SERVER_TLS_CA_FILE",
        "DOCKER_AUTH_CONFIG": '{"auths": {"mirror.example.test": {}}}',
        "DOCKER_CONFIG": "/elsewhere",
        "TRIVY_SERVER": "https://elsewhere.example.test",
        "COSIGN_REPOSITORY": "elsewhere.example.test/signatures",
        "SIGSTORE_ID_TOKEN": "example",
    }
    script = "set -e\n" + "\n".join(document(ALL)[job]["before_script"])
    environment = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "HOME": str(tmp_path), **variables}
    subprocess.run(["sh", "-c", script], env=environment, check=True)
    assert "example-of-a-job-token" not in (tmp_path / "calls").read_text()
    assert (tmp_path / "input").read_text() == "example-of-a-job-token\n"
    # Before the login adds its own; nobody else can list the folder.
    assert json.loads((tmp_path / ".docker/config.json").read_text()) == {"auths": {"mirror.example.test": {}}}
    assert (tmp_path / ".docker").stat().st_mode & 0o777 == 0o700
    names = dict(line.split("=", 1) for line in (tmp_path / "environment").read_text().splitlines())
    gone = {"trivy": {"TRIVY_SERVER"}, "cosign": {"COSIGN_REPOSITORY", "SIGSTORE_ID_TOKEN"}}[tool]
    assert not names.keys() & {"DOCKER_CONFIG", "DOCKER_AUTH_CONFIG", *gone}
    assert names["SSL_CERT_DIR"] == "/etc/ssl/certs:/builds/hello.tmp"


def test_no_public_log_gets_an_entry_and_no_service_is_asked() -> None:
    signing = [line for line in document(ALL)["sign"]["script"] if line.startswith(("cosign sign", "cosign attest"))]
    assert len(signing) == 2
    for line in signing:
        assert "--tlog-upload=false" in line
        assert "--use-signing-config=false" in line
    assert "--disable-telemetry" in commands(document(ALL)["scan"])


def test_jobs_use_flags_that_the_pinned_tools_have() -> None:
    whole = document({**ALL, "databases": "registry.example.com/mirror"})
    lines = "\n".join(commands(whole[name]) for name in ("scan", "sbom", "sign")).replace("\n--", " --")
    verify = delivered(supplyChain=ALL).exports["projects"][0]["cosign_verify"]
    used: dict[str, set[str]] = {}
    for command, words in re.findall(r"\b((?:trivy|cosign) (?:registry )?[a-z-]+) ([^|&\n]*)", f"{lines}\n{verify}"):
        used.setdefault(command, set()).update(re.findall(r"--[a-z-]+", words))
    assert used.keys() == FLAGS["commands"].keys()
    for command, flags in used.items():
        assert flags <= {*FLAGS["commands"][command].split()}, command
    assert FLAGS["versions"] == {"trivy": versions.TRIVY_IMAGE, "cosign": versions.COSIGN_IMAGE}


def test_a_project_differs_from_the_stack_where_it_says_so() -> None:
    own = {"scan": "off", "sign": True}
    whole = document({"scan": "block", "sbom": True, "severity": ["LOW"]}, supplyChain=own)
    assert whole["stages"] == ["build", "test", "scan", "release", "sign"]
    assert "scan" not in whole
    assert "sbom" in whole
    strict = document({"scan": "warn", "severity": ["LOW"]}, supplyChain={"scan": "block"})["scan"]
    assert "allow_failure" not in strict
    assert "--severity LOW" in commands(strict)


@pytest.fixture
def signed() -> RecordingEngine:
    return delivered(supplyChain=ALL)


def test_the_key_reaches_jobs_of_protected_branches_alone_and_no_log(signed: RecordingEngine) -> None:
    variable = signed.named(VARIABLE)
    assert (variable.inputs["protected"], variable.inputs["masked"]) == (True, True)
    assert (variable.inputs["variableType"], variable.inputs["raw"]) == ("file", True)
    # GitLab masks what is on one line; the value is a secret on its way to the state, too.
    assert variable.inputs["value"] == "lineone"
    assert ENVELOPE in json_format.MessageToDict(variable.request.object)["value"]
    assert variable.depends_on >= {KEY}


def test_the_key_is_one_of_the_kind_that_cosign_makes_and_kept_with_the_data(signed: RecordingEngine) -> None:
    pair = signed.named(KEY)
    assert (pair.inputs["algorithm"], pair.inputs["ecdsaCurve"]) == ("ECDSA", "P256")
    assert pair.request.retainOnDelete
    thrown_away = delivered(supplyChain=ALL, removal="everything").named(KEY)
    assert not thrown_away.request.retainOnDelete


def test_a_kept_key_stays_when_nothing_is_signed_any_more(signed: RecordingEngine) -> None:
    # Otherwise the engine would refuse to delete what is protected.
    deployed = signed.exports["deployed"]
    assert deployed["has_signing_key"] is True
    assert "has_signing_key" not in delivered().exports["deployed"], "nothing changes for others"
    later = after({**KEPT, "has_signing_key": True})
    assert later.named(KEY).request.protect
    assert "BEGIN" in later.exports["signing_public_key"]
    thrown_away = after({**KEPT, "kept": False, "has_signing_key": True}, removal="everything")
    assert [one for one in thrown_away.custom if one.name == KEY] == []


def test_only_projects_that_sign_get_the_key() -> None:
    projects = [{"path": "hello"}, {"path": "other", "supplyChain": {"sign": True}}]
    engine = run_program(projects=projects, runners=[{"name": "docker-builder"}])
    assert [one.name for one in engine.custom if "SIGNING_KEY" in one.name] == [
        "delivery-other-variable-SLIPWAY_SIGNING_KEY"
    ]
    outputs = {one["url"]: "cosign_verify" in one for one in engine.exports["projects"]}
    assert sorted(outputs.values()) == [False, True]
    assert "BEGIN" in str(engine.exports["signing_public_key"])


def test_the_cleanup_policy_keeps_signatures_and_attestations(signed: RecordingEngine) -> None:
    pattern = signed.named("delivery-hello-project").inputs["containerExpirationPolicy"]["nameRegexKeep"]
    name = f"sha256-{'0a' * 32}"
    for tag in (f"{name}.sig", f"{name}.att", "latest", "main", "v1.2.0"):
        assert re.fullmatch(pattern, tag)
    for tag in (name, f"{name}.sigx", f"x{name}.sig", "0a" * 20, "topic"):
        assert not re.fullmatch(pattern, tag)


def test_an_output_verifies_the_released_image(signed: RecordingEngine) -> None:
    line = signed.exports["projects"][0]["cosign_verify"]
    assert re.fullmatch(
        r"cosign verify --key signing\.pub --insecure-ignore-tlog=true [\w.:-]+/root/hello:latest", line
    )


@pytest.mark.parametrize("stage", ["scan", "sbom", "sign", "scan:api"])
def test_a_stage_with_the_name_of_a_job_is_refused_only_if_there_is_that_job(stage: str) -> None:
    extra = [{"name": stage, "script": ["true"]}]
    images = [{"name": "api"}] if ":" in stage else []
    project = {"sample": False, "images": images, "extraStages": extra}
    with pytest.raises(SettingsError, match=rf"projects\[0\]\.extraStages\[0\]\.name: {stage} is the name of a stage"):
        delivered(project, supplyChain=ALL)
    assert stage in pipeline(delivered(project))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"supplyChain": {"scan": "yes"}}, "supplyChain.scan: "),
        ({"supplyChain": {"scan": "block", "severity": ["HIGH", "SEVERE"]}}, "supplyChain.severity[1]: "),
        ({"supplyChain": {"scan": "block", "severity": []}}, "supplyChain.severity: is empty; nothing would be found"),
        ({"supplyChain": {"severity": ["LOW"]}}, "supplyChain: has severity or ignoreUnfixed, but scan is off"),
        (
            {"supplyChain": {"scan": "warn", "databases": "https://registry.example.com/x"}},
            "supplyChain.databases: is not a path in a registry; no database could be downloaded",
        ),
    ],
)
def test_a_mistake_is_reported_with_its_key_at_preview(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(words)):
        run_program(**settings, dry_run=True)


def test_severities_of_the_stack_are_for_projects_that_scan() -> None:
    assert delivered({"supplyChain": {"scan": "warn"}}, supplyChain={"severity": ["LOW"]}).exports["projects"]


def test_a_project_without_the_pipeline_cannot_have_its_own_supply_chain() -> None:
    project = {"importId": "7", "supplyChain": {"sign": True}}
    with pytest.raises(SettingsError, match=re.escape("projects[0]: has supplyChain, but not the stack's pipeline")):
        delivered(project)


def test_a_variable_of_the_key_s_name_is_refused() -> None:
    variables = {"SLIPWAY_SIGNING_KEY": {"value": "example-of-a-value"}}
    with pytest.raises(SettingsError, match="SLIPWAY_SIGNING_KEY is set by GitLab or the pipeline"):
        delivered({"variables": variables}, supplyChain=ALL)
