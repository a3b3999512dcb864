"""A privileged job owns its machine, with everything that jobs of other projects do there."""

from __future__ import annotations

from typing import Any

from pulumi_policy import ReportViolation, StackValidationArgs, StackValidationPolicy

from policies.reading import section

#: The builder and the runner that the program takes if none is named.
DEFAULTS = _BUILDER, _RUNNER = "docker", "docker-builder"


def check(args: StackValidationArgs, report: ReportViolation) -> None:
    """Look for runners with privileged jobs that several projects name."""
    del args
    users: dict[str, list[str]] = {}
    for project in section("projects") or ():
        for name in project.get("runners", [_RUNNER]):
            users.setdefault(str(name), []).append(str(project.get("path")))
    for place, runner in enumerate(section("runners") or ()):
        projects = users.get(_named(runner), [])
        # With `accessLevel: ref_protected`, it takes no job of a developer.
        open_to_all = runner.get("accessLevel") != "ref_protected"
        if runner.get("builder", _BUILDER) == _BUILDER and open_to_all and len(projects) > 1:
            report(
                f"runners[{place}]: {_named(runner)} runs privileged jobs of {', '.join(projects)}: whoever can push a "
                "branch to one of them can read the secrets of the others, and change what they build. Give each "
                "project a runner of its own, or set builder to buildah",
                None,
            )


def _named(runner: dict[str, Any]) -> str:
    return str(runner.get("name", _RUNNER))


POLICY = StackValidationPolicy(
    name="privileged-runners-of-one-project",
    description="A runner with privileged jobs serves one project.",
    validate=check,
)
