"""The two builders: what their jobs may do, and what their pipelines have in common."""

from __future__ import annotations

import json
import tomllib

import pytest

from components import versions
from components.settings import SettingsError
from tests.certificates import root
from tests.unit.delivered import PROJECT, RUNNER, configuration, delivered, pipeline
from tests.unit.engine import RecordingEngine, run_program

THREE = ("build", "test", "release")


@pytest.fixture(scope="module")
def engine() -> RecordingEngine:
    """One project and one runner with default settings."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DIGITALOCEAN_TOKEN", "dop_v1_of_a_unit_test")
        return delivered()


@pytest.fixture(scope="module")
def unprivileged() -> RecordingEngine:
    """One project and one runner that builds with Buildah and uses a mirror of Docker Hub."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DIGITALOCEAN_TOKEN", "dop_v1_of_a_unit_test")
        return delivered(runner={"builder": "buildah", "registryMirror": "https://mirror.example.test"})


def test_the_default_builder_is_docker(engine: RecordingEngine) -> None:
    chosen = delivered(runner={"builder": "docker"})
    assert pipeline(chosen) == pipeline(engine)
    assert configuration(chosen) == configuration(engine)
    assert "security_opt" not in configuration(engine)["runners"][0]["docker"]


def test_a_buildah_job_has_no_privileges_no_capabilities_and_no_devices(unprivileged: RecordingEngine) -> None:
    [runner] = configuration(unprivileged)["runners"]
    docker = runner["docker"]
    assert docker["privileged"] is False
    assert docker["image"] == versions.BUILDAH_IMAGE
    pulling = {"pull_policy", "allowed_pull_policies"}
    assert docker.keys() == {"image", "privileged", "security_opt", "volumes", "shm_size"} | pulling
    assert [volume for volume in docker["volumes"] if ":" in volume and not volume.endswith(":ro")] == []


def test_a_buildah_job_may_create_namespaces_but_not_load_modules(unprivileged: RecordingEngine) -> None:
    seccomp, apparmor = configuration(unprivileged)["runners"][0]["docker"]["security_opt"]
    assert apparmor == "apparmor=slipway-builder"
    rules = json.loads(seccomp.removeprefix("seccomp="))
    refused = {name for rule in rules["syscalls"] for name in rule["names"] if rule["action"] == "SCMP_ACT_ERRNO"}
    assert {"bpf", "init_module", "kexec_load", "keyctl", "perf_event_open"} <= refused
    assert refused & {"clone", "unshare", "mount", "pivot_root", "setns"} == set()
    assert "profile slipway-builder " in unprivileged.script("delivery-docker-builder-1-preparation")


def test_both_builders_have_the_same_stages_rules_and_artifacts(
    engine: RecordingEngine, unprivileged: RecordingEngine
) -> None:
    ours, other = pipeline(engine), pipeline(unprivileged)
    assert ours["stages"] == other["stages"]
    for job in ("build", "test", "release"):
        # Without an engine, the release job logs in by itself.
        own = {"script"} | ({"services", "before_script"} if job == "release" else set())
        assert {key: ours[job][key] for key in ours[job] if key not in own} == {
            key: other[job][key] for key in other[job] if key not in own
        }


def test_buildah_keeps_its_layers_on_the_machine_by_default(unprivileged: RecordingEngine) -> None:
    kept = configuration(unprivileged)["runners"][0]["docker"]["volumes"]
    fresh = delivered(runner={"builder": "buildah", "keepLayers": False})
    assert set(kept) - set(configuration(fresh)["runners"][0]["docker"]["volumes"]) == {"/var/lib/containers"}
    assert "buildah rm --all >/dev/null" in pipeline(unprivileged)["default"]["before_script"]


def test_buildah_tests_and_releases_the_image_by_its_digest(unprivileged: RecordingEngine) -> None:
    text = pipeline(unprivileged)
    assert text["default"]["image"] == versions.BUILDAH_IMAGE
    assert "services" not in text["default"]
    assert text["build"]["script"][-1] == 'echo "$CI_REGISTRY_IMAGE@$(cat digest.txt)" | tee image.txt'
    assert '"$(cat image.txt)"' in text["test"]["script"][0]
    assert '"docker://$(cat image.txt)"' in text["release"]["script"][0]
    assert not [line for line in text["release"]["script"] if "build " in line or "pull" in line]
    assert "docker " not in str([text[job]["script"] for job in text["stages"]])


@pytest.mark.parametrize("builder", ["docker", "buildah"])
def test_a_runner_of_one_project_pulls_by_default_and_lets_jobs_choose(builder: str) -> None:
    [runner] = configuration(delivered(runner={"builder": builder}))["runners"]
    assert runner["docker"]["pull_policy"] == ["always"]
    assert runner["docker"]["allowed_pull_policies"] == ["always", "if-not-present"]


@pytest.mark.parametrize("builder", ["docker", "buildah"])
def test_no_job_on_a_shared_runner_gets_an_image_without_asking_the_registry(builder: str) -> None:
    shared = run_program(projects=[PROJECT, {"path": "other"}], runners=[{**RUNNER, "builder": builder}])
    docker = configuration(shared)["runners"][0]["docker"]
    assert docker["pull_policy"] == docker["allowed_pull_policies"] == ["always"]


def test_provenance_is_part_of_the_image_with_docker_and_can_be_switched_off(engine: RecordingEngine) -> None:
    [runner] = configuration(engine)["runners"]
    assert runner["environment"] == ["BUILDX_NO_DEFAULT_OCI_ARTIFACT=true"], "for pipelines that are not ours"
    assert pipeline(engine)["variables"]["BUILDX_NO_DEFAULT_OCI_ARTIFACT"] == "true"
    assert "--provenance" not in str(pipeline(engine))
    without = pipeline(delivered({"provenance": False}))
    assert "docker build --pull --provenance=false --build-arg" in str(without["build"]["script"])
    assert "BUILDX_NO_DEFAULT_OCI_ARTIFACT" not in without["variables"]


@pytest.mark.parametrize("provenance", [True, False])
def test_docker_gives_further_tags_to_the_manifest_that_was_pushed(provenance: bool) -> None:
    text = pipeline(delivered({"provenance": provenance}))
    copies = [line for job in THREE for line in text[job]["script"] if "imagetools create" in line]
    assert len(copies) == 2
    assert all("--prefer-index=false" in line for line in copies)


def test_buildah_is_not_asked_for_a_provenance_that_it_does_not_write() -> None:
    assert pipeline(delivered({"provenance": False}, {"builder": "buildah"}))["build"]
    with pytest.raises(SettingsError, match=r"projects\[0\]\.provenance: Buildah writes no provenance"):
        delivered({"provenance": True}, {"builder": "buildah"})
    with pytest.raises(SettingsError, match=r"projects\[0\]: has provenance, but not the stack's pipeline"):
        delivered({"provenance": True, "pipeline": False})


@pytest.mark.parametrize(
    ("builder", "names"),
    [
        ("docker", {"DOCKER_AUTH_CONFIG", "DOCKER_CONFIG", "DOCKER_CONTEXT", "DOCKER_API_VERSION", "BUILDX_BUILDER"}),
        ("buildah", {"CONTAINERS_CONF", "CONTAINERS_REGISTRIES_CONF", "STORAGE_DRIVER", "REGISTRY_AUTH_FILE"}),
    ],
)
def test_jobs_unset_what_would_redirect_their_tools_and_log_in_last(builder: str, names: set[str]) -> None:
    lines = pipeline(delivered(runner={"builder": builder}))["default"]["before_script"]
    assert names <= {word for line in lines if line.startswith("unset ") for word in line.split()[1:]}
    if builder == "docker":
        assert "export DOCKER_HOST=tcp://docker:2376 DOCKER_TLS_VERIFY=1 DOCKER_CERT_PATH=/certs/client" in lines
        assert 'export NO_PROXY="docker,${NO_PROXY:-$no_proxy}"' in lines
    [login] = [line for line in lines if f"{builder} login" in line]
    assert login == lines[-1]
    assert "$CI_REGISTRY_PASSWORD" not in str(lines), "projects that push elsewhere often replace it"


def test_buildah_reads_passwords_from_standard_input(unprivileged: RecordingEngine) -> None:
    [login] = [line for line in pipeline(unprivileged)["default"]["before_script"] if "buildah login" in line]
    assert login.startswith('echo "$CI_JOB_TOKEN" | buildah login ')
    assert "--password-stdin" in login
    assert " -p" not in login.replace("--password-stdin", "")


@pytest.mark.parametrize("mirror", [None, "https://mirror.example.test"])
def test_buildah_resolves_short_names_on_docker_hub_and_uses_its_mirror(mirror: str | None) -> None:
    engine = delivered(runner={"builder": "buildah", "registryMirror": mirror, "dockerHubCache": False})
    script = engine.script("delivery-docker-builder-1-preparation")
    found = tomllib.loads(script.split("REGISTRIES_CONF='", 1)[1].split("'\nREGISTRY_MIRROR", 1)[0])
    assert found["unqualified-search-registries"] == ["docker.io"]
    assert [one["location"] for one in found.get("registry", [])] == (["docker.io"] if mirror else [])
    mirrors = [each["location"] for one in found.get("registry", []) for each in one["mirror"]]
    assert mirrors == (["mirror.example.test"] if mirror else [])
    assert "/etc/slipway/registries.conf:/etc/containers/registries.conf:ro" in str(configuration(engine))


@pytest.mark.parametrize("builder", ["docker", "buildah"])
def test_both_builders_trust_a_private_certificate_authority(builder: str) -> None:
    certificate = {"caCertificate": root()}
    engine = run_program(projects=[PROJECT], runners=[{**RUNNER, "builder": builder}], certificate=certificate)
    [runner] = configuration(engine)["runners"]
    assert "/etc/docker/certs.d:/etc/docker/certs.d:ro" in runner["docker"]["volumes"]
    assert runner["tls-ca-file"] == "/etc/gitlab-runner/authority.crt"


def test_the_docker_client_trusts_it_too_where_it_contacts_the_registry_directly() -> None:
    certificate = {"caCertificate": root()}
    trusting = configuration(run_program(projects=[PROJECT], runners=[RUNNER], certificate=certificate))["runners"]
    place = "/etc/gitlab-runner/authority.crt:/etc/ssl/certs/slipway-authority.pem:ro"
    assert place in trusting[0]["docker"]["volumes"]
    assert place not in configuration(delivered())["runners"][0]["docker"]["volumes"]


@pytest.mark.parametrize("builder", ["docker", "buildah"])
def test_a_branch_named_latest_is_not_built(builder: str) -> None:
    refused, *_ = pipeline(delivered(runner={"builder": builder}))["build"]["script"]
    assert refused.startswith('test "$CI_COMMIT_REF_SLUG" != latest || ')


def test_a_change_of_builder_changes_pipeline_and_configuration_and_no_machine(
    engine: RecordingEngine, unprivileged: RecordingEngine
) -> None:
    for name in ("docker-builder-1-droplet", "docker-builder-registration", "hello-project"):
        assert unprivileged.named(f"delivery-{name}").inputs == engine.named(f"delivery-{name}").inputs
    assert pipeline(unprivileged) != pipeline(engine)


def test_runners_of_one_project_with_different_builders_are_refused() -> None:
    runners = [{"name": "one"}, {"name": "two", "builder": "buildah"}]
    with pytest.raises(SettingsError) as caught:
        run_program(projects=[{"path": "hello", "runners": ["one", "two"]}], runners=runners)
    [message] = caught.value.errors
    assert message.startswith("projects[0].runners: they build with buildah and docker; ")
    projects = [{"path": "hello", "runners": ["one"]}, {"path": "other", "runners": ["two"]}]
    engine = run_program(projects=projects, runners=runners)
    assert engine.named("delivery-two-1-droplet")
