"""The command line of `gitlab-runner`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from . import log, options, service, version
from .configuration import DEFAULT_FILE, Configuration, ConfigurationError, Table, short_token
from .coordinator import Coordinator
from .options import Options
from .register import register

USAGE = """NAME:
   gitlab-runner - a GitLab Runner

USAGE:
   gitlab-runner [global options] command [command options] [arguments...]

COMMANDS:
   list        List all configured runners
   run         run multi runner service
   register    register a new runner
   install     install service
   uninstall   uninstall service
   start       start service
   stop        stop service
   restart     restart service
   status      get status of a service
   unregister  unregister specific runner
   verify      verify all registered runners
   help, h     Shows a list of commands or help for one command
"""
VERSION = """Version:      {version}
Git revision: standin
Git branch:   {branch}-stable
GO version:   none
Built:        by the sandbox
OS/Arch:      linux/amd64
"""


def main() -> None:
    """Run one command and end with its exit code."""
    words = sys.argv[1:]
    while words and words[0] in ("--debug", "--log-level", "-l", "--log-format"):
        words = words[1:] if words[0] == "--debug" else words[2:]
    name = words[0] if words else "help"
    if name in ("--version", "-v"):
        branch = "-".join(version().split(".")[:2])
        sys.stdout.write(VERSION.format(version=version(), branch=branch))
        return
    if name in ("help", "h", "--help", "-h"):
        sys.stdout.write(USAGE)
        return
    command = COMMANDS.get(name)
    if command is None:
        raise log.fatal(f"Command {name} not found.")
    flags, action = command
    if any(word in ("--help", "-h") for word in words[1:]):
        print(f"NAME:\n   gitlab-runner {name}\n\nOPTIONS:")
        for flag in flags:
            print(f"   --{flag.name}" + (f"  [${flag.variable}]" if flag.variable else ""))
        return
    said = options.parse(name, words[1:], flags, options.environment())
    try:
        action(said)
    except ConfigurationError as error:
        raise log.fatal(str(error)) from None


def _configuration(said: Options) -> Configuration:
    return Configuration(Path(said.text("config", str(DEFAULT_FILE)))).load()


def _coordinator(configuration: Configuration, runner: Table) -> Coordinator:
    return Coordinator(runner, configuration.system_id(), configuration.path.parent / "certs")


def _register(said: Options) -> None:
    register(_configuration(said), said)


def _list(said: Options) -> None:
    configuration = _configuration(said)
    log.info("Listing configured runners", ConfigFile=configuration.path)
    for runner in configuration.runners:
        log.info(
            str(runner.get("name", "")),
            Executor=runner.get("executor"),
            Token=runner.get("token"),
            URL=runner.get("url"),
        )


def _verify(said: Options) -> None:
    configuration = _configuration(said)
    chosen = [runner for runner in configuration.runners if _is_meant(said, runner)]
    if said.given & {"name", "url", "token"} and not chosen:
        raise log.fatal("no runner matches the filtering parameters")
    dead = [runner for runner in chosen if _coordinator(configuration, runner).verify() is None]
    if not dead:
        return
    if not said.switch("delete"):
        raise log.fatal("Failed to verify runners")
    configuration.runners = [runner for runner in configuration.runners if runner not in dead]
    configuration.save()
    log.info(f"Updated {configuration.path}")


def _is_meant(said: Options, runner: Table) -> bool:
    if not said.given & {"name", "url", "token"}:
        return True
    by_name = bool(said.text("name")) and runner.get("name") == said.text("name")
    same = runner.get("url") == said.text("url") and runner.get("token") == said.text("token")
    return by_name or same


def _unregister(said: Options) -> None:
    configuration = _configuration(said)
    if said.switch("all-runners"):
        log.warning("Unregistering all runners")
        chosen = configuration.runners
    else:
        chosen = [_one(configuration, said)]
    gone = [runner for runner in chosen if _coordinator(configuration, runner).unregister()]
    if not said.switch("all-runners") and not gone:
        raise log.fatal(f'failed to unregister runner "{chosen[0].get("name")}"')
    for runner in chosen:
        if runner not in gone:
            log.error(f'failed to unregister runner "{runner.get("name")}"')
    if gone:
        configuration.runners = [runner for runner in configuration.runners if runner not in gone]
        configuration.save()
        log.info(f"Updated {configuration.path}")


def _one(configuration: Configuration, said: Options) -> Table:
    name, token = said.text("name"), said.text("token")
    if not name and not token:
        raise log.fatal("failed to unregister runner: at least one of --name or --token must be specified")
    found = [
        runner
        for runner in configuration.runners
        if (not name or runner.get("name") == name) and (not token or runner.get("token") == token)
    ]
    if not found:
        what = f"name '{name}'" if name else f"token '{short_token(token)}'"
        raise log.fatal(
            f"failed to unregister runner: get runner by token or name: could not find a runner with the {what}"
        )
    if len(found) > 1:
        raise log.fatal(f"failed to unregister runner: found multiple runners with the name {name!r}")
    return found[0]


def _run(said: Options) -> None:
    # Not at the top: the Docker library takes half a second to load, and only this command needs it.
    from .scheduler import run  # noqa: PLC0415

    run(Path(said.text("config", str(DEFAULT_FILE))))


COMMANDS: dict[str, tuple[tuple[options.Flag, ...], Callable[[Options], None]]] = {
    "register": (options.REGISTER, _register),
    "list": (options.LIST, _list),
    "verify": (options.VERIFY, _verify),
    "unregister": (options.UNREGISTER, _unregister),
    "run": (options.RUN, _run),
    "install": (options.INSTALL, service.install),
    "uninstall": (options.SERVICE, service.uninstall),
    "start": (options.SERVICE, service.start),
    "stop": (options.SERVICE, service.stop),
    "restart": (options.SERVICE, service.restart),
    "status": (options.SERVICE, service.status),
}
