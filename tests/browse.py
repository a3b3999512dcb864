"""`make open`, as a newcomer uses it: `python -m tests.browse` signs in with curl, clones with git, and hears of news.

Runs outside of the sandbox, on the machine itself, and needs a stack that `make up` has deployed.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.cookiejar import MozillaCookieJar
from pathlib import Path

import websocket

ROOT = Path(__file__).resolve().parents[1]
#: The last line of what is printed when the port is open.
LAST = "Ctrl-C closes the port."


@contextmanager
def opened() -> Iterator[str]:
    """What `make open PASSWORD=1` prints while the port is open; Ctrl-C at the end of the block."""
    command = ["make", "open", "STACK=sandbox", "PASSWORD=1"]
    # A group of its own: a terminal sends Ctrl-C to the whole of it.
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        lines: list[str] = []
        for line in process.stdout or ():
            lines.append(line)
            if LAST in line:
                break
        try:
            yield "".join(lines)
        finally:
            os.killpg(process.pid, signal.SIGINT)
    if LAST not in "".join(lines) or process.returncode not in {0, 2, -signal.SIGINT}:
        raise SystemExit(f"make open ended with {process.returncode}:\n{''.join(lines)}")


def run(*words: str) -> str:
    """Run a client that has to succeed."""
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)
    if done.returncode != 0:
        raise SystemExit(f"{words[0]} ended with {done.returncode}: {done.stderr}")
    return done.stdout


def sign_in(address: str, user: str, password: str, folder: Path) -> str:
    """The page that follows a sign-in, and where it is."""
    jar, secret = folder / "jar", folder / "password"
    # Command lines are public.
    secret.write_text(password)
    form = ("--data-urlencode", f"login={user}", "--data-urlencode", f"password@{secret}")
    follow = ("--location", "--cookie-jar", str(jar), "--cookie", str(jar), "--write-out", "\n%{url_effective}")
    return run("curl", "--silent", "--show-error", "--fail", *follow, *form, f"{address}/users/sign_in")


def heard(address: str, folder: Path) -> str:
    """What GitLab says first over the WebSocket that its pages open: it comes through the port, nginx and TLS."""
    jar = MozillaCookieJar(folder / "jar")
    jar.load(ignore_discard=True)
    cookie = "; ".join(f"{one.name}={one.value}" for one in jar)
    protocols = ["actioncable-v1-json", "actioncable-unsupported"]
    url = f"{address.replace('http', 'ws', 1)}/-/cable"
    opened = websocket.create_connection(url, 30, origin=address, cookie=cookie, subprotocols=protocols)
    with closing(opened) as socket:
        return f"{socket.getsubprotocol()}: {json.loads(socket.recv())['type']}"


def main() -> None:
    """Fails with a message unless everything works under the address that is printed."""
    with opened() as said, tempfile.TemporaryDirectory() as name:
        found = re.search(r"(http://127\.0\.0\.1:\d+)\n.*user +(\S+)\n +password +(\S+)", said, re.DOTALL)
        if not found:
            raise SystemExit(f"no address, user and password:\n{said}")
        address, user, password = found.groups()
        page = sign_in(address, user, password, Path(name))
        if not page.endswith(f"\n{address}/") or "root/hello" not in page or "Sign out" not in page:
            raise SystemExit(f"no list of projects after the sign-in:\n{page}")
        if (words := heard(address, Path(name))) != "actioncable-v1-json: welcome":
            raise SystemExit(f"no welcome at the WebSocket of pages: {words}")
        store = Path(name, "credentials")
        store.write_text(address.replace("http://", f"http://{user}:{password}@"))
        helper = ("-c", f"credential.helper=store --file={store}")
        run("git", *helper, "clone", "--quiet", f"{address}/root/hello.git", str(Path(name, "hello")))
        if not Path(name, "hello", "Dockerfile").exists():
            raise SystemExit("the clone has no Dockerfile")
        print(f"{user} signs in at {address}, hears of news, and clones root/hello from there.")


if __name__ == "__main__":
    main()
