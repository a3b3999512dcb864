"""Projects that exist in GitLab already: what an import leaves as it is, and what it changes."""

from __future__ import annotations

from typing import Any

import pytest
from pulumi import RunError

from components.settings import SettingsError
from tests.unit.delivered import PROJECT, RUNNER, delivered
from tests.unit.engine import RecordingEngine, run_program


def test_an_imported_project_stays_in_gitlab_when_it_leaves_the_stack() -> None:
    engine = delivered({"importId": "17"})
    project = engine.named("delivery-hello-project")
    assert project.request.importId == "17"
    assert project.request.retainOnDelete
    # `up` refuses to delete a protected resource, even if it is retained.
    assert not project.request.protect
    assert not delivered(removal="everything").named("delivery-hello-project").request.retainOnDelete


@pytest.mark.usefixtures("encrypted")
def test_what_the_stack_created_in_an_imported_project_is_deleted_without_the_project() -> None:
    for settings, owner in (({"importId": "17"}, "server-droplet"), ({}, "delivery-hello-project")):
        engine = delivered({**settings, "variables": {"KEY": {"value": "the-value"}}}, removal="everything")
        assert engine.named("delivery-hello-deploy-token").deleted_with == owner
        assert engine.named("delivery-hello-variable-KEY").deleted_with == owner
        assert not settings or not engine.of_type(":BranchProtection")


def test_an_imported_project_has_to_stay_imported() -> None:
    before = delivered({"importId": "17"}).exports["deployed"]
    assert before["adopted"] == {"hello": "17"}
    with pytest.raises(SettingsError) as caught:
        delivered(previous_outputs={"deployed": before})
    [line] = caught.value.errors
    assert line.startswith("projects[0].importId: hello was imported as 17; ")
    assert run_program(previous_outputs={"deployed": before}).exports["deployed"]["adopted"] == {}


def test_an_import_leaves_every_property_that_the_stack_file_does_not_set() -> None:
    engine = delivered({"importId": "17"})
    unmanaged = set(engine.named("delivery-hello-project").request.ignoreChanges)
    inputs = engine.named("delivery-hello-project").inputs
    assert inputs.keys() <= unmanaged
    # With GitLab's provider a property that is not given is reset, unless it is ignored.
    assert {"archived", "ciConfigPath", "topics", "mergeCommitTemplate", "defaultBranch", "path"} <= unmanaged
    assert not {"description", "visibilityLevel", "initializeWithReadme", "defaultBranch"} & inputs.keys()
    assert not engine.of_type(":BranchProtection")
    assert "delivery-hello-pipeline" not in {one.name for one in engine.registrations}


def test_an_import_changes_exactly_what_the_stack_file_sets() -> None:
    kept = set(delivered({"importId": "17"}).named("delivery-hello-project").request.ignoreChanges)
    wanted = {"description": "Ours", "visibility": "internal", "defaultBranch": "trunk", "keepImages": 5}
    engine = delivered({"importId": "17", "protectDefaultBranch": True, **wanted})
    project = engine.named("delivery-hello-project")
    changed = {"description", "visibilityLevel", "defaultBranch", "containerExpirationPolicy"}
    assert kept - set(project.request.ignoreChanges) == changed
    assert project.inputs["visibilityLevel"] == "internal"
    assert project.inputs["containerExpirationPolicy"]["nameRegexKeep"] == r"(?:latest|trunk|v?[0-9]+[.][0-9].*)"
    assert engine.named("delivery-hello-protection").inputs["branch"] == "trunk"


def test_an_import_moves_only_if_the_stack_file_names_a_group() -> None:
    engine = RecordingEngine(answers={"getProject": {"id": "17", "pathWithNamespace": "team/old/hello"}})
    projects = [{**PROJECT, "importId": "17", "group": "team"}]
    run_program(engine=engine, existing_groups={"team": 7}, projects=projects, runners=[RUNNER])
    assert "namespaceId" not in engine.named("delivery-hello-project").request.ignoreChanges
    assert "namespaceId" in delivered({"importId": "17"}).named("delivery-hello-project").request.ignoreChanges


def test_the_pipeline_and_the_protection_of_an_import_are_on_its_real_default_branch() -> None:
    engine = delivered({"importId": "17", "pipeline": True, "protectDefaultBranch": True})
    assert "BRANCH=master\n" in engine.script("delivery-hello-pipeline")
    assert engine.named("delivery-hello-protection").inputs["branch"] == "master"


def test_a_cleanup_policy_for_an_import_needs_the_branch_whose_image_it_keeps() -> None:
    with pytest.raises(SettingsError, match=r"projects\[0\]: has a cleanup policy, but no defaultBranch; "):
        delivered({"importId": "17", "keepImages": 5})
    engine = delivered({"importId": "17", "cleanup": False})
    project = engine.named("delivery-hello-project")
    assert "containerExpirationPolicy" not in project.request.ignoreChanges
    assert project.inputs["containerExpirationPolicy"]["enabled"] is False


@pytest.mark.parametrize(
    ("existing", "problem"),
    [
        ({"archived": True}, "is archived"),
        ({"containerRegistryAccessLevel": "disabled"}, "has no container registry"),
        ({"ciConfigPath": "ci/build.yml"}, "has its pipeline in ci/build.yml"),
    ],
)
def test_a_pipeline_that_an_imported_project_could_not_run_is_refused(existing: dict[str, Any], problem: str) -> None:
    project = {**PROJECT, "importId": "17"}
    engine = RecordingEngine(existing={"defaultBranch": "master", **existing})
    with pytest.raises(RunError, match=rf"Project hello {problem}; .*, or set pipeline to false"):
        run_program(engine=engine, projects=[{**project, "pipeline": True}], runners=[RUNNER])
    assert "delivery-hello-pipeline" not in {one.name for one in engine.registrations}
    engine = RecordingEngine(existing=existing)
    assert run_program(engine=engine, projects=[project], runners=[RUNNER]).of_type(":Project")
