"""A Docker client for tests of scripts: containers are lines of a file, and a container's image says how it behaves.

An image whose name contains `broken` ends at once, `sick` never gets healthy, `loses` fails once it has its ports,
`held` ends then, `deaf` does not answer the proxy, and `gone` cannot be pulled. A port belongs to one running
container. The file `kill-at` in the folder of its state names the command line at which the script is killed.

It is started dozens of times in a test, so it imports nothing that Python has not loaded at its start.
"""

# ruff: noqa: PTH108, PTH110, PTH123

from __future__ import annotations

import marshal
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

FOLDER = os.environ["FAKE_DOCKER"]
STATE, KILL = f"{FOLDER}/state", f"{FOLDER}/kill-at"


def main(words: list[str]) -> int:
    """Do what one command line says."""
    with open(f"{FOLDER}/calls", "a", encoding="utf-8") as calls:
        calls.write(" ".join(words) + "\n")
    if os.path.exists(KILL):
        with open(KILL, encoding="utf-8") as kill:
            is_the_end = " ".join(words).startswith(kill.read())
        if is_the_end:
            os.unlink(KILL)
            os.kill(os.getppid(), 9)
            return 1
    with open(STATE, "rb") as file:
        state: dict[str, Any] = marshal.load(file)  # noqa: S302 - of this test
    code = command(state, words)
    with open(STATE, "wb") as file:
        marshal.dump(state, file)
    return code


def command(state: dict[str, Any], words: list[str]) -> int:  # noqa: PLR0911, PLR0912 - one case a command
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
        case [("network" | "volume") as kind, *said]:
            return kept(state, kind, said)
        case ["ps", *_]:
            project = last.rpartition("=")[2]
            print("\n".join(name for name, one in containers.items() if one["labels"].get("compose") == project))
        case ["compose", *_]:
            return composed(state, words)
        case ["exec", proxy, "kamal-proxy", *said]:
            return proxied(state, proxy, said)
        case ["rename", old, new]:
            containers[new] = containers.pop(old)
        case ["stop", name]:
            containers[name]["status"] = "exited"
        case ["start", name]:
            if taken(state, name, containers[name]["publish"]):
                return 1
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
    for option, value in zip(words, words[1:], strict=False):  # noqa: RUF007 - one more import
        if option.startswith("--") and option != "--detach":
            options.setdefault(option, []).append(value)
    image, published = words[-1], options.get("--publish", [])
    if "kamal-proxy" in words:
        image = words[words.index("kamal-proxy") - 1]
    name, port_is_taken = options["--name"][0], taken(state, options["--name"][0], published)
    ends = "broken" in image or ("held" in image and published)
    state["containers"][name] = {
        "image": image,
        "status": "created" if port_is_taken else "exited" if ends else "running",
        "lost": "loses" in image and bool(published),
        "labels": dict(one.split("=", 1) for one in options["--label"]),
        "publish": published,
        "restart": options["--restart"][0],
        "environment": {name: os.environ[name] for name in options.get("--env", [])},
        "network": options.get("--network", [None])[0],
    }
    return 125 if port_is_taken else 0


def kept(state: dict[str, Any], kind: str, said: list[str]) -> int:
    """Do what a network or a volume is about. Each has a name and a label."""
    known = state.setdefault(f"{kind}s", {})
    match said:
        case ["inspect", *_, name]:
            if name not in known:
                return 1
            print(known[name])
        case ["create", "--label", label, name]:
            known[name] = label.partition("=")[2]
        case ["ls", *_, chosen]:
            print("\n".join(name for name, label in known.items() if chosen.endswith(f"={label}")))
        case ["rm", name]:
            if any(one.get("network") == name for one in state["containers"].values()):
                return 1
            del known[name]
            state.get("routes", {}).pop(name, None)
    return 0


def taken(state: dict[str, Any], name: str, published: list[str]) -> bool:
    """Whether another running container has one of the ports."""
    ports = {one.rpartition(":")[0] for one in published}
    return any(
        ports & {port.rpartition(":")[0] for port in one["publish"]} and one["status"] == "running" and other != name
        for other, one in state["containers"].items()
    )


def proxied(state: dict[str, Any], proxy: str, said: list[str]) -> int:
    """Do what the proxy is asked. What it knows is in its volume, and outlives it."""
    if state["containers"].get(proxy, {}).get("status") != "running":
        return 1
    routes = state.setdefault("routes", {})
    if said[0] == "list":
        print("Service  Host  Path  Target  State  TLS", f"app  *  /  {routes.get(proxy)}  running  no", sep="\n")
        return 0
    target = said[said.index("--target") + 1]
    name = target.partition(":")[0]
    [one] = [one for one in state["containers"].values() if one["labels"].get("slipway.target") == name]
    if "deaf" in one["image"] or one["status"] != "running":
        return 1
    routes[proxy] = target
    return 0


def composed(state: dict[str, Any], words: list[str]) -> int:
    """Act as Docker Compose for a file with at most one service, which publishes a port."""
    if words[-1] == "version":
        return 0 if state.get("compose", True) else 1
    project, file = words[words.index("--project-name") + 1], words[words.index("--file") + 1]
    said, name = words[words.index("--file") + 2 :], f"{project}-web-1"
    with open(file, encoding="utf-8") as opened:
        text = opened.read()
    image = text.partition("image: ")[2].partition("\n")[0].replace("${IMAGE}", os.environ["IMAGE"])
    match said:
        case ["config", "--quiet"]:
            return 1 if "invalid" in text else 0
        case ["config", "--images"]:
            print(image, *(line[7:] for line in text.splitlines() if line.startswith("# and: ")), sep="\n")
        case ["up", *_]:
            state["containers"].pop(name, None)
            words = ["run", "--name", name, "--label", f"compose={project}", "--restart", "no", "--publish", "80:3000"]
            if "GREETING" in text:
                words += ["--env", "GREETING"]
            return 1 if started(state, [*words, image]) or state["containers"][name]["status"] != "running" else 0
        case ["stop"]:
            state["containers"][name]["status"] = "exited"
        case ["down", *_]:
            state["containers"].pop(name, None)
    return 0


def formatted(container: dict[str, Any], template: str) -> str:
    """The properties that the script asks for."""
    for label in ("environment", "target", "proxy"):
        value = container["labels"].get(f"slipway.{label}", "<no value>" if label == "environment" else "")
        template = template.replace(f'{{{{index .Config.Labels "slipway.{label}"}}}}', value)
    return (
        template.replace("{{.State.Running}}", str(container["status"] == "running").lower())
        .replace("{{.State.Status}}", container["status"])
        .replace("{{.State.ExitCode}}", "3")
        .replace("{{.RestartCount}}", "0")
        .replace("{{.Config.Image}}", container["image"])
        .replace("{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}", "127.0.0.1 ")
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
