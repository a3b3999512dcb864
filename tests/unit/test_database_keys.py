"""The program that copies keys between servers of Redis and Valkey, against servers of a few lines.

With real ones it runs in `tests/e2e/test_managed_databases.py`.
"""

from __future__ import annotations

import os
import socketserver
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme

from components.rendering import script

#: Values as the program has to bring them over, by their type.
LONG = [f"job {number}".encode() for number in range(1203)]
VALUES: dict[bytes, tuple[bytes, Any]] = {
    b"session:gitlab:2::abc": (b"string", b"\x04\x08{\r\n\x00"),
    b"queue:default": (b"list", LONG),
    b"queues": (b"set", {b"default", b"mailers"}),
    b"schedule": (b"zset", {f"at {number}".encode(): number + 0.25 for number in range(1203)}),
    b"stat": (b"hash", {b"processed": b"7", b"failed": b""}),
    b"cache:gitlab:avatar": (b"string", b"x"),
}
INFORMATION = {
    b"server": b"# Server\r\nredis_version:7.2.4\r\n",
    b"memory": b"# Memory\r\nmaxmemory:0\r\nused_memory:9\r\nmaxmemory_policy:noeviction\r\n",
}


class Store:
    """The keys of one server."""

    def __init__(self, values: dict[bytes, tuple[bytes, Any]] | None = None) -> None:
        self.values = dict(values or {})
        self.ends: dict[bytes, int] = {}
        self.loses: bytes | None = None
        #: Whether it names every key again in a second batch, as a server may while its table of keys grows.
        self.repeats = False

    def answer(self, name: str, *words: bytes) -> Any:
        """The answer of a server to one command."""
        key, rest = (words or (b"",))[0], words[1:]
        kind, value = self.values.get(key, (b"none", None))
        simple: dict[str, Any] = {
            "INFO": INFORMATION.get(key),
            "SCAN": [b"1" if self.repeats and key == b"0" else b"0", list(self.values)],
            "TYPE": kind,
            "PEXPIRETIME": self.ends.get(key, -1),
            "DBSIZE": len(self.values),
            "EXISTS": int(key in self.values),
            "GET": value,
        }
        if name in simple:
            return simple[name]
        if name in ("STRLEN", "LLEN", "SCARD", "HLEN", "ZCARD"):
            return len(value) if value is not None else 0
        if name in ("LRANGE", "ZRANGE", "SSCAN", "HSCAN"):
            return _part(name, value, rest)
        return self._write(name, key, rest)

    def _write(self, name: str, key: bytes, rest: tuple[bytes, ...]) -> Any:
        if key == self.loses:
            return len(rest)
        pairs = list(zip(rest[::2], rest[1::2], strict=False))
        match name:
            case "FLUSHDB":
                self.values.clear()
            case "DEL":
                for one in (key, *rest):
                    self.values.pop(one, None)
            case "PEXPIREAT":
                self.ends[key] = int(rest[0])
            case "SET":
                self.values[key] = (b"string", rest[0])
            case "RPUSH":
                self.values.setdefault(key, (b"list", []))[1].extend(rest)
            case "SADD":
                self.values.setdefault(key, (b"set", set()))[1].update(rest)
            case "HSET":
                self.values.setdefault(key, (b"hash", {}))[1].update(pairs)
            case "ZADD":
                self.values.setdefault(key, (b"zset", {}))[1].update((member, float(score)) for score, member in pairs)
            case _:
                raise AssertionError(name)
        return 1


def _part(name: str, value: Any, rest: tuple[bytes, ...]) -> Any:
    if name == "SSCAN":
        return [b"0", list(value)]
    if name == "HSCAN":
        return [b"0", [part for pair in value.items() for part in pair]]
    first, last = int(rest[0]), int(rest[1])
    if name == "LRANGE":
        return value[first : last + 1]
    pairs = sorted(value.items(), key=lambda pair: pair[1])[first : last + 1]
    return [part for member, score in pairs for part in (member, str(score).encode())]


def encoded(answer: Any) -> bytes:
    if answer is None:
        return b"$-1\r\n"
    if isinstance(answer, int):
        return b":%d\r\n" % answer
    if isinstance(answer, list):
        return b"*%d\r\n" % len(answer) + b"".join(encoded(one) for one in answer)
    return b"$%d\r\n%s\r\n" % (len(answer), answer)


@contextmanager
def served(store: Store, path: Path) -> Iterator[str]:
    """The line of a server with these keys."""
    with socketserver.ThreadingUnixStreamServer(str(path), answering(store)) as server, running(server):
        yield f"socket\t{path}\n"


@contextmanager
def served_over_tls(store: Store, signer: trustme.CA, trusted: Path) -> Iterator[str]:
    """The same over TLS, with a certificate of `signer`; the client is given another authority."""

    class Server(socketserver.ThreadingTCPServer):
        def get_request(self) -> tuple[ssl.SSLSocket, Any]:
            plain, address = super().get_request()
            return context.wrap_socket(plain, server_side=True, do_handshake_on_connect=False), address

        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client that does not accept the certificate."""

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    signer.issue_cert("localhost").configure_cert(context)
    with Server(("127.0.0.1", 0), answering(store)) as server, running(server):
        yield f"tls\tlocalhost\t{server.server_address[1]}\t{trusted}\t\n"


def answering(store: Store) -> type[socketserver.StreamRequestHandler]:
    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while line := self.rfile.readline():
                words = [self.rfile.read(int(self.rfile.readline()[1:]) + 2)[:-2] for _ in range(int(line[1:]))]
                self.wfile.write(encoded(store.answer(words[0].decode(), *words[1:])))

    return Handler


@contextmanager
def running(server: socketserver.BaseServer) -> Iterator[None]:
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield
    server.shutdown()


def run(lines: str, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", script("database/keys.py"), *words]
    env = {**os.environ, **environment}
    return subprocess.run(command, input=lines, capture_output=True, text=True, check=False, env=env)


def copied(tmp_path: Path, source: Store, target: Store) -> subprocess.CompletedProcess[str]:
    with served(source, tmp_path / "source") as one, served(target, tmp_path / "target") as other:
        return run(one + other, "copy", "slipway", "00ff:", "unfinished", "copy")


def test_values_of_all_types_come_over_with_their_end_and_the_cache_does_not(tmp_path: Path) -> None:
    source, target = Store(VALUES), Store({b"of another time": (b"string", b"x")})
    source.ends[b"session:gitlab:2::abc"] = 1_900_000_000_000
    done = copied(tmp_path, source, target)
    assert (done.returncode, done.stdout) == (0, f"{len(VALUES) - 1}\n"), done.stderr
    mark = {b"slipway:mark": (b"string", b"slipway 00ff: unfinished copy")}
    assert target.values == {name: one for name, one in VALUES.items() if not name.startswith(b"cache:")} | mark
    assert target.ends == source.ends
    assert source.values == VALUES


def test_a_key_that_a_server_names_twice_comes_over_once(tmp_path: Path) -> None:
    source, target = Store(VALUES), Store()
    source.repeats = True
    done = copied(tmp_path, source, target)
    assert (done.returncode, done.stdout) == (0, f"{len(VALUES) - 1}\n"), done.stderr
    assert target.values[b"queue:default"] == VALUES[b"queue:default"]


def test_a_key_that_does_not_come_over_is_named(tmp_path: Path) -> None:
    target = Store()
    target.loses = b"queues"
    done = copied(tmp_path, Store(VALUES), target)
    assert done.returncode == 1
    assert done.stderr == "the key queues has 2 in one and 0 in the other\n"


def test_a_value_of_a_type_that_gitlab_does_not_use_is_named(tmp_path: Path) -> None:
    done = copied(tmp_path, Store({b"events": (b"stream", b"")}), Store())
    assert done.returncode == 1
    assert done.stderr == "the key events is of the type stream, which is not known here\n"


def test_a_server_says_what_it_is_and_whose_its_keys_are(tmp_path: Path) -> None:
    with served(Store(VALUES), tmp_path / "one") as line:
        assert run(line, "check").stdout == "7.2.4 noeviction 0 9 6\n\n"
        assert run(line, "mark", "slipway", "00ff:", "in", "use").returncode == 0
        assert run(line, "check").stdout == "7.2.4 noeviction 0 9 6\nslipway 00ff: in use\n"


def test_a_server_has_a_certificate_of_a_public_authority_or_of_its_own_and_no_others(tmp_path: Path) -> None:
    public, own, stranger = trustme.CA(), trustme.CA(), trustme.CA()
    system, file = tmp_path / "system.crt", tmp_path / "own.crt"
    public.cert_pem.write_to_path(system)
    own.cert_pem.write_to_path(file)
    for signer, status in ((public, 0), (own, 0), (stranger, 1)):
        with served_over_tls(Store(VALUES), signer, file) as line:
            done = run(line, "check", SSL_CERT_FILE=str(system), SSL_CERT_DIR="/nowhere")
        assert done.returncode == status, done.stderr
    assert "CERTIFICATE_VERIFY_FAILED" in done.stderr


@pytest.mark.parametrize(
    "line", ["socket\t/nonexistent\n", "tls\t127.0.0.1\t1\t/etc/ssl/certs/ca-certificates.crt\tx\n"]
)
def test_a_server_that_does_not_answer_is_told_from_one_that_refuses(line: str) -> None:
    assert run(line, "check").returncode == 2
