"""A Git server on loopback: repositories over HTTPS, served by Git's own program."""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import trustme

_ROOT = Path(__file__).parents[3]
_LOOPBACK = "127.0.0.1"


class _Handler(BaseHTTPRequestHandler):
    """Passes each request on to `git http-backend`, as a web server does with CGI."""

    repositories: Path

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        length = int(self.headers.get("Content-Length") or 0)
        environment = {
            **os.environ,
            "GIT_PROJECT_ROOT": str(self.repositories),
            "GIT_HTTP_EXPORT_ALL": "1",
            "REQUEST_METHOD": self.command,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(length),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
        }
        body = self.rfile.read(length)
        answer = subprocess.run(
            ["git", "http-backend"], env=environment, input=body, capture_output=True, check=False
        ).stdout
        head, _, content = answer.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        self.send_response(int(headers.pop("Status", "200").split()[0]))
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *arguments: Any) -> None:
        """Nothing: what goes wrong is in the client's output."""


@contextmanager
def git_server(folder: Path) -> Iterator[tuple[str, Path]]:
    """Serve the repositories below `folder`; the server's address, and the certificate that its clients trust."""
    authority = trustme.CA()
    trusted = folder / "git-ca.crt"
    authority.cert_pem.write_to_path(trusted)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(_LOOPBACK).configure_cert(context)
    handler = type("Handler", (_Handler,), {"repositories": folder})
    with ThreadingHTTPServer((_LOOPBACK, 0), handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"https://{_LOOPBACK}:{server.server_port}", trusted
        finally:
            server.shutdown()
            thread.join()


def publish(folder: Path) -> Path:
    """A bare repository with the files of this checkout as they are now, committed or not; links stay links."""
    tree = folder.with_name(f"{folder.name}-tree")
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=_ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
    for name in names:
        if name and os.path.lexists(_ROOT / name):
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(_ROOT / name, tree / name, follow_symlinks=False)
    git = ["git", "-C", str(tree), "-c", "user.name=Somebody", "-c", "user.email=somebody@example.com"]
    for words in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message", "All files"]):
        subprocess.run([*git, *words], check=True, stdin=subprocess.DEVNULL)
    folder.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["git", "clone", "--quiet", "--bare", str(tree), str(folder)], check=True)
    return folder
