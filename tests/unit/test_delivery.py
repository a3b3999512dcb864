"""Projects, their pipelines and their runners: what the program registers, and what it never does."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from google.protobuf import json_format
from pulumi import RunError

from components import versions
from components.settings import SettingsError
from tests.unit.delivered import PROJECT, RUNNER, configuration, delivered, pipeline
from tests.unit.engine import ENVELOPE, RecordingEngine, run_program
from tests.unit.test_nasty_stack_files import shell


@pytest.fixture(scope="module")
def engine() -> RecordingEngine:
    """One project and one runner with default settings."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DIGITALOCEAN_TOKEN", "dop_v1_of_a_unit_test")
        return delivered()


def test_gitlab_holds_requests_for_jobs_and_every_worker_of_a_runner_has_one_there() -> None:
    engine = delivered(runner={"concurrency": 3})
    duration = "gitlab_workhorse['api_ci_long_polling_duration'] = '50s'\n"
    assert duration in shell(engine, "gitlab-configuration")["GITLAB_RB"]
    written = configuration(engine)
    assert (written["concurrent"], written["check_interval"]) == (3, 1)
    [runner] = written["runners"]
    assert (runner["limit"], runner["request_concurrency"]) == (3, 3)
    assert runner["feature_flags"]["FF_USE_ADAPTIVE_REQUEST_CONCURRENCY"] is False


def test_without_projects_the_gitlab_provider_is_not_used() -> None:
    engine = run_program()
    assert not [one for one in engine.registrations if one.type.startswith(("gitlab:", "pulumi:providers:gitlab"))]
    assert "projects" not in engine.exports


def test_no_request_to_gitlab_is_made_before_its_registry_is_configured(engine: RecordingEngine) -> None:
    provider = next(one for one in engine.registrations if one.type == "pulumi:providers:gitlab")
    assert "registry-login" in provider.depends_on
    assert provider.inputs["earlyAuthCheck"] == "false"


def test_no_job_of_the_project_runs_on_an_instance_or_group_runner(engine: RecordingEngine) -> None:
    project = engine.named("delivery-hello-project").inputs
    assert project["sharedRunnersEnabled"] is False
    assert project["groupRunnersEnabled"] is False
    assert project["containerRegistryAccessLevel"] == "enabled"


def test_the_cleanup_policy_is_complete_so_that_previews_show_no_difference(engine: RecordingEngine) -> None:
    policy = engine.named("delivery-hello-project").inputs["containerExpirationPolicy"]
    assert policy.keys() == {"enabled", "cadence", "keepN", "olderThan", "nameRegexDelete", "nameRegexKeep"}


def test_the_runner_belongs_to_the_project_and_is_locked_to_it(engine: RecordingEngine) -> None:
    runner = engine.named("delivery-docker-builder-registration").inputs
    assert runner["runnerType"] == "project_type"
    assert runner["projectId"] == 42
    assert runner["locked"] is True
    assert runner["description"] == "docker-builder"


def test_a_runner_that_two_projects_use_is_enabled_for_the_second_and_not_locked() -> None:
    engine = run_program(projects=[PROJECT, {"path": "other"}], runners=[RUNNER])
    assert engine.named("delivery-docker-builder-registration").inputs["locked"] is False
    assert engine.named("delivery-docker-builder-project-other").inputs["runnerId"] == 7


def test_a_project_that_shared_a_runner_can_be_removed_without_affecting_the_others() -> None:
    three = run_program(projects=[PROJECT, {"path": "second"}, {"path": "third"}], runners=[RUNNER])
    two = run_program(projects=[PROJECT, {"path": "third"}], runners=[RUNNER])
    shares = {one.name for one in three.of_type(":ProjectRunnerEnablement")}
    assert shares == {"delivery-docker-builder-project-second", "delivery-docker-builder-project-third"}
    left = two.named("delivery-docker-builder-project-third")
    assert left.inputs == three.named("delivery-docker-builder-project-third").inputs
    assert len(two.of_type(":ProjectRunnerEnablement")) == 1


def test_a_runner_belongs_to_the_first_project_that_uses_it_and_is_locked_if_it_is_the_only_one() -> None:
    engine = run_program(projects=[{"path": "other", "runners": []}, PROJECT], runners=[RUNNER])
    assert engine.named("delivery-docker-builder-registration").inputs["locked"] is True
    assert not engine.of_type(":ProjectRunnerEnablement")


def test_a_project_is_created_in_its_group_regardless_of_the_case_of_the_path() -> None:
    groups = {"team": 7, "team/sub": 8, "steam": 9}
    engine = run_program(existing_groups=groups, projects=[{**PROJECT, "group": "Team/Sub"}], runners=[RUNNER])
    assert engine.named("delivery-hello-project").inputs["namespaceId"] == 8
    assert "namespaceId" not in delivered().named("delivery-hello-project").inputs


def test_a_missing_group_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(RunError, match=r"GitLab has no group team; .*\. Add it to groups, create it in GitLab first"):
        run_program(existing_groups={"steam": 9}, projects=[{**PROJECT, "group": "team"}], runners=[RUNNER])


def test_the_runner_has_its_own_machine_that_only_administrators_can_reach(engine: RecordingEngine) -> None:
    droplet = engine.named("delivery-docker-builder-1-droplet")
    assert droplet.inputs["tags"] == engine.named("network-runner-firewall").inputs["tags"]
    [rule] = engine.named("network-runner-firewall").inputs["inboundRules"]
    assert (rule["portRange"], rule["sourceAddresses"]) == ("22", ["192.0.2.10/32"])
    assert "network-runner-firewall" in droplet.depends_on


def test_several_machines_of_a_runner_share_its_registration_and_no_key() -> None:
    engine = delivered(runner={"count": 3})
    assert len(engine.of_type(":UserRunner")) == 1
    machines = sorted(one.name for one in engine.of_type(":Droplet") if "docker-builder" in one.name)
    assert machines == [f"delivery-docker-builder-{number}-droplet" for number in (1, 2, 3)]
    for number in (1, 2, 3):
        machine = f"delivery-docker-builder-{number}"
        connection = engine.named(f"{machine}-preparation").inputs["connection"]
        assert connection["hostKey"] == f"ssh-ed25519 {machine}-host-keys-lasting"
        assert f"PRIVATE {machine}-host-keys-first-contact" in engine.named(f"{machine}-droplet").inputs["userData"]


def test_the_token_of_the_runner_is_in_its_configuration_and_nowhere_else(engine: RecordingEngine) -> None:
    token = "glrt-delivery-docker-builder-registration"  # noqa: S105 - computed by the recording engine
    holders = [one.name for one in engine.registrations if token in str(one.inputs)]
    assert holders == ["delivery-docker-builder-1-registration"]
    assert token not in engine.named("delivery-docker-builder-1-registration").inputs["create"]
    assert configuration(engine)["runners"][0]["token"] == token


def test_the_runner_may_build_images(engine: RecordingEngine) -> None:
    [runner] = configuration(engine)["runners"]
    assert runner["executor"] == "docker"
    assert runner["docker"]["privileged"] is True
    assert "/certs" in runner["docker"]["volumes"]
    assert runner["docker"]["image"] == f"docker:{versions.DOCKER}-cli"


def test_docker_in_jobs_keeps_its_layers_and_its_keys_by_default(engine: RecordingEngine) -> None:
    kept = configuration(engine)["runners"][0]["docker"]["volumes"]
    fresh = configuration(delivered(runner={"keepLayers": False}))["runners"][0]["docker"]["volumes"]
    assert set(kept) - set(fresh) == {"/var/lib/docker", "/certs"}
    assert set(fresh) - set(kept) == {"/certs/client"}
    [clean_up] = [line for line in pipeline(engine)["default"]["before_script"] if "docker rm --force" in line]
    assert "docker ps --all" in clean_up


def test_a_change_of_concurrency_changes_the_configuration_and_no_machine(engine: RecordingEngine) -> None:
    changed = delivered(runner={"concurrency": 7})
    assert configuration(changed)["concurrent"] == 7
    for name in ("delivery-docker-builder-1-droplet", "delivery-docker-builder-1-preparation"):
        assert changed.named(name).inputs == engine.named(name).inputs


def test_up_ends_once_every_machine_has_contacted_gitlab() -> None:
    engine = delivered(runner={"count": 2})
    online = engine.named("delivery-docker-builder-online")
    registrations = {f"delivery-docker-builder-{number}-registration" for number in (1, 2)}
    assert registrations <= online.depends_on
    assert online.inputs["connection"]["host"] == "198.51.100.7"


def test_docker_client_and_daemon_of_the_pipeline_have_one_version_and_use_tls(engine: RecordingEngine) -> None:
    text = pipeline(engine)
    assert text["default"]["image"] == f"docker:{versions.DOCKER}-cli"
    [service] = text["default"]["services"]
    assert (service["name"], service["alias"]) == (f"docker:{versions.DOCKER}-dind", "docker")
    assert text["variables"]["DOCKER_TLS_CERTDIR"] == "/certs"


def test_the_tested_image_is_released_and_only_from_the_default_branch(engine: RecordingEngine) -> None:
    text = pipeline(engine)
    assert text["stages"] == ["build", "test", "release"]
    assert '"$(cat image.txt)"' in text["test"]["script"][0]
    assert '"$CI_REGISTRY_IMAGE:latest" "$(cat image.txt)"' in text["release"]["script"][-1]
    assert text["release"]["rules"] == [{"if": "$CI_COMMIT_BRANCH == $CI_DEFAULT_BRANCH"}]
    assert "rules" not in text["test"]
    assert not [line for line in text["release"]["script"] if "pull" in line]


def test_docker_reads_passwords_from_standard_input(engine: RecordingEngine) -> None:
    [login] = [line for line in pipeline(engine)["default"]["before_script"] if "docker login" in line]
    assert "--password-stdin" in login
    assert " -p" not in login


def test_a_mirror_of_docker_hub_is_used_by_the_machine_and_by_docker_in_jobs() -> None:
    engine = delivered(runner={"registryMirror": "https://mirror.example.test"})
    [service] = pipeline(engine)["default"]["services"]
    assert service["command"] == ["--registry-mirror=https://mirror.example.test"]
    assert "REGISTRY_MIRROR=https://mirror.example.test" in engine.script("delivery-docker-builder-1-preparation")


def test_of_several_mirrors_the_first_in_the_stack_file_is_used() -> None:
    mirrors = [None, "https://b.example.test", "https://a.example.test"]
    runners = [{"name": f"r{number}", "registryMirror": mirror} for number, mirror in enumerate(mirrors)]
    engine = run_program(projects=[{"path": "hello", "runners": ["r2", "r1", "r0"]}], runners=runners)
    [service] = pipeline(engine)["default"]["services"]
    assert service["command"] == ["--registry-mirror=https://b.example.test"]


def test_extra_stages_come_last_in_their_order() -> None:
    stages = [{"name": "deploy", "script": ["echo 'to: staging'"]}, {"name": "report", "script": ["true"]}]
    text = pipeline(delivered({"extraStages": stages}))
    assert text["stages"] == ["build", "test", "release", "deploy", "report"]
    assert text["deploy"]["script"] == ["echo 'to: staging'"]


def test_a_pipeline_starts_once_its_runners_can_take_its_jobs() -> None:
    engine = run_program(
        projects=[{"path": "hello", "runners": ["one", "two"]}, {"path": "other", "runners": ["two"]}],
        runners=[{"name": "one"}, {"name": "two"}],
    )
    awaited = {path: engine.named(f"delivery-{path}-pipeline").depends_on for path in ("hello", "other")}
    assert {"delivery-one-online", "delivery-two-online"} <= awaited["hello"]
    assert "delivery-two-online" in awaited["other"]
    assert "delivery-one-online" not in awaited["other"]


def test_the_sample_is_one_commit_that_overwrites_only_the_initial_readme(engine: RecordingEngine) -> None:
    script = engine.script("delivery-hello-sample")
    commit = json.loads(script.split("COMMIT='", 1)[1].split("'\nGITLAB_URL", 1)[0].replace("""'"'"'""", "'"))
    actions = {one["file_path"]: one["action"] for one in commit["actions"]}
    assert {"Dockerfile", "package.json", "server.js", "server.test.js"} <= actions.keys()
    # Only the file that GitLab created is overwritten; if any other one exists, GitLab refuses the whole commit.
    assert [path for path, action in actions.items() if action != "create"] == ["README.md"]
    assert commit["branch"] == "main"


def test_the_pipeline_is_committed_after_the_sample(engine: RecordingEngine) -> None:
    assert "delivery-hello-sample" in engine.named("delivery-hello-pipeline").depends_on
    # Before the pipeline is committed, GitLab would generate one for the files of the sample.
    assert engine.named("delivery-hello-project").inputs["autoDevopsEnabled"] is False


def test_without_the_sample_only_the_pipeline_is_committed() -> None:
    engine = delivered({"sample": False})
    assert [one.name for one in engine.custom if one.name.endswith(("-pipeline", "-sample"))] == [
        "delivery-hello-pipeline"
    ]


def test_the_cleanup_policy_keeps_the_tag_of_the_default_branch() -> None:
    policy = delivered({"defaultBranch": "Release/1.0"}).named("delivery-hello-project").inputs
    assert policy["containerExpirationPolicy"]["nameRegexKeep"] == r"(?:latest|release-1-0|v?[0-9]+[.][0-9].*)"


def test_the_deploy_token_can_only_pull(engine: RecordingEngine) -> None:
    assert engine.named("delivery-hello-deploy-token").inputs["scopes"] == ["read_registry"]


@pytest.mark.usefixtures("encrypted")
@pytest.mark.parametrize("removal", ["everything", "keep-data"])
@pytest.mark.parametrize("imported", [{}, {"importId": "17", "protectDefaultBranch": True}])
def test_a_destroy_sends_no_request_to_a_gitlab_that_may_be_gone(removal: str, imported: dict[str, Any]) -> None:
    projects = [{"path": "hello", "variables": {"KEY": {"value": "the-value"}}, **imported}, {"path": "other"}]
    engine = run_program(projects=projects, runners=[RUNNER], removal=removal)
    inside = [one for one in engine.custom if one.type.startswith("gitlab:")]
    assert {one.type.rsplit(":", 1)[1] for one in inside} >= {"ProjectVariable", "ProjectRunnerEnablement"}
    for one in inside:
        owner = one
        while owner.deleted_with and owner.deleted_with != "server-droplet":
            owner = engine.named(owner.deleted_with)
        assert owner.deleted_with == "server-droplet", one.name


def test_a_kept_project_outlives_a_destroy_and_can_leave_the_stack_without_its_variables_and_tokens(
    engine: RecordingEngine,
) -> None:
    assert engine.named("delivery-hello-project").request.retainOnDelete
    # Not with the project, which stays: the stack's credential is to be revoked.
    assert engine.named("delivery-hello-deploy-token").deleted_with == "server-droplet"


def test_a_kept_project_of_an_earlier_update_is_found_again(engine: RecordingEngine) -> None:
    remembered = {**engine.exports["deployed"], "projects": {"hello": "12"}}
    found = delivered(previous_outputs={"deployed": remembered}).named("delivery-hello-project")
    assert found.request.importId == "12"
    assert not engine.named("delivery-hello-project").request.importId
    lost = delivered(previous_outputs={"deployed": {**remembered, "kept": False}}).named("delivery-hello-project")
    assert not lost.request.importId


@pytest.mark.parametrize(
    ("tag", "kept"), [("v1.0.0", True), ("3.2.1-rc1", True), ("latest2", False), ("0a1b2c3", False)]
)
def test_releases_are_kept_as_gitlab_reads_the_pattern(tag: str, *, kept: bool) -> None:
    pattern = delivered().named("delivery-hello-project").inputs["containerExpirationPolicy"]["nameRegexKeep"]
    # GitLab puts the pattern between these two, without a group around it.
    assert bool(re.search(rf"\A{pattern}\Z", tag)) is kept


def test_the_pattern_of_kept_tags_and_the_cleanup_itself_are_settings() -> None:
    policy = delivered({"keepTags": "stable|v.*"}).named("delivery-hello-project").inputs["containerExpirationPolicy"]
    assert (policy["enabled"], policy["nameRegexKeep"]) == (True, "(?:latest|main|stable|v.*)")
    off = delivered({"cleanup": False}).named("delivery-hello-project").inputs["containerExpirationPolicy"]
    assert off["enabled"] is False


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"keepTags": "v("}, r"projects\[0\]\.keepTags: v\( is not a regular expression"),
        ({"keepTags": "(?!dev).*"}, "looks around or back"),
        ({"keepTags": "v" * 151}, "has 151 characters"),
        ({"cleanup": False, "keepImages": 5}, "they would be ignored"),
    ],
)
def test_a_cleanup_that_gitlab_would_reject_or_ignore_is_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        delivered(settings)


def test_a_new_project_is_private_by_default(engine: RecordingEngine) -> None:
    project = engine.named("delivery-hello-project")
    assert project.inputs["visibilityLevel"] == "private"
    assert list(project.request.ignoreChanges) == ["initializeWithReadme"]
    assert delivered({"visibility": "public"}).named("delivery-hello-project").inputs["visibilityLevel"] == "public"


def test_a_file_that_leaves_the_stack_is_not_removed_by_a_commit(engine: RecordingEngine) -> None:
    for name in ("pipeline", "sample"):
        assert "delete" not in engine.named(f"delivery-hello-{name}").inputs


def test_the_default_branch_is_protected_kept_and_committed_to() -> None:
    engine = delivered({"defaultBranch": "trunk"})
    assert engine.named("delivery-hello-project").inputs["defaultBranch"] == "trunk"
    policy = engine.named("delivery-hello-project").inputs["containerExpirationPolicy"]
    assert policy["nameRegexKeep"] == r"(?:latest|trunk|v?[0-9]+[.][0-9].*)"
    assert engine.named("delivery-hello-protection").inputs["branch"] == "trunk"
    assert "BRANCH=trunk\n" in engine.script("delivery-hello-pipeline")


def test_a_variable_in_plain_text_is_refused_with_the_command_that_encrypts_it() -> None:
    projects = [{"path": "first"}, {"path": "hello", "variables": {"DEPLOY_KEY": {"value": "the-value"}}}]
    with pytest.raises(SettingsError) as caught:
        run_program(projects=projects, runners=[RUNNER])
    [line] = caught.value.errors
    assert line.startswith("projects[1].variables.DEPLOY_KEY.value: is in plain text in the stack file")
    assert "pulumi config set --secret --path 'projects[1].variables.DEPLOY_KEY.value' …" in line


@pytest.mark.usefixtures("encrypted")
def test_an_encrypted_variable_stays_secret_and_is_not_expanded() -> None:
    variables = {"DEPLOY_KEY": {"value": "pa$$word"}, "deploy_key": {"value": "x y", "masked": False}}
    engine = delivered({"variables": variables})
    variable = engine.named("delivery-hello-variable-DEPLOY_KEY")
    assert ENVELOPE in json_format.MessageToDict(variable.request.object)["value"]
    assert (variable.inputs["raw"], variable.inputs["masked"], variable.inputs["protected"]) == (True, True, False)
    assert engine.named("delivery-hello-variable-deploy_key").inputs["masked"] is False


@pytest.mark.parametrize(
    ("projects", "runners", "path"),
    [
        ([{"path": "hello", "runners": ["nobody"]}], [RUNNER], "projects[0].runners[0]"),
        ([{"path": "hello", "runners": []}], [RUNNER], "runners"),
        ([PROJECT, PROJECT], [RUNNER], "projects[1].path"),
        ([PROJECT, {**PROJECT, "group": "team"}], [RUNNER], "projects[1].path"),
        ([{**PROJECT, "group": "Root"}], [RUNNER], "projects[0].group"),
        ([{**PROJECT, "group": "/team"}], [RUNNER], "projects[0].group"),
        ([{**PROJECT, "importId": "17"}, {"path": "b", "importId": "17"}], [RUNNER], "projects[1].importId"),
        ([{**PROJECT, "importId": "root/hello"}], [RUNNER], "projects[0].importId"),
        ([{**PROJECT, "importId": "17", "sample": True}], [RUNNER], "projects[0]"),
        ([{**PROJECT, "pipeline": False, "extraStages": [{"name": "x", "script": ["x"]}]}], [RUNNER], "projects[0]"),
        ([{**PROJECT, "path": "badges"}], [RUNNER], "projects[0].path"),
        ([{**PROJECT, "path": "hello-"}], [RUNNER], "projects[0].path"),
        ([{**PROJECT, "defaultBranch": "a b"}], [RUNNER], "projects[0].defaultBranch"),
        ([{**PROJECT, "keepImages": 7}], [RUNNER], "projects[0].keepImages"),
        ([{**PROJECT, "visibility": "secret"}], [RUNNER], "projects[0].visibility"),
        ([{**PROJECT, "variables": {"CI_COMMIT_SHA": {"value": "12345678"}}}], [RUNNER], "projects[0].variables"),
        ([{**PROJECT, "variables": {"DOCKER_HOST": {"value": "12345678"}}}], [RUNNER], "projects[0].variables"),
        ([{**PROJECT, "variables": {"BUILDAH_FORMAT": {"value": "12345678"}}}], [RUNNER], "projects[0].variables"),
        ([{**PROJECT, "variables": {"KEY": {"value": "1234567"}}}], [RUNNER], "projects[0].variables.KEY"),
        ([{**PROJECT, "variables": {"KEY": {"value": "two\nlines"}}}], [RUNNER], "projects[0].variables.KEY"),
        ([PROJECT], [RUNNER, RUNNER], "runners"),
        ([{"path": "Hello World"}], [RUNNER], "projects[0].path"),
        (
            [{"path": "hello", "extraStages": [{"name": "test", "script": ["x"]}]}],
            [RUNNER],
            "projects[0].extraStages[0].name",
        ),
        ([{"path": "hello", "variables": {"A-B": {"value": "12345678"}}}], [RUNNER], "projects[0].variables"),
        ([PROJECT], [{**RUNNER, "untagged": False}], "runners[0]"),
        ([PROJECT], [{**RUNNER, "concurrency": 0}], "runners[0].concurrency"),
        ([PROJECT], [{**RUNNER, "builder": "kaniko"}], "runners[0].builder"),
    ],
)
def test_every_error_names_its_key(projects: list[Any], runners: list[Any], path: str) -> None:
    with pytest.raises(SettingsError) as caught:
        run_program(projects=projects, runners=runners)
    [message] = [line for line in caught.value.errors if line.startswith(f"{path}: ")]
    assert "; " in message
    assert ". " in message
    assert "1234567" not in message


@pytest.mark.usefixtures("encrypted")
@pytest.mark.parametrize("key", ["CI_DEBUG_TRACE", "DOCKER_AUTH_CONFIG", "_x"])
def test_a_variable_that_replaces_none_of_the_pipeline_is_accepted(key: str) -> None:
    engine = delivered({"variables": {key: {"value": "true", "masked": False}}})
    assert engine.named(f"delivery-hello-variable-{key}").inputs["key"] == key


def test_errors_of_projects_and_runners_are_reported_together_with_all_others() -> None:
    projects = [PROJECT, {**PROJECT, "runners": ["nobody"]}, {"path": "third", "group": "root"}]
    with pytest.raises(SettingsError) as caught:
        run_program(adminCidrs=["nowhere"], projects=projects, runners=[RUNNER, {"name": "idle"}])
    paths = {line.split(":")[0] for line in caught.value.errors}
    assert paths == {"adminCidrs[0]", "projects[1].path", "projects[1].runners[0]", "projects[2].group", "runners"}


def test_projects_with_errors_are_not_compared_with_runners() -> None:
    with pytest.raises(SettingsError) as caught:
        run_program(projects=[{"path": "hello-"}], runners=[RUNNER])
    assert [line.split(":")[0] for line in caught.value.errors] == ["projects[0].path"]


def test_the_output_shows_commands_only_for_images_that_the_stack_provides() -> None:
    plain = {"sample": False, "pipeline": False}
    for settings, expected in (({}, (True, True)), ({"sample": False}, (True, False)), (plain, (False, False))):
        [output] = delivered(settings).exports["projects"]
        assert (bool(output.get("docker_pull")), bool(output.get("docker_run"))) == expected
        assert output["image"] == "gitlab.example.test:5555/root/hello"


def test_a_project_that_receives_images_has_a_token_that_can_push_to_it_and_nothing_else() -> None:
    engine = delivered({"receiveImages": True})
    token = engine.named("delivery-hello-deploy-token-push").inputs
    assert (token["project"], token["scopes"]) == ("42", ["read_registry", "write_registry"])
    [project] = engine.exports["projects"]
    assert (project["push_username"], project["push_token"]) == ("hello-push", "gldt-delivery-hello-deploy-token-push")
    [sent] = engine.sent_outputs["slipway-test"]["projects"]
    assert ENVELOPE in sent["push_token"]
    assert "push_token" not in delivered().exports["projects"][0]


def test_a_project_without_jobs_needs_no_runner_and_is_told_how_to_say_so() -> None:
    project = {"path": "app", "pipeline": False, "receiveImages": True}
    with pytest.raises(SettingsError) as refusal:
        run_program(projects=[project], runners=[])
    assert refusal.value.errors[0].endswith("Add it to runners, or set projects[0].runners to [] if it has no jobs")
    engine = run_program(projects=[{**project, "runners": []}], runners=[])
    assert engine.named("delivery-app-project")
