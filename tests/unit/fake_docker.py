"""A Docker client for tests of scripts: containers are lines of a file, and a container's image says how it behaves.

An image whose name contains `broken` ends at once, `sick` never gets healthy, `loses` fails once it has its ports, and
`gone` cannot be pulled. The file `kill-at` in the folder of its state names the command line at which the script is
killed.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

FOLDER = Path(os.environ["FAKE_DOCKER"])
STATE = FOLDER / "state.json"


def main(words: list[str]) -> int:
    """Do what one command line says."""
    with (FOLDER / "calls").open("a", encoding="utf-8") as calls:
        calls.write(" ".join(words) + "\n")
    kill = FOLDER / "kill-at"
    if kill.exists() and " ".join(words).startswith(kill.read_text(encoding="utf-8")):
        kill.unlink()
        os.kill(os.getppid(), signal.SIGKILL)
        return 1
    state: dict[str, Any] = json.loads(STATE.read_text(encoding="utf-8"))
    code = command(state, words)
    STATE.write_text(json.dumps(state), encoding="utf-8")
    return code


def command(state: dict[str, Any], words: list[str]) -> int:  # noqa: PLR0912 - one case a command
    """Run one command; the exit code."""
    containers, last = state["containers"], words[-1]
    match words:
        case ["container", "inspect", *options, name]:
            if name not in containers:
                return 1
            if options:
                print(formatted(containers[name], options[1]))
        case ["image", "inspect", image]:
            return 0 if image in state["images"] else 1
        case ["image", "ls", *_]:
            print("\n".join(state["images"]))
        case ["image", "rm", image]:
            state["images"].remove(image)
        case ["login", *_]:
            state["logins"].append([os.environ["DOCKER_CONFIG"], sys.stdin.read().strip()])
        case ["pull", *_]:
            if "gone" in last:
                return 1
            state["images"].append(last)
        case ["run", *_]:
            return started(state, words)
        case ["rename", old, new]:
            containers[new] = containers.pop(old)
        case ["stop", name]:
            containers[name]["status"] = "exited"
        case ["start", name]:
            containers[name]["status"] = "running"
        case ["rm", *_]:
            del containers[last]
        case ["update", "--restart", policy, name]:
            containers[name]["restart"] = policy
        case ["exec", name, "sh", "-c", _]:
            return 1 if "sick" in containers[name]["image"] or containers[name]["lost"] else 0
    return 0


def started(state: dict[str, Any], words: list[str]) -> int:
    """Start a container."""
    options: dict[str, list[str]] = {}
    for option, value in itertools.pairwise(words):
        if option.startswith("--") and option != "--detach":
            options.setdefault(option, []).append(value)
    image, published = words[-1], options.get("--publish", [])
    state["containers"][options["--name"][0]] = {
        "image": image,
        "status": "exited" if "broken" in image else "running",
        "lost": "loses" in image and bool(published),
        "label": options["--label"][0].split("=", 1)[1],
        "publish": published,
        "restart": options["--restart"][0],
        "environment": {name: os.environ[name] for name in options.get("--env", [])},
    }
    return 0


def formatted(container: dict[str, Any], template: str) -> str:
    """The properties that the script asks for."""
    return (
        template.replace("{{.State.Running}}", str(container["status"] == "running").lower())
        .replace("{{.State.Status}}", container["status"])
        .replace("{{.State.ExitCode}}", "3")
        .replace("{{.RestartCount}}", "0")
        .replace("{{.Config.Image}}", container["image"])
        .replace('{{index .Config.Labels "slipway.environment"}}', container["label"])
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
