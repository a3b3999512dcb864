"""The systemd service of the runner."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from . import log
from .configuration import DEFAULT_FILE, Configuration
from .options import Options

UNITS = Path("/etc/systemd/system")
TEMPLATE = Path(__file__).resolve().parents[1] / "gitlab-runner.service"
NAME = "gitlab-runner"


def install(said: Options) -> None:
    """Write and enable the unit; and a configuration when there is none."""
    user, init_user = said.text("user"), said.text("init-user")
    if user and init_user:
        raise log.fatal("Only one of 'user' or 'init-user' can be specified.")
    if not user and not init_user and os.getuid() == 0:
        raise log.fatal("Please specify user that will run gitlab-runner service")
    unit = _unit(said)
    if unit.exists():
        raise log.fatal(f"Failed to install {unit.stem}: Init already exists: {unit}")
    configuration = Configuration(Path(said.text("config", str(DEFAULT_FILE)))).load()
    if not configuration.loaded:
        configuration.save()
    words = ["run", "--config", str(configuration.path)]
    for name in ("working-directory", "listen-address"):
        words += [f"--{name}", said.text(name)] if said.text(name) else []
    words += ["--service", unit.stem]
    words += ["--user", user] if user else []
    # The service itself is root's unless `init-user` says otherwise: `user` is whom jobs of the shell executor run as.
    run_as = f"User={init_user}\n" if init_user else ""
    arguments = "".join(f' "{word}"' for word in words)
    unit.write_text(TEMPLATE.read_text().replace("@ARGUMENTS@", arguments).replace("@RUN_AS@", run_as))
    _systemctl("enable", unit.name)
    _systemctl("daemon-reload")


def uninstall(said: Options) -> None:
    """Disable and remove the unit."""
    unit = _unit(said)
    if not unit.exists():
        raise log.fatal(f"Failed to uninstall {unit.stem}: the service is not installed")
    _systemctl("disable", unit.name)
    unit.unlink()
    _systemctl("daemon-reload")


def start(said: Options) -> None:
    """Start the service."""
    _control("start", said)


def stop(said: Options) -> None:
    """Stop the service."""
    _control("stop", said)


def restart(said: Options) -> None:
    """Stop the service and start it again."""
    _control("restart", said)


def status(said: Options) -> None:
    """Say whether the service runs; exit code 1 unless it does."""
    unit = _unit(said)
    if not unit.exists():
        print(f"{unit.stem}: the service is not installed", file=sys.stderr)
        raise SystemExit(1)
    active = subprocess.run([_program(), "is-active", "--quiet", unit.name], check=False).returncode == 0
    print(
        f"{unit.stem}: {'Service is running' if active else 'Service has stopped'}",
        file=sys.stdout if active else sys.stderr,
    )
    raise SystemExit(0 if active else 1)


def _unit(said: Options) -> Path:
    return UNITS / f"{said.text('service') or NAME}.service"


def _control(action: str, said: Options) -> None:
    unit = _unit(said)
    if not unit.exists():
        raise log.fatal(f"Failed to {action} {unit.stem}: the service is not installed")
    _systemctl(action, unit.name)


def _program() -> str:
    found = shutil.which("systemctl")
    if found is None:
        raise log.fatal('exec: "systemctl": executable file not found in $PATH')
    return found


def _systemctl(*words: str) -> None:
    done = subprocess.run([_program(), *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise log.fatal(
            f'Failed to {words[0]}: "systemctl" failed: exit status {done.returncode}, {done.stderr.strip()}'
        )
