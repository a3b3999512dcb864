"""Pulumi's download hosts, under their own names, in a network of the test's own.

`python -m tests.sandbox_tests.support.download_hosts FOLDER DELAY -- COMMAND …` runs inside new namespaces of network
and mounts: it serves the files of `FOLDER/HOST/PATH` over HTTPS, runs the command, and passes its exit code on. Each
host answers its first request after DELAY seconds. Files of `github.com` come after a redirect to another host, as
GitHub's do. What was asked is in `FOLDER/requests`.
"""

from __future__ import annotations

import ssl
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

HOSTS = ("get.pulumi.com", "github.com", "api.github.com", "api.pulumi.com")
STORAGE = "release-assets.githubusercontent.com"


class Handler(BaseHTTPRequestHandler):
    """Answers for every host."""

    folder: ClassVar[Path]
    delays: ClassVar[dict[str, float]]

    def do_GET(self) -> None:
        """Send a file, or say where it is."""
        host = self.headers["Host"]
        time.sleep(self.delays.pop(host, 0))
        with (self.folder / "requests").open("a") as requests:
            requests.write(f"https://{host}{self.path}\n")
        file = self.folder / ("github.com" if host == STORAGE else host) / self.path.lstrip("/")
        if not file.is_file():
            self.send_error(404)
        elif host == "github.com":
            self.send_response(302)
            self.send_header("Location", f"https://{STORAGE}{self.path}")
            self.end_headers()
        else:
            self.send_response(200)
            self.send_header("Content-Length", str(file.stat().st_size))
            self.end_headers()
            self.wfile.write(file.read_bytes())

    def log_message(self, *_: object) -> None:
        """Not to the output of a command."""


def main() -> int:
    """Serve, and run the command."""
    Handler.folder = Path(sys.argv[1])
    Handler.delays = dict.fromkeys((*HOSTS, STORAGE), float(sys.argv[2]))
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    names = Handler.folder / "hosts"
    names.write_text(f"127.0.0.1 localhost {' '.join((*HOSTS, STORAGE))}\n")
    subprocess.run(["mount", "--bind", names, "/etc/hosts"], check=True)
    server = ThreadingHTTPServer(("127.0.0.1", 443), Handler)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(Handler.folder / "server.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return subprocess.run(sys.argv[4:], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
