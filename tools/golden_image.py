"""Make a snapshot with the packages of a stack's machines installed, which new machines start from.

The snapshot is made by a Pulumi stack of its own, in the same backend as the stack that it is made for. It exists only
meanwhile: what an interrupted run has left is in its state, and the next run deletes it first.
"""

from __future__ import annotations

import datetime
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pulumi
import pulumi_command as command
import pulumi_digitalocean as digitalocean
import pulumi_random as random
import pulumi_tls as tls
from pulumi import automation

from components.api import every
from components.cost import price_of
from components.golden_image import GoldenImage, GoldenImageArgs
from components.settings import RunnerSettings, Settings
from tools.progress import ToolError, say
from tools.stack_files import read_settings

SERVER: Final = "server"
_PROJECT: Final = "golden-image"
#: The packages of GitLab take 3 GB; a snapshot fits on no smaller disk than the one that it was made on.
_LEAST_DISK_GB: Final = 25
_LEAST_MEMORY_MB: Final = 1024


@dataclass(frozen=True)
class Kind:
    """What an image is for: `key` is the path of the setting that names it."""

    noun: str
    key: str
    version: str
    image: str
    script: str
    libraries: tuple[str, ...]
    values: dict[str, str]

    @classmethod
    def of(cls, settings: Settings, which: str) -> Kind:
        """What a stack installs on its server, or on the machines of the runner of that name.

        Raises:
            ToolError: the stack has no such runner.
        """
        if which == SERVER:
            gitlab = settings.gitlab
            values = {
                "GITLAB_VERSION": gitlab.version,
                "KEY_FINGERPRINT": gitlab.packages.key_fingerprint,
                "KEY_URL": gitlab.packages.key_url,
                "PACKAGES_URL": gitlab.packages.url,
            }
            return cls(SERVER, "server", gitlab.version, settings.server.image, "image-server.sh", (), values)
        for place, runner in enumerate(settings.runners):
            if runner.name == which:
                return cls._of_runner(f"runners[{place}]", runner)
        names = ", ".join([SERVER, *(runner.name for runner in settings.runners)])
        raise ToolError(f"the stack has no {which}; no image was made. Use one of {names}: make image FOR=NAME")

    @classmethod
    def _of_runner(cls, key: str, runner: RunnerSettings) -> Kind:
        values = {
            "KEY_FINGERPRINT": runner.key_fingerprint,
            "RUNNER_KEY_URL": runner.key_url,
            "RUNNER_PACKAGES_URL": runner.packages_url,
            "RUNNER_VERSION": runner.version,
        }
        return cls("runner", key, runner.version, runner.image, "image-runner.sh", ("docker.sh",), values)


def make_image(stack: str, which: str, file: Path | None = None) -> str:
    """Make an image for the server of a stack, or for the machines of one of its runners; returns its name.

    Raises:
        ToolError: the stack file has errors, the stack has no such machine, or the image could not be made.
    """
    settings = read_settings(stack, file)
    kind = Kind.of(settings, which)
    args = inputs(stack, kind, settings, _smallest_size(settings.region))
    _run(f"{stack}-{kind.noun}", args)
    _report(stack, kind, args.name)
    return args.name


def inputs(stack: str, kind: Kind, settings: Settings, size: str) -> GoldenImageArgs:
    """The inputs of the image that a stack needs now. `size` is that of the droplet that it is made on."""
    now = datetime.datetime.now(tz=datetime.UTC)
    return GoldenImageArgs(
        name=f"golden-{kind.noun}-{kind.version}-{kind.image}-{now:%Y%m%d-%H%M}",
        prefix=f"golden-{kind.noun}-{stack}",
        region=settings.region,
        size=size,
        image=kind.image,
        script=kind.script,
        libraries=kind.libraries,
        values=kind.values,
        admin_cidrs=settings.admin_cidrs,
    )


def _smallest_size(region: str) -> str:
    try:
        sizes = [one for one in every("/v2/sizes", "sizes") if one["available"] and region in one["regions"]]
    except RuntimeError as error:
        raise ToolError(f"{error}; no image was made") from error
    fitting = [one for one in sizes if one["disk"] >= _LEAST_DISK_GB and one["memory"] >= _LEAST_MEMORY_MB]
    if not fitting:
        raise ToolError(f"{region} offers no droplets with a disk of {_LEAST_DISK_GB} GB; no image was made")
    return str(min(fitting, key=lambda one: (one["disk"], one["price_monthly"]))["slug"])


def _run(name: str, args: GoldenImageArgs) -> None:
    """Have a stack make the image, and delete everything else."""
    settings = automation.ProjectSettings(name=_PROJECT, runtime="python")
    try:
        with tempfile.TemporaryDirectory(prefix=f"{_PROJECT}-") as folder:
            options = automation.LocalWorkspaceOptions(work_dir=folder, project_settings=settings)
            stack = automation.create_or_select_stack(name, _PROJECT, program=lambda: declare(args), opts=options)
            _make(stack, args)
            stack.workspace.remove_stack(name)
    except automation.CommandError as error:
        causes = [line[line.index("error:") :].strip() for line in str(error).splitlines() if "error:" in line]
        raise ToolError(
            f"the image was not made, or what it was made on is still there ({causes[-1] if causes else 'see above'}). "
            f"Run this again: it deletes what is left of {args.prefix} first"
        ) from error


def _make(stack: automation.Stack, args: GoldenImageArgs) -> None:
    if (stack.export_stack().deployment or {}).get("resources"):
        say("image: deleting what an interrupted run has left")
        stack.destroy(on_output=say)
    say(f"image: making {args.name}")
    try:
        stack.up(on_output=say)
    finally:
        # Nothing of it is needed any more, and the droplet costs money.
        stack.destroy(on_output=say)


def declare(args: GoldenImageArgs) -> None:
    """The program of the stack that makes the image."""
    providers: list[pulumi.ProviderResource] = [
        digitalocean.Provider("digitalocean"),
        command.Provider("command"),
        random.Provider("random"),
        tls.Provider("tls"),
    ]
    GoldenImage("image", args, pulumi.ResourceOptions(providers=providers))


def _report(stack: str, kind: Kind, name: str) -> None:
    found = list(_images(kind.noun))
    made = next((one for one in found if one["name"] == name), None)
    if made is None:
        raise ToolError(f"the account does not list {name}; look for it with: doctl compute snapshot list")
    size = float(made["size_gigabytes"])
    price = price_of("Snapshot", {"size": size})
    say(f"image: {name} has {size:.1f} GB, for {price:.2f} dollars a month. New machines use it with:")
    say(f"  pulumi config set --stack {stack} --path 'slipway:{kind.key}.snapshot' {name}")
    for one in found:
        if one is not made:
            say(
                f"image: {one['name']} is older; once no stack file names it: doctl compute snapshot delete {one['id']}"
            )


def _images(noun: str) -> Iterator[dict[str, Any]]:
    try:
        for one in every("/v2/snapshots?resource_type=droplet", "snapshots"):
            if one["name"].startswith(f"golden-{noun}-"):
                yield one
    except RuntimeError as error:
        raise ToolError(str(error)) from error
