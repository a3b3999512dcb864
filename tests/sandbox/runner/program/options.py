"""Command-line flags: for each its environment variable and its place in `config.toml`.

As in the real program, a switch may have a value (`--locked=false`) and a flag one dash (`-url`). A flag that is not in
these tables is refused by name.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from . import log

TRUE, FALSE = ("1", "t", "true"), ("0", "f", "false")


@dataclass(frozen=True)
class Flag:
    """One flag. `kind` is `text`, `number`, `switch` or `list`; `path` where a runner's table has it."""

    name: str
    variable: str = ""
    path: str = ""
    kind: str = "text"
    short: str = ""


def _docker(name: str, kind: str = "text", path: str = "") -> Flag:
    key = path or name.replace("-", "_")
    variable = "DOCKER_" + name.replace("-", "_").upper()
    return Flag(f"docker-{name}", variable, f"docker.{key}", kind)


CONFIG = Flag("config", "CONFIG_FILE", short="c")
CREDENTIALS = (
    Flag("url", "CI_SERVER_URL", "url", short="u"),
    Flag("token", "CI_SERVER_TOKEN", "token", short="t"),
    Flag("tls-ca-file", "CI_SERVER_TLS_CA_FILE", "tls-ca-file"),
    Flag("tls-cert-file", "CI_SERVER_TLS_CERT_FILE", "tls-cert-file"),
    Flag("tls-key-file", "CI_SERVER_TLS_KEY_FILE", "tls-key-file"),
)
#: What the server decides for a runner that was made there; refused beside such a runner's token.
SERVER_SIDE = (
    Flag("tag-list", "RUNNER_TAG_LIST"),
    Flag("run-untagged", "REGISTER_RUN_UNTAGGED", kind="switch"),
    Flag("locked", "REGISTER_LOCKED", kind="switch"),
    Flag("access-level", "REGISTER_ACCESS_LEVEL"),
    Flag("maximum-timeout", "REGISTER_MAXIMUM_TIMEOUT", kind="number"),
    Flag("paused", "REGISTER_PAUSED", kind="switch"),
    Flag("maintenance-note", "REGISTER_MAINTENANCE_NOTE"),
)
SETTINGS = (
    Flag("description", "RUNNER_NAME", "name"),
    Flag("name", "RUNNER_NAME", "name"),
    Flag("limit", "RUNNER_LIMIT", "limit", "number"),
    Flag("output-limit", "RUNNER_OUTPUT_LIMIT", "output_limit", "number"),
    Flag("request-concurrency", "RUNNER_REQUEST_CONCURRENCY", "request_concurrency", "number"),
    Flag("executor", "RUNNER_EXECUTOR", "executor"),
    Flag("builds-dir", "RUNNER_BUILDS_DIR", "builds_dir"),
    Flag("cache-dir", "RUNNER_CACHE_DIR", "cache_dir"),
    Flag("clone-url", "CLONE_URL", "clone_url"),
    Flag("env", "RUNNER_ENV", "environment", "list"),
    Flag("pre-build-script", "RUNNER_PRE_BUILD_SCRIPT", "pre_build_script"),
    Flag("post-build-script", "RUNNER_POST_BUILD_SCRIPT", "post_build_script"),
    Flag("shell", "RUNNER_SHELL", "shell"),
)
DOCKER = (
    _docker("image"),
    _docker("privileged", "switch"),
    Flag("docker-services_privileged", "DOCKER_SERVICES_PRIVILEGED", "docker.services_privileged", "switch"),
    _docker("volumes", "list"),
    _docker("pull-policy", "list"),
    _docker("allowed-pull-policies", "list"),
    _docker("allowed-images", "list"),
    _docker("allowed-services", "list"),
    _docker("allowed-privileged-images", "list"),
    _docker("allowed-privileged-services", "list"),
    _docker("network-mode"),
    _docker("extra-hosts", "list"),
    _docker("dns", "list"),
    _docker("dns-search", "list"),
    _docker("user"),
    _docker("cap-add", "list"),
    _docker("cap-drop", "list"),
    _docker("security-opt", "list"),
    _docker("services-security-opt", "list"),
    _docker("devices", "list"),
    _docker("memory"),
    _docker("cpus"),
    _docker("shm-size", "number"),
    _docker("hostname"),
    _docker("host"),
    _docker("helper-image"),
    _docker("disable-cache", "switch"),
    _docker("disable-entrypoint-overwrite", "switch"),
    _docker("oom-kill-disable", "switch"),
    _docker("wait-for-services-timeout", "number"),
    Flag("docker-tlsverify", "DOCKER_TLS_VERIFY", "docker.tls_verify", "switch"),
)
REGISTER = (
    CONFIG,
    *CREDENTIALS,
    *SERVER_SIDE,
    Flag("non-interactive", "REGISTER_NON_INTERACTIVE", kind="switch", short="n"),
    Flag("leave-runner", "REGISTER_LEAVE_RUNNER", kind="switch"),
    Flag("registration-token", "REGISTRATION_TOKEN", short="r"),
    Flag("template-config", "TEMPLATE_CONFIG_FILE"),
    *SETTINGS,
    *DOCKER,
)
UNREGISTER = (
    CONFIG,
    *CREDENTIALS,
    Flag("name", short="n"),
    Flag("all-runners", kind="switch"),
)
#: These two take nothing from the environment: a variable that happens to be set must not select runners.
VERIFY = (
    CONFIG,
    Flag("url", short="u"),
    Flag("token", short="t"),
    Flag("name", short="n"),
    Flag("delete", kind="switch"),
)
LIST = (CONFIG,)
RUN = (
    CONFIG,
    Flag("working-directory", short="d"),
    Flag("service", short="n"),
    Flag("user", short="u"),
    Flag("syslog", kind="switch"),
    Flag("listen-address", "LISTEN_ADDRESS"),
)
INSTALL = (*RUN, Flag("init-user"))
SERVICE = (Flag("service", short="n"),)


def parse(command: str, arguments: Sequence[str], flags: Sequence[Flag], environment: Mapping[str, str]) -> Options:
    """Read flags, then the environment for those that were not given. Refuses what is not in `flags`."""
    named = {word: flag for flag in flags for word in (flag.name, flag.short) if word}
    values: dict[str, Any] = {}
    words = list(arguments)
    while words:
        word = words.pop(0)
        if not word.startswith("-") or word == "-":
            raise log.fatal(f"{command}: {word!r} is not a flag")
        name, has_value, value = word.lstrip("-").partition("=")
        flag = named.get(name)
        if flag is None:
            raise log.fatal(f"flag provided but not defined: -{name}")
        if not has_value:
            if flag.kind == "switch":
                value = "true"
            elif words:
                value = words.pop(0)
            else:
                raise log.fatal(f"flag needs an argument: -{name}")
        _put(values, flag, value)
    given = set(values)
    for flag in flags:
        if flag.name not in values and (text := environment.get(flag.variable, "") if flag.variable else ""):
            for one in text.split(",") if flag.kind == "list" else [text]:
                _put(values, flag, one.strip())
    return Options(flags, values, given)


def _put(values: dict[str, Any], flag: Flag, text: str) -> None:
    match flag.kind:
        case "list":
            values.setdefault(flag.name, []).append(text)
        case "switch":
            if text.lower() not in (*TRUE, *FALSE):
                raise log.fatal(f'invalid boolean value "{text}" for -{flag.name}')
            values[flag.name] = text.lower() in TRUE
        case "number":
            try:
                values[flag.name] = int(text)
            except ValueError:
                raise log.fatal(f'invalid value "{text}" for flag -{flag.name}') from None
        case _:
            values[flag.name] = text


class Options:
    """What flags and environment say together."""

    def __init__(self, flags: Sequence[Flag], values: dict[str, Any], given: set[str]) -> None:
        self._flags, self.values, self.given = flags, values, given

    def text(self, name: str, default: str = "") -> str:
        """A text; `default` when it was not said."""
        return str(self.values.get(name, default)).strip()

    def switch(self, name: str) -> bool:
        """A switch; off when it was not said."""
        return bool(self.values.get(name))

    def runner_settings(self) -> dict[str, Any]:
        """What was said of a runner, as its table in `config.toml` has it."""
        table: dict[str, Any] = {}
        for flag in self._flags:
            if not flag.path or flag.name not in self.values:
                continue
            folder, _, key = flag.path.rpartition(".")
            place = table.setdefault(folder, {}) if folder else table
            place[key] = self.values[flag.name]
        return table


def environment() -> Mapping[str, str]:
    """The process's own environment."""
    return os.environ
