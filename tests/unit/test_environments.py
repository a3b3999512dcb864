"""Environments of a project: what GitLab gets to know of them, and what the pipeline does with them."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import json_format

from components import versions
from components.build_pipeline import pipeline_of
from components.gitlab_leftovers import mark_of
from components.settings import Builder, ProjectSettings, Settings, SettingsError, SupplyChain
from components.settings.scopes import promoted
from tests.unit.delivered import delivered, pipeline
from tests.unit.engine import ENVELOPE, REQUIRED, RecordingEngine
from tests.unit.stack_file_corpus import PUBLIC_KEY

TARGET: dict[str, Any] = {
    "host": "203.0.113.7",
    "user": "deploy",
    "hostKey": f"{PUBLIC_KEY} root@www",
    "healthCheck": {"path": "/health", "port": 3000},
}
STAGING = {"name": "staging", **TARGET}
PRODUCTION = {"name": "production", "url": "https://www.example.com", **TARGET}
PROXIED = {**STAGING, "publish": ["80:3000"], "zeroDowntime": True}
COMPOSED = {**STAGING, "compose": "deploy/compose.yaml"}
COMMAND = {"command": "true"}
PREFIX = "delivery-hello-environment-"


def document(project: dict[str, Any], builder: Builder = Builder.DOCKER) -> Any:
    """The pipeline of a project, as YAML has it."""
    return yaml.safe_load(
        pipeline_of(ProjectSettings.model_validate({"path": "hello", **project}), builder, None, None, SupplyChain())
    )


def variables(engine: RecordingEngine, environment: str) -> dict[str, dict[str, Any]]:
    """The variables of an environment, by key."""
    found = [one.inputs for one in engine.of_type(":ProjectVariable")]
    return {one["key"]: one for one in found if one["environmentScope"] == environment}


def test_without_environments_nothing_is_declared_and_nothing_is_deployed() -> None:
    engine = delivered()
    assert engine.of_type(":Environment") == []
    assert engine.of_type(":ProjectVariable") == []
    assert "deploy" not in str(pipeline(engine))
    assert "environments" not in engine.exports["projects"][0]


@pytest.mark.parametrize("builder", list(Builder))
def test_each_environment_has_a_job_after_the_release_with_gitlabs_history_and_a_queue(builder: Builder) -> None:
    text = document({"deploy": [STAGING, PRODUCTION], "extraStages": [{"name": "x", "script": ["x"]}]}, builder)
    assert text["stages"] == ["build", "test", "release", "deploy", "x"]
    staging, production = text["deploy:staging"], text["deploy:production"]
    assert staging["environment"] == {"name": "staging"}
    assert production["environment"] == {"name": "production", "url": "https://www.example.com"}
    assert (staging["resource_group"], production["resource_group"]) == ("staging", "production")
    default = {"if": "$CI_COMMIT_BRANCH == $CI_DEFAULT_BRANCH"}
    assert staging["rules"] == [default]
    assert production["rules"] == [{**default, "when": "manual", "allow_failure": True}]
    # The same image with both builders; it has an SSH client.
    assert staging["image"] == f"docker:{versions.DOCKER}-cli"
    # Of what all jobs have, only the tag of a runner for protected branches.
    assert staging["inherit"] == {"default": ["tags"]}
    assert production["script"] == staging["script"]


@pytest.mark.parametrize(
    ("name", "manual", "waits"),
    [
        ("production", None, True),
        ("production/eu", None, True),
        ("staging", None, False),
        ("productions", None, False),
        ("production", False, False),
        ("staging", True, True),
    ],
)
def test_production_waits_for_somebody_unless_the_settings_say_otherwise(
    name: str, manual: bool | None, waits: bool
) -> None:
    text = document({"deploy": [{**STAGING, "name": name, "manual": manual}]})
    assert (text[f"deploy:{name}"]["rules"][0].get("when") == "manual") is waits


def test_the_digest_of_a_pipeline_is_kept_for_as_long_as_somebody_may_go_back_to_it() -> None:
    text = document({"deploy": [STAGING]})
    assert text["build"]["artifacts"] == {"paths": ["image.txt"], "expire_in": "never"}
    assert document({})["build"]["artifacts"]["expire_in"] == "1 week"
    images = [{"name": "api"}, {"name": "web"}]
    text = document({"sample": False, "images": images, "deploy": [{**STAGING, "image": "web"}]})
    assert "REFERENCE=image-web.txt" in text["deploy:staging"]["before_script"]


def test_the_proxy_is_named_by_its_version_and_only_where_a_deployment_has_no_gap() -> None:
    text = document({"deploy": [PROXIED, PRODUCTION]})
    assert f"PROXY_IMAGE={versions.PROXY_IMAGE}" in text["deploy:staging"]["before_script"]
    assert "PROXY_IMAGE=''" in text["deploy:production"]["before_script"]


def test_a_job_has_the_files_of_its_commit_only_if_one_of_them_says_what_runs() -> None:
    text = document({"deploy": [COMPOSED, PRODUCTION]})
    assert "variables" not in text["deploy:staging"]
    assert "COMPOSE=deploy/compose.yaml" in text["deploy:staging"]["before_script"]
    assert text["deploy:production"]["variables"] == {"GIT_STRATEGY": "none"}
    assert "COMPOSE=''" in text["deploy:production"]["before_script"]


def test_only_jobs_of_protected_branches_that_deploy_there_get_key_and_token() -> None:
    engine = delivered({"deploy": [STAGING, PRODUCTION]})
    for name in ("staging", "production"):
        found = variables(engine, name)
        assert set(found) == {
            f"SLIPWAY_DEPLOY_{key}"
            for key in ("HOST", "HOST_KEY", "KEY", "PORT", "REGISTRY_TOKEN", "REGISTRY_USER", "USER")
        }
        assert {one["protected"] for one in found.values()} == {True}
        assert {one["raw"] for one in found.values()} == {True}
        assert {one["description"] for one in found.values()} == {mark_of("slipway-test")}
        assert found["SLIPWAY_DEPLOY_KEY"]["variableType"] == "file"
        assert found["SLIPWAY_DEPLOY_REGISTRY_TOKEN"]["masked"] is True
        assert found["SLIPWAY_DEPLOY_HOST_KEY"]["value"] == PUBLIC_KEY
    text = str(pipeline(engine))
    assert "203.0.113.7" not in text
    assert PUBLIC_KEY not in text


def test_key_and_token_are_secret_in_the_state_and_the_public_half_is_an_output() -> None:
    engine = delivered({"deploy": [STAGING]})
    for name in ("key", "registry-token"):
        request = engine.named(f"{PREFIX}staging-variable-{name}").request
        assert ENVELOPE in json_format.MessageToDict(request.object)["value"]
    output = engine.exports["projects"][0]["environments"]["staging"]
    assert output["host"] == "203.0.113.7"
    assert output["authorized_key"].startswith("restrict ")
    assert output["authorized_key"].endswith(" hello-staging")


def test_the_pipeline_starts_once_its_deploy_jobs_have_their_variables() -> None:
    engine = delivered({"deploy": [STAGING]})
    needed = engine.named("delivery-hello-pipeline").depends_on
    assert {f"{PREFIX}staging-variable-{name}" for name in ("key", "registry-token", "host")} <= needed


@pytest.mark.parametrize(
    ("project", "says"),
    [
        ({"pipeline": False}, "projects[0]: has deploy, but not the stack's pipeline"),
        ({"protectDefaultBranch": False}, "every developer could use the deploy key"),
        ({"extraStages": [{"name": "deploy", "script": ["x"]}]}, "deploy is the stage or a job of deploy"),
        ({"extraStages": [{"name": "deploy:staging", "script": ["x"]}]}, "deploy:staging is the stage or a job"),
        ({"images": [{"name": "api"}]}, "projects[0].deploy[0].image: nothing is not one of the project's images"),
        ({"deploy": [{**STAGING, "image": "api"}]}, "projects[0].deploy[0].image: api is not one of the project's"),
        ({"deploy": [{**STAGING, "healthCheck": {"path": "/"}}]}, "projects[0].deploy[0].healthCheck: has a path, but"),
        ({"deploy": [{**STAGING, "healthCheck": {}}]}, "deploy[0].healthCheck: has neither path nor command"),
        (
            {"deploy": [{**STAGING, "zeroDowntime": True}]},
            "deploy[0].zeroDowntime: is set, but publish has not",
        ),
        ({"deploy": [{**PROXIED, "publish": ["80:3000/udp"]}]}, "deploy[0].zeroDowntime: is set, but publish has not"),
        ({"deploy": [{**PROXIED, "healthCheck": COMMAND}]}, "deploy[0].zeroDowntime: is set, but healthCheck has a"),
        ({"deploy": [{**PROXIED, "healthCheck": {"path": "/?a"}}]}, "healthCheck.path has a question mark"),
        ({"deploy": [{**PROXIED, "compose": "c.yaml"}]}, "deploy[0].zeroDowntime: is set beside compose"),
        ({"deploy": [{**PROXIED, "compose": "c.yaml"}]}, "deploy[0].publish: is set beside compose"),
        ({"deploy": [{**STAGING, **COMPOSED, "variables": ["IMAGE"]}]}, "deploy[0].variables: has IMAGE"),
        ({"deploy": [{**COMPOSED, "healthCheck": {"path": "/"}}]}, "deploy[0].healthCheck: has a path, but neither"),
        ({"deploy": [STAGING, {**STAGING}]}, "projects[0].deploy: staging is named like another environment"),
    ],
)
def test_an_environment_that_could_not_work_is_refused_at_preview(project: dict[str, Any], says: str) -> None:
    with pytest.raises(SettingsError) as refused:
        delivered({"deploy": [STAGING], **project})
    assert any(says in error for error in refused.value.errors), refused.value.errors


def private_key(folder: Path, *options: str) -> str:
    """A private key, as ssh-keygen writes it."""
    file = folder / "id"
    subprocess.run(["ssh-keygen", "-q", *options, "-f", str(file)], check=True)
    return file.read_text()


@pytest.mark.usefixtures("encrypted")
@pytest.mark.parametrize("kind", [["-t", "ed25519"], ["-t", "ecdsa", "-m", "PEM"]])
def test_a_key_of_ones_own_is_used_as_it_is_and_none_is_generated(tmp_path: Path, kind: list[str]) -> None:
    key = private_key(tmp_path, *kind, "-N", "")
    engine = delivered({"deploy": [{**STAGING, "sshKey": key.rstrip()}]})
    assert variables(engine, "staging")["SLIPWAY_DEPLOY_KEY"]["value"] == key
    assert [one.name for one in engine.of_type(":PrivateKey") if "environment" in one.name] == []
    assert engine.exports["projects"][0]["environments"]["staging"].get("authorized_key") is None


@pytest.mark.usefixtures("encrypted")
def test_a_key_with_a_passphrase_is_refused(tmp_path: Path) -> None:
    key = private_key(tmp_path, "-t", "ed25519", "-N", "a passphrase")
    with pytest.raises(SettingsError) as refused:
        delivered({"deploy": [{**STAGING, "sshKey": key}]})
    [error] = refused.value.errors
    assert error.startswith("projects[0].deploy[0].sshKey: is not a private SSH key without a passphrase")


def test_where_a_project_is_deployed_is_not_promoted_to_another_environment() -> None:
    settings = Settings.model_validate({**REQUIRED, "projects": [{"path": "hello", "deploy": [STAGING]}]})
    assert [leaf.path for leaf in promoted(settings) if "deploy" in leaf.path] == []
