"""`gitlab-runner register`."""

from __future__ import annotations

import datetime as dt
import socket
import sys
from pathlib import Path
from typing import Any

from . import log
from .configuration import CREATED_TOKEN_PREFIX, NEVER, Configuration, Table
from .coordinator import Coordinator
from .options import SERVER_SIDE, Options

#: Executors of the real program; the one that this one has is `docker`.
EXECUTORS = (
    "custom",
    "docker",
    "docker+machine",
    "docker-autoscaler",
    "docker-windows",
    "instance",
    "kubernetes",
    "parallels",
    "shell",
    "ssh",
    "virtualbox",
)
ACCESS_LEVELS = ("", "not_protected", "ref_protected")
RESERVED = (
    "Runner configuration other than name and executor configuration is reserved (specifically --locked, "
    "--access-level, --run-untagged, --maximum-timeout, --paused, --tag-list, and --maintenance-note) and cannot be "
    "specified when registering with a runner authentication token. This configuration is specified on the GitLab "
    "server. Please try again without specifying any of those arguments. For more information, see "
    "https://docs.gitlab.com/ci/runners/new_creation_workflow/#changes-to-the-gitlab-runner-register-command-syntax"
)
IGNORED = (
    "You have specified an authentication token in the legacy parameter --registration-token. This has triggered the "
    "'legacy-compatible registration process' which has resulted in the following command line parameters being "
    "ignored: --locked, --access-level, --run-untagged, --maximum-timeout, --paused, --tag-list, and "
    "--maintenance-note. For more information, see "
    "https://docs.gitlab.com/ci/runners/new_creation_workflow/#changes-to-the-gitlab-runner-register-command-syntax"
)


def register(configuration: Configuration, said: Options) -> None:
    """Add a runner to the configuration, once the server has said that its token is good."""
    if said.text("access-level") not in ACCESS_LEVELS:
        raise log.panic("Given access-level is not valid. Refer to gitlab-runner register -h for the correct options.")
    settings = said.runner_settings()
    if template := said.text("template-config"):
        settings = _merged(settings, _template(Path(template)))
    dialogue = Dialogue(interactive=not said.switch("non-interactive"))
    url = dialogue.ask("url", "Enter the GitLab instance URL (for example, https://gitlab.com/):", settings.get("url"))
    runner: Table = {
        "name": "",
        "url": url,
        "id": 0,
        "token": "",
        "token_obtained_at": NEVER,
        "token_expires_at": NEVER,
    }
    runner |= {"executor": "", **{name: value for name, value in settings.items() if name not in runner}}
    runner["token"] = str(settings.get("token", ""))
    coordinator = _credentials(configuration, said, dialogue, runner, settings)
    try:
        _executor(dialogue, runner)
    except SystemExit:
        if not said.switch("leave-runner"):
            coordinator.unregister()
        raise
    runner.setdefault("cache", {"MaxUploadedArchiveSize": 0, "s3": {}, "gcs": {}, "azure": {}})
    runner["docker"] = runner.pop("docker")  # last, as the real program writes it
    configuration.runners = [*configuration.runners, runner]
    configuration.save()
    _warn(configuration, runner)
    log.info(
        "Runner registered successfully. Feel free to start it, but if it's running already the config should be "
        "automatically reloaded!"
    )
    print(file=sys.stderr)
    log.info(f'Configuration (with the authentication token) was saved in "{configuration.path}"')


class Dialogue:
    """Answers from flags, or from the user at the terminal."""

    def __init__(self, *, interactive: bool) -> None:
        self._interactive = interactive

    def ask(self, name: str, prompt: str, known: object = "", *, optional: bool = False) -> str:
        """The answer; `known` when nothing is said. Ends the command when there is none and must be one."""
        answer = str(known or "").strip()
        while self._interactive:
            print(prompt, f"[{answer}]: " if answer else "", sep="\n" if answer else "", file=sys.stderr)
            line = sys.stdin.readline()
            if not line:
                raise log.panic("Unexpected EOF. Did you mean to use --non-interactive?")
            answer = line.strip() or answer
            if answer or optional:
                return answer
        if not answer and not optional:
            raise log.panic(f"The {name} needs to be entered")
        return answer


def _credentials(
    configuration: Configuration, said: Options, dialogue: Dialogue, runner: Table, settings: Table
) -> Coordinator:
    """Fill in token, ID and name."""
    legacy = said.text("registration-token")
    if not str(runner["token"]).startswith(CREATED_TOKEN_PREFIX):
        runner["token"] = dialogue.ask("registration-token", "Enter the registration token:", legacy or runner["token"])
    name = str(settings.get("name", "") or socket.gethostname())
    if not str(runner["token"]).startswith(CREATED_TOKEN_PREFIX):
        runner["name"] = dialogue.ask("name", "Enter a description for the runner:", name)
        return _with_registration_token(configuration, said, runner)
    if any(known.get("token") == runner["token"] for known in configuration.runners):
        log.warning("A runner with this system ID and token has already been registered.")
    if _says_what_the_server_decides(said):
        if legacy != runner["token"]:
            raise log.fatal(RESERVED)
        log.warning(IGNORED)
    coordinator = _coordinator(configuration, runner)
    known = coordinator.verify()
    if not known or not known.get("id"):
        raise log.panic("Failed to verify the runner.")
    runner["id"] = known["id"]
    _dates(runner, known)
    prompt = "Enter a name for the runner. This is stored only in the local config.toml file:"
    runner["name"] = dialogue.ask("name", prompt, name)
    return coordinator


def _says_what_the_server_decides(said: Options) -> bool:
    # --locked=true is its default and says nothing.
    values = {flag.name: said.values.get(flag.name) for flag in SERVER_SIDE}
    return values.pop("locked") is False or any(values.values())


def _with_registration_token(configuration: Configuration, said: Options, runner: Table) -> Coordinator:
    log.warning(
        "Support for registration tokens and runner parameters in the 'register' command has been deprecated in "
        "GitLab Runner 15.6 and will be replaced with support for authentication tokens. For more information, see "
        "https://docs.gitlab.com/ci/runners/new_creation_workflow/"
    )
    tags = said.text("tag-list")
    parameters: dict[str, Any] = {
        "description": runner["name"],
        "maintenance_note": said.text("maintenance-note"),
        "tag_list": tags,
        "run_untagged": said.switch("run-untagged") or not tags,
        "locked": said.values.get("locked", True),
        "access_level": said.text("access-level"),
        "maximum_timeout": said.values.get("maximum-timeout", 0),
        "paused": said.switch("paused"),
    }
    result = _coordinator(configuration, runner).register(
        # Texts and numbers that were not given are left out.
        {name: value for name, value in parameters.items() if isinstance(value, bool) or value}
    )
    if result is None:
        raise log.panic("Failed to register the runner.")
    runner["id"], runner["token"] = result["id"], result["token"]
    _dates(runner, result)
    return _coordinator(configuration, runner)


def _coordinator(configuration: Configuration, runner: Table) -> Coordinator:
    return Coordinator(runner, configuration.system_id(), configuration.path.parent / "certs")


def _dates(runner: Table, known: dict[str, Any]) -> None:
    runner["token_obtained_at"] = dt.datetime.now(dt.UTC).replace(microsecond=0)
    if expires := known.get("token_expires_at"):
        runner["token_expires_at"] = dt.datetime.fromisoformat(str(expires))


def _executor(dialogue: Dialogue, runner: Table) -> None:
    prompt = f"Enter an executor: {', '.join(EXECUTORS)}:"
    runner["executor"] = dialogue.ask("executor", prompt, runner.get("executor"))
    if runner["executor"] not in EXECUTORS:
        raise log.panic("Invalid executor specified")
    if runner["executor"] != "docker":
        raise log.fatal(f"the executor {runner['executor']} is not in this stand-in, which only has docker")
    given: Table = runner.get("docker", {})
    image = dialogue.ask("docker-image", "Enter the default Docker image (for example, ruby:3.3):", given.get("image"))
    docker: Table = {
        "tls_verify": False,
        "image": image,
        "privileged": False,
        "disable_entrypoint_overwrite": False,
        "oom_kill_disable": False,
        "disable_cache": False,
        **{name: value for name, value in given.items() if name != "image"},
    }
    volumes = list(docker.get("volumes", []))
    if not docker["disable_cache"] and not any(volume.split(":")[-1] == "/cache" for volume in volumes):
        volumes.append("/cache")
    docker["volumes"] = volumes
    docker.setdefault("shm_size", 0)
    docker.setdefault("network_mtu", 0)
    runner["docker"] = docker


def _template(path: Path) -> Table:
    log.info(f'Merging configuration from template file "{path}"')
    template = Configuration(path).load()
    if not template.loaded:
        raise log.fatal(
            f"Could not handle configuration merging from template file: couldn't load configuration template file: "
            f"open {path}: no such file or directory"
        )
    if len(template.runners) != 1:
        raise log.fatal(
            "Could not handle configuration merging from template file: configuration template must contain exactly "
            "one [[runners]] entry"
        )
    return {name: value for name, value in template.runners[0].items() if name != "token"}


def _merged(said: Table, template: Table) -> Table:
    """What was said wins; what was not said, or said to be empty, comes from the template."""
    merged = dict(said)
    for name, value in template.items():
        if isinstance(value, dict) and isinstance(merged.get(name), dict):
            merged[name] = _merged(merged[name], value)
        elif not merged.get(name):
            merged[name] = value
    return merged


def _warn(configuration: Configuration, runner: Table) -> None:
    concurrent = configuration.concurrent
    for name, what in (("limit", "job concurrency limit"), ("request_concurrency", "request concurrency")):
        if int(runner.get(name, 0)) > concurrent:
            log.warning(
                f"The specified runner {what} ({runner[name]}) is larger than current global concurrency limit "
                f"({concurrent}). The global concurrent limit will not be increased and takes precedence."
            )
