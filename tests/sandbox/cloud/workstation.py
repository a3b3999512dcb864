"""The environment of the workstation: what a command in the sandbox sees, and nothing of the caller's."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from tests.sandbox.cloud.stacks import backend
from tests.sandbox.cloud.tools import containers
from tests.sandbox.layout import INSTANCE_VARIABLE, Layout

#: Variables that come from the caller: terminal and language. Nothing that could hold a credential or an agent.
INHERITED = ("TERM", "COLORTERM", "NO_COLOR", "COLUMNS", "LINES", "LANG", "LC_ALL", "TZ", "CI", "FORCE_COLOR")
TRUST = Path("/etc/ssl/certs/ca-certificates.crt")
#: Stacks of the sandbox are encrypted with a phrase that is no secret: they hold nothing but values of the sandbox.
PASSPHRASE_FILE = Path(__file__).with_name("passphrase")
_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def service_environment(layout: Layout) -> dict[str, str]:
    """What every process of the sandbox starts with."""
    inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
    paths = [layout.cache / "bin", layout.cache / "venv" / "bin"]
    return {
        **inherited,
        "PATH": ":".join([*map(str, paths), _SYSTEM_PATH]),
        "HOME": str(layout.state / "home"),
        "USER": "root",
        "SHELL": "/bin/bash",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
        INSTANCE_VARIABLE: layout.instance,
        **dict.fromkeys(("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"), str(TRUST)),
    }


def command_environment(layout: Layout) -> dict[str, str]:
    """Environment of a command at the workstation: the account's token, the state of the stacks, tools and trust."""
    inherited = service_environment(layout)
    folders = [layout.engine / "bin", containers.folder(layout.cache)]
    return {
        **inherited,
        "PATH": ":".join([*map(str, folders), inherited["PATH"]]),
        "VIRTUAL_ENV": str(layout.cache / "venv"),
        "PULUMI_HOME": str(layout.pulumi_home),
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        "AWS_CA_BUNDLE": str(TRUST),
        "GIT_SSL_CAINFO": str(TRUST),
        "DIGITALOCEAN_TOKEN": layout.token_file.read_text().strip(),
        "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
        "PULUMI_BACKEND_URL": f"file://{backend(layout)}",
        "PULUMI_CONFIG_PASSPHRASE_FILE": str(PASSPHRASE_FILE),
        "DOCKER_HOST": f"unix://{layout.workstation_docker_socket}",
    }


def prepare_folders(layout: Layout) -> None:
    """Folders that the environment names.

    Which stack is selected belongs to one sandbox, as the stack does; the plugins belong to the checkout.
    """
    plugins = layout.engine / "pulumi-home" / "plugins"
    for folder in (layout.state / "home", backend(layout), layout.pulumi_home, plugins):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        (layout.pulumi_home / "plugins").symlink_to(plugins)
    buildx = layout.state / "home" / ".docker" / "cli-plugins" / "docker-buildx"
    buildx.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        buildx.symlink_to(containers.folder(layout.cache) / "docker-buildx")
