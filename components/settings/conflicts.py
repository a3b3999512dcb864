"""Errors of projects and runners together, when each of them is valid on its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from components.settings.gitlab_names import ADMINISTRATOR, ref_slug
from components.settings.group_conflicts import group_conflicts
from components.settings.notification_conflicts import notification_conflicts
from components.settings.projects import ProjectSettings
from components.settings.runners import AccessLevel, Builder, RunnerSettings, tag_of_protected_jobs
from components.settings.shown import shown
from components.settings.stack_file import Settings
from components.settings.supply_chain import SupplyChain
from components.settings.validation import Validity


def conflicts_between(settings: Settings, validity: Validity) -> Iterator[str]:
    """Errors of projects and runners together, except those that depend on something that is invalid."""
    places = _Places(settings, validity)
    names = Counter(runner.name for place, runner in places.runners if places.has(f"{place}.name"))
    yield from (f"runners: {_duplicate(f'{name} is the name of two runners')}" for name in names if names[name] > 1)
    yield from _idle_runners(places)
    if places.know_users:
        used = {name for project in settings.projects for name in project.runners}
        for name in sorted(names.keys() - used):
            yield (
                f"runners: {name} is not used by any project; it would sit idle. Add it to a project's runners, or "
                "remove it"
            )
    yield from _duplicate_projects(places)
    for place, project in places.projects:
        yield from _own_conflicts(place, project, places)
        yield from _branch_conflicts(place, project, places)
        yield from _stage_conflicts(place, project, places)
    yield from _idle_scan(places)
    yield from group_conflicts(settings, validity)
    yield from notification_conflicts(settings, validity)


@dataclass(frozen=True)
class _Places:
    """Projects and runners with their places in the stack file, and which keys are valid."""

    settings: Settings
    validity: Validity

    def has(self, *paths: str) -> bool:
        """Whether everything at and below these key paths is valid on its own."""
        return self.validity.has(*paths)

    @property
    def projects(self) -> list[tuple[str, ProjectSettings]]:
        """All projects with their places."""
        return [(f"projects[{number}]", one) for number, one in enumerate(self.settings.projects)]

    @property
    def runners(self) -> list[tuple[str, RunnerSettings]]:
        """All runners with their places."""
        return [(f"runners[{number}]", one) for number, one in enumerate(self.settings.runners)]

    @property
    def know_users(self) -> bool:
        """Whether it is known which runners all projects name."""
        return self.has_list("projects") and self.has(*(f"{place}.runners" for place, _ in self.projects))

    @property
    def know_names(self) -> bool:
        """Whether the names of all runners are known."""
        return self.has_list("runners") and self.has(*(f"{place}.name" for place, _ in self.runners))

    def has_list(self, key: str) -> bool:
        """Whether a list is one, and all of its entries are sections."""
        return not any(one[0] == key and len(one) <= len((key, "index")) for one in self.validity.invalid)

    def knows_pipeline(self, *places: str) -> bool:
        """Whether it is known which of the projects at these places have the stack's pipeline."""
        return self.has(*(f"{place}.{key}" for place in places for key in ("importId", "pipeline")))


def _duplicate_projects(places: _Places) -> Iterator[str]:
    paths: dict[str, str] = {}
    imports: dict[str, str] = {}
    for place, project in places.projects:
        if places.has(f"{place}.path"):
            # GitLab ignores the case of paths, and the registry has lowercase names only.
            first = paths.setdefault(project.path.lower(), place)
            if first != place:
                yield f"{place}.path: {_duplicate(f'{project.path} is also the path of {first}')}"
        if project.import_id and (first := imports.setdefault(project.import_id, place)) != place:
            yield (
                f"{place}.importId: {project.import_id} is already imported as {first}; both would change the same "
                "project. Remove one of them"
            )


def _own_conflicts(place: str, project: ProjectSettings, places: _Places) -> Iterator[str]:
    """Errors of one project beside the runners that it names."""
    if project.group and project.group.lower() == ADMINISTRATOR:
        yield (
            f"{place}.group: {project.group} is the administrator, not a group; no group would be found. "
            "Remove group: the project is then in the administrator's namespace"
        )
    if not places.has(f"{place}.runners") or not places.know_names:
        return
    names = list(dict.fromkeys(runner.name for _, runner in places.runners))
    for number, name in enumerate(project.runners):
        if name not in names:
            others = f", or use one of {', '.join(names)}" if names else ""
            none = f", or set {place}.runners to [] if it has no jobs" if not project.has_pipeline else ""
            yield (
                f"{place}.runners[{number}]: {shown(name)} is not one of the runners; the project's jobs would wait "
                f"forever. Add it to runners{others}{none}"
            )
    own = {where: runner for where, runner in places.runners if runner.name in project.runners}
    if not own or not project.has_pipeline or not places.knows_pipeline(place):
        return
    guarded = AccessLevel.REF_PROTECTED in {one.access_level for one in own.values()}
    known = places.has(*(f"{where}.{key}" for where in own for key in ("untagged", "accessLevel")))
    if known and not guarded and not any(one.untagged for one in own.values()):
        yield (
            f"{place}.runners: none of them takes jobs without tags; the jobs of the project's pipeline have none and "
            "would wait forever. Set untagged to true for one of them"
        )
    yield from _protection_conflicts(place, own, places)
    if not places.has(*(f"{where}.builder" for where in own)):
        return
    clusters = [runner for where, runner in own.items() if runner.is_cluster and places.has(f"{where}.kind")]
    if clusters and places.has(f"{place}.deploy") and any(one.droplet for one in project.deploy):
        yield (
            f"{place}.deploy: has a droplet, which jobs reach over the private network, and those of "
            f"{_names(clusters)} are kept from it; every deployment would fail. Use a runner on machines, or a host of "
            "your own without droplet"
        )
    builders = {runner.builder for runner in own.values()}
    if len(builders) > 1:
        yield (
            f"{place}.runners: they build with {' and '.join(sorted(builders))}; the project has one pipeline, whose "
            "jobs would fail on some of them. Give them the same builder, or name fewer runners"
        )
    if project.provenance and builders == {Builder.BUILDAH}:
        yield (
            f"{place}.provenance: Buildah writes no provenance; images would carry none. "
            "Remove provenance, or use a runner whose builder is docker"
        )


def _protection_conflicts(place: str, own: dict[str, RunnerSettings], places: _Places) -> Iterator[str]:
    """Runners for protected branches alone: the jobs of other branches need one too, and must not get at theirs."""
    if not places.has(*(f"{where}.{key}" for where in own for key in ("accessLevel", "tags", "untagged"))):
        return
    guarded = [one for one in own.values() if one.access_level is AccessLevel.REF_PROTECTED]
    others = [one for one in own.values() if one not in guarded]
    if not guarded:
        return
    if not any(one.untagged for one in others):
        yield (
            f"{place}.runners: only {_names(guarded)} would take the pipeline's jobs, and those of protected branches "
            "alone; the jobs of other branches would wait forever. Add a runner whose accessLevel is not_protected and "
            "that takes untagged jobs, or set pipeline to false"
        )
    elif tag_of_protected_jobs(list(own.values())) is None:
        yield (
            f"{place}.runners: {_names(guarded)} has no tag of its own; the pipeline could not keep jobs of protected "
            f"branches from {_names(others)}, where jobs of other branches run too. Give all runners whose accessLevel "
            "is ref_protected a tag that no other runner of the project has"
        )


def _names(runners: list[RunnerSettings]) -> str:
    return " and ".join(one.name for one in runners)


def _branch_conflicts(place: str, project: ProjectSettings, places: _Places) -> Iterator[str]:
    """A default branch that cannot be turned into the tag of an image, or has to be named for one to be kept."""
    if not places.has(f"{place}.defaultBranch"):
        return
    keeps = project.sets_cleanup_policy and project.cleanup is not False
    if project.imported and keeps and not project.default_branch and places.has(f"{place}.cleanup"):
        yield (
            f"{place}: has a cleanup policy, but no defaultBranch; the image of the default branch could be removed. "
            "Set defaultBranch as well, to the one that the project has"
        )
    if not project.has_pipeline or project.default_branch is None or not places.knows_pipeline(place):
        return
    slug, branch = ref_slug(project.default_branch), shown(project.default_branch)
    if slug == "latest":
        yield (
            f"{place}.defaultBranch: {branch} would be the tag latest of its images, which is the "
            "released image's; every pipeline would fail. Choose another branch"
        )
    elif not slug:
        yield (
            f"{place}.defaultBranch: {branch} has no letter a to z and no digit for the tag of its "
            "images; every pipeline would fail. Choose another branch"
        )


def _stage_conflicts(place: str, project: ProjectSettings, places: _Places) -> Iterator[str]:
    """Stages of the settings that have the name of one that `supplyChain` adds."""
    if not places.has("supplyChain", *(f"{place}.{key}" for key in ("supplyChain", "extraStages", "images"))):
        return
    jobs = places.settings.supply_chain.of(project.supply_chain).jobs
    names = {f"{job}:{image.name}" for image in project.images for job in jobs}
    names |= {*jobs, *(["scan"] if "sbom" in jobs else [])}
    for number, stage in enumerate(project.extra_stages):
        if stage.name in names:
            yield (
                f"{place}.extraStages[{number}].name: {stage.name} is the name of a stage or job of supplyChain; one "
                "of them would be lost. Rename the stage"
            )


def _idle_scan(places: _Places) -> Iterator[str]:
    """Conditions of scans in a stack that has none."""
    chain, default = places.settings.supply_chain, SupplyChain()
    own = [f"{place}.supplyChain" for place, _ in places.projects]
    scans = any(chain.of(project.supply_chain).scan != "off" for _, project in places.projects) or chain.scan != "off"
    asked = (chain.severity, chain.ignore_unfixed) != (default.severity, default.ignore_unfixed)
    if asked and not scans and places.has_list("projects") and places.has("supplyChain", *own):
        yield (
            "supplyChain: has severity or ignoreUnfixed, but scan is off; they would be ignored. Remove them, or set "
            "scan to warn or block"
        )


def _idle_runners(places: _Places) -> Iterator[str]:
    """Runners for tagged jobs alone, in projects whose jobs have no tags and which other runners serve."""
    if not (places.know_users and places.know_names):
        return
    untagged = {runner.name for _, runner in places.runners if runner.untagged}
    for place, runner in places.runners:
        users = [(where, project) for where, project in places.projects if runner.name in project.runners]
        served = all(project.has_pipeline and untagged & set(project.runners) for _, project in users)
        known = places.knows_pipeline(*(where for where, _ in users)) and places.has(f"{place}.untagged")
        guarded = runner.access_level is AccessLevel.REF_PROTECTED or not places.has(f"{place}.accessLevel")
        if users and served and known and not guarded and not runner.untagged:
            yield (
                f"{place}.untagged: no job of its projects has tags; it would sit idle. Set untagged to true, or "
                "remove the runner"
            )


def _duplicate(what: str) -> str:
    return f"{what}; one would replace the other. Rename one of them"
