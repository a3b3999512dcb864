"""Set up the pipeline of `.gitlab-ci.yml` for one stack: variables, token for notes, schedule, project settings.

It is set up from outside, in whatever GitLab has the repository, and not by the stack itself: the passphrase of a state
cannot be kept in that state. Running it again changes everything to what the environment has now.

There are two sets of variables for each stack. Those of the environment that is called like the stack are protected:
only jobs of protected branches get them. Those of `preview/STACK` are for merge requests, so whoever may push a branch
can read them; they are taken from variables that begin with `PREVIEW_`, and are meant to be able to read only.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import gitlab
import yaml
from gitlab.v4.objects import Project

from tools import ci_note
from tools.clients import CheckError, Outputs, gitlab_client
from tools.progress import ToolError
from tools.stack import stack_file
from tools.stack_files import read_config

#: The tag of the jobs, as in `.gitlab-ci.yml`.
TAG: Final = "slipway"
SCHEDULE: Final = "Nightly check of the environments"
PREVIEW: Final = "PREVIEW_"
_PASSPHRASE: Final = "PULUMI_CONFIG_PASSPHRASE"  # noqa: S105 - the name of a variable
#: What previews get as it is: without it nothing in the stack's file or state can be read.
_SHARED: Final = ("PULUMI_BACKEND_URL", f"{_PASSPHRASE}_FILE")
_SECRETS: Final = tuple(name for name in ci_note.SECRETS if name != _PASSPHRASE)
#: Ci::Maskable, for values in which nothing is expanded.
_MASKABLE: Final = re.compile(r"\S{8,}")
_REPORTER, _NO_ACCESS = 20, 0
#: GitLab's longest is 365 days.
_DAYS: Final = 364
SETTINGS: Final = {
    # A fork's own `.gitlab-ci.yml` would run here, with the variables of previews.
    "ci_allow_fork_pipelines_to_run_in_parent_project": False,
    # Plans are artifacts.
    "keep_latest_artifact": False,
    "public_jobs": False,
    "ci_forward_deployment_enabled": True,
}


@dataclass(frozen=True)
class Variable:
    """One CI/CD variable, for the jobs of one environment."""

    key: str
    value: str = field(repr=False)
    scope: str
    protected: bool = False
    secret: bool = True
    file: bool = False

    @property
    def is_masked(self) -> bool:
        """Whether GitLab hides it in logs and, from then on, from everybody who looks at the settings."""
        return self.secret and bool(_MASKABLE.fullmatch(self.value))

    @property
    def flags(self) -> dict[str, Any]:
        """Its properties, as GitLab's API has them."""
        kind = "file" if self.file else "env_var"
        return {"protected": self.protected, "masked": self.is_masked, "raw": True, "variable_type": kind}


def pipeline(stack: str, url: str, *, cron: str, environment: Mapping[str, str] = os.environ) -> None:
    """Set the pipeline of the project at `url` up for a stack, and print what was set.

    Raises:
        ToolError: something is missing; nothing was changed. Or GitLab refuses a change.
    """
    wanted, mistakes = list(variables(stack, environment)), list(_mistakes(stack, environment))
    try:
        project = project_at(url, stack, environment)
        mistakes += _unready(project, stack)
        if mistakes:
            lines = "\n".join(f"  - {line}" for line in mistakes)
            raise ToolError(f"the pipeline cannot be set up yet; nothing was changed.\n{lines}")
        # The variables come before the list of stacks: no job starts without them.
        wanted.append(_token_for_notes(project))
        known = project.variables.list(get_all=True)
        listed = next((str(one.value) for one in known if one.key == "STACKS"), "")
        names = sorted({name for name in listed.split(",") if name} | {stack})
        for one in (*wanted, Variable("STACKS", f",{','.join(names)},", "*", secret=False)):
            _set(project, known, one)
            print(_line(one))
        for name, value in SETTINGS.items():
            setattr(project, name, value)
        project.save()
        _schedule(project, cron)
    except gitlab.GitlabError as error:
        raise ToolError(f"GitLab refuses it: {error}. Run the command again once that is put right") from error
    print(f"nightly check of {', '.join(names)}: {cron} (UTC)")
    print(f"the jobs `apply …` that wait can be started by: {'; '.join(_approvers(project))}")


def variables(stack: str, environment: Mapping[str, str]) -> Iterator[Variable]:
    """The variables of a stack: those that update it, and those that show previews of it."""
    found = {name: environment[name] for name in ("PULUMI_BACKEND_URL", *_SECRETS) if environment.get(name)}
    if passphrase := _passphrase(environment):
        found[f"{_PASSPHRASE}_FILE"] = passphrase
    for key, value in found.items():
        kind = {"secret": key != "PULUMI_BACKEND_URL", "file": key.endswith("_FILE")}
        yield Variable(key, value, stack, protected=True, **kind)
        value_for_previews = value if key in _SHARED else environment.get(f"{PREVIEW}{key}")
        if value_for_previews:
            yield Variable(key, value_for_previews, f"preview/{stack}", **kind)


def project_at(url: str, stack: str, environment: Mapping[str, str]) -> Project:
    """The project at an address, with the token in GITLAB_TOKEN or, in the stack's own GitLab, with the stack's.

    Raises:
        ToolError: the address is none of a project, or there is no token for it.
    """
    parts = urlsplit(url)
    path = parts.path.strip("/").removesuffix(".git")
    if parts.scheme != "https" or "/" not in path:
        raise ToolError(
            f"{url!r} is not the address of a project. Use one such as https://gitlab.example.com/ops/slipway"
        )
    server, token = f"https://{parts.netloc}", environment.get("GITLAB_TOKEN")
    if not token:
        try:
            outputs = Outputs.of_stack(stack)
        except CheckError:
            outputs = None
        if outputs is None or outputs.url != server:
            raise ToolError(f"GITLAB_TOKEN is not set: export a token of a maintainer of {path} with the scope api")
        return outputs.gitlab().projects.get(path)
    return gitlab_client(server, token).projects.get(path)


def _passphrase(environment: Mapping[str, str]) -> str:
    if file := environment.get(f"{_PASSPHRASE}_FILE"):
        try:
            # As Pulumi reads it.
            return Path(file).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise ToolError(f"{_PASSPHRASE}_FILE: {error}") from error
    return environment.get(_PASSPHRASE, "")


def _mistakes(stack: str, environment: Mapping[str, str]) -> Iterator[str]:
    """What is missing in the environment and in the stack file."""
    given = {name: environment.get(name, "") for name in (*_SECRETS, "PULUMI_BACKEND_URL")}
    if not given["DIGITALOCEAN_TOKEN"]:
        yield "DIGITALOCEAN_TOKEN is not set; no job could reach the account. Export the token that updates the stack"
    backend = given["PULUMI_BACKEND_URL"]
    if not backend and not given["PULUMI_ACCESS_TOKEN"]:
        yield (
            "neither PULUMI_BACKEND_URL nor PULUMI_ACCESS_TOKEN is set; no job would find the state. Export the "
            "one of your back end"
        )
    if backend.startswith("file:"):
        yield f"PULUMI_BACKEND_URL is {backend}, a folder of this machine that no job sees. Move the state to a bucket"
    for name in _SECRETS:
        value, other = given[name], environment.get(f"{PREVIEW}{name}", "")
        if value and not other:
            yield f"{PREVIEW}{name} is not set; previews of merge requests need one of their own, that can read only"
        elif value and value == other:
            yield f"{PREVIEW}{name} is {name} again; every branch could change everything. Use one that can read only"
    try:
        content = yaml.safe_load(stack_file(stack).read_text(encoding="utf-8")) or {}
    except (OSError, yaml.YAMLError) as error:
        yield f"stacks/Pulumi.{stack}.yaml cannot be read ({error}); no job could either"
        return
    if "encryptionsalt" in content and not _passphrase(environment):
        yield f"{_PASSPHRASE}_FILE is not set; no job could decrypt the stack. Export it"


def _unready(project: Project, stack: str) -> Iterator[str]:
    """What is missing in GitLab, or keeps its jobs from the stack's server."""
    branch = project.default_branch
    try:
        project.protectedbranches.get(branch)
    except gitlab.GitlabGetError:
        yield (
            f"the branch {branch} is not protected; anyone who may push could update every environment. Protect it "
            "under Settings > Repository"
        )
    runners = project.runners.list(tag_list=TAG, get_all=True)
    for runner in runners:
        yield from _out_of_reach(project, str(runner.id), stack)
    if not runners:
        yield (
            f"no runner of {project.path_with_namespace} has the tag {TAG}; every job would wait for one. Add it under "
            "runners in a stack file, or in GitLab"
        )


def _out_of_reach(project: Project, runner: str, stack: str) -> Iterator[str]:
    networks = [ip_network(one, strict=False) for one in read_config(stack_file(stack)).get("slipway:adminCidrs") or []]
    for machine in project.manager.gitlab.http_list(f"/runners/{runner}/managers", get_all=True):
        address = str(machine["ip_address"] or "")
        if address and not any(ip_address(address) in one for one in networks):
            yield (
                f"a machine of runner #{runner} has the address {address}, which is in no adminCidrs of {stack}; its "
                f"jobs could not use SSH. Add {address}/{ip_address(address).max_prefixlen} there, and run make up"
            )


def _token_for_notes(project: Project) -> Variable:
    """A token that may write notes: the earlier one with another value, so that its notes stay its own."""
    until = (datetime.now(UTC) + timedelta(days=_DAYS)).date().isoformat()
    known = [one for one in project.access_tokens.list(get_all=True) if one.name == "slipway" and one.active]
    if known:
        value = str(project.access_tokens.rotate(known[0].id, expires_at=until)["token"])
    else:
        fields = {"name": "slipway", "scopes": ["api"], "access_level": _REPORTER, "expires_at": until}
        value = str(project.access_tokens.create(fields).token)
    return Variable(ci_note.TOKEN, value, "preview/*")


def _set(project: Project, known: list[Any], wanted: Variable) -> None:
    """Create or change one variable. A hidden one cannot become visible again, nor one that is not hidden be hidden."""
    found = [one for one in known if (one.key, one.environment_scope) == (wanted.key, wanted.scope)]
    which = {"filter": {"environment_scope": wanted.scope}}
    hides = {"masked_and_hidden": True} if wanted.is_masked else {}
    if found and bool(found[0].attributes.get("hidden")) == wanted.is_masked:
        project.variables.update(wanted.key, {"value": wanted.value, **wanted.flags}, **which)
        return
    if found:
        project.variables.delete(wanted.key, **which)
    fields = {"key": wanted.key, "value": wanted.value, "environment_scope": wanted.scope}
    project.variables.create({**fields, **wanted.flags, **hides})


def _line(variable: Variable) -> str:
    kinds = [
        "a file" if variable.file else "",
        "protected" if variable.protected else "",
        "hidden" if variable.is_masked else "",
    ]
    if variable.secret and not variable.is_masked:
        kinds.append("not masked: GitLab masks no value with spaces, line breaks or fewer than 8 characters")
    described = ", ".join(kind for kind in kinds if kind)
    return f"{variable.key} for {variable.scope}{f' ({described})' if described else ''}"


def _schedule(project: Project, cron: str) -> None:
    fields = {
        "description": SCHEDULE,
        "ref": f"refs/heads/{project.default_branch}",
        "cron": cron,
        "cron_timezone": "UTC",
    }
    for one in project.pipelineschedules.list(get_all=True):
        if one.description == SCHEDULE:
            # Only its owner may change it, and its pipelines have the owner's rights.
            one.take_ownership()
            project.pipelineschedules.update(one.id, {**fields, "active": True})
            return
    project.pipelineschedules.create({**fields, "active": True})


def _approvers(project: Project) -> list[str]:
    branch = project.protectedbranches.get(project.default_branch)
    levels = [*branch.push_access_levels, *branch.merge_access_levels]
    # Somebody with neither cannot update the branch, so not start a manual job of its pipelines either.
    names = {str(one["access_level_description"]) for one in levels if one.get("access_level") != _NO_ACCESS}
    return sorted(names) or ["nobody: nobody may push to the default branch or merge into it"]
