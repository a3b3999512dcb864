"""Errors of projects and runners together, when each of them is valid on its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from components.settings.gitlab_names import ref_slug
from components.settings.projects import ProjectSettings
from components.settings.runners import Builder, RunnerSettings

#: The namespace of a project without a group.
_ADMINISTRATOR: Final = "root"


def conflicts_between(projects: Sequence[ProjectSettings], runners: Sequence[RunnerSettings]) -> Iterator[str]:
    """Errors of projects and runners together, when each of them is valid on its own."""
    names = Counter(runner.name for runner in runners)
    yield from (f"runners: {_duplicate(f'{name} is the name of two runners')}" for name in names if names[name] > 1)
    used = {name for project in projects for name in project.runners}
    yield from _idle_runners(projects, runners)
    for name in sorted(names.keys() - used):
        yield (
            f"runners: {name} is not used by any project; it would sit idle. Add it to a project's runners, or remove "
            "it"
        )
    places: dict[str, int] = {}
    imports: dict[str, int] = {}
    for place, project in enumerate(projects):
        # GitLab ignores the case of paths, and the registry has lowercase names only.
        first = places.setdefault(project.path.lower(), place)
        if first != place:
            yield f"projects[{place}].path: {_duplicate(f'{project.path} is also the path of projects[{first}]')}"
        if project.import_id and (first := imports.setdefault(project.import_id, place)) != place:
            yield (
                f"projects[{place}].importId: {project.import_id} is already imported as projects[{first}]; both would "
                "change the same project. Remove one of them"
            )
        yield from _own_conflicts(f"projects[{place}]", project, runners)


def _own_conflicts(place: str, project: ProjectSettings, runners: Sequence[RunnerSettings]) -> Iterator[str]:
    """Errors of one project beside the runners that it names."""
    if project.group and project.group.lower() == _ADMINISTRATOR:
        yield (
            f"{place}.group: {project.group} is the administrator, not a group; no group would be found. "
            "Remove group: the project is then in the administrator's namespace"
        )
    yield from _branch_conflicts(place, project)
    names = list(dict.fromkeys(runner.name for runner in runners))
    for name in dict.fromkeys(project.runners):
        if name not in names:
            yield (
                f"{place}.runners: {name} is not one of the runners; the project's jobs would wait forever. "
                + (f"Add it to runners, or use one of {', '.join(names)}" if names else "Add it to runners")
            )
    of_the_project = [runner for runner in runners if runner.name in project.runners]
    if project.has_pipeline and of_the_project and not any(runner.untagged for runner in of_the_project):
        yield (
            f"{place}.runners: none of them takes jobs without tags; the jobs of the project's pipeline have none and "
            "would wait forever. Set untagged to true for one of them"
        )
    builders = {runner.builder for runner in of_the_project}
    if project.has_pipeline and len(builders) > 1:
        yield (
            f"{place}.runners: they build with {' and '.join(sorted(builders))}; the project has one pipeline, whose "
            "jobs would fail on some of them. Give them the same builder, or name fewer runners"
        )
    if project.provenance and builders == {Builder.BUILDAH}:
        yield (
            f"{place}.provenance: Buildah writes no provenance; images would carry none. "
            "Remove provenance, or use a runner whose builder is docker"
        )


def _branch_conflicts(place: str, project: ProjectSettings) -> Iterator[str]:
    """A default branch that cannot be turned into the tag of an image, or has to be named for one to be kept."""
    if project.imported and project.sets_cleanup_policy and project.cleanup is not False and not project.default_branch:
        yield (
            f"{place}: has a cleanup policy, but no defaultBranch; the image of the default branch could be removed. "
            "Set defaultBranch as well, to the one that the project has"
        )
    if not project.has_pipeline or project.default_branch is None:
        return
    slug = ref_slug(project.default_branch)
    if slug == "latest":
        yield (
            f"{place}.defaultBranch: {project.default_branch} would be the tag latest of its images, which is the "
            "released image's; every pipeline would fail. Choose another branch"
        )
    elif not slug:
        yield (
            f"{place}.defaultBranch: {project.default_branch} has no letter a to z and no digit for the tag of its "
            "images; every pipeline would fail. Choose another branch"
        )


def _idle_runners(projects: Sequence[ProjectSettings], runners: Sequence[RunnerSettings]) -> Iterator[str]:
    """Runners for tagged jobs alone, in projects whose jobs have no tags and which other runners serve."""
    untagged = {runner.name for runner in runners if runner.untagged}
    for place, runner in enumerate(runners):
        users = [project for project in projects if runner.name in project.runners]
        served = all(project.has_pipeline and untagged & set(project.runners) for project in users)
        if users and served and not runner.untagged:
            yield (
                f"runners[{place}].untagged: no job of its projects has tags; it would sit idle. Set untagged to true, "
                "or remove the runner"
            )


def _duplicate(what: str) -> str:
    return f"{what}; one would replace the other. Rename one of them"
