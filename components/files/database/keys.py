"""Redis and Valkey on a server of GitLab: ask one, mark it, and copy the keys of one into another.

Value by value and not with DUMP and RESTORE, whose format an older server refuses: the way back would be closed.

Input: a command as the arguments; on standard input one line for each server, with its parts separated by tabs:
`socket PATH`, or `tls HOST PORT CA_FILE PASSWORD`. Exits with 2 if a server cannot be reached, with 1 if it refuses.
"""

from __future__ import annotations

import socket
import ssl
import sys
from collections.abc import Iterator, Sequence
from typing import Any

#: A command: its name and its arguments.
Command = Sequence[object]

#: What names whose keys these are.
MARK = b"slipway:mark"
#: What GitLab can compute again, and has most of the memory.
CACHE = b"cache:gitlab:"
#: Keys, or parts of a value, at a time.
BATCH = 500
PATIENCE_SECONDS = 60


class RefusalError(Exception):
    """A server answers with an error; its words."""


class Client:
    """A connection to one server."""

    def __init__(self, line: str) -> None:
        kind, *parts = line.rstrip("\n").split("\t")
        if kind == "socket":
            self._socket: socket.socket = socket.socket(socket.AF_UNIX)
            self._socket.settimeout(PATIENCE_SECONDS)
            self._socket.connect(parts[0])
            password = ""
        else:
            host, port, authority, password = parts
            plain = socket.create_connection((host, int(port)), timeout=10)
            plain.settimeout(PATIENCE_SECONDS)
            # A public authority signs for a managed Valkey today, and the account's own for other engines.
            trust = ssl.create_default_context()
            trust.load_verify_locations(cafile=authority)
            self._socket = trust.wrap_socket(plain, server_hostname=host)
        self._file = self._socket.makefile("rb")
        if password:
            self.call("AUTH", password)

    def call(self, *words: object) -> Any:
        """The answer to one command."""
        return self.calls([words])[0]

    def calls(self, commands: Sequence[Command]) -> list[Any]:
        """The answers to several commands, which are sent together."""
        sent = bytearray()
        for words in commands:
            parts = [word if isinstance(word, bytes) else str(word).encode() for word in words]
            sent += b"*%d\r\n" % len(parts)
            for part in parts:
                sent += b"$%d\r\n%s\r\n" % (len(part), part)
        self._socket.sendall(sent)
        answers = [self._answer() for _ in commands]
        for answer in answers:
            if isinstance(answer, RefusalError):
                raise answer
        return answers

    def _answer(self) -> Any:
        line = self._file.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("the connection was closed")
        kind, rest = line[:1], line[1:-2]
        if kind == b"-":
            return RefusalError(rest.decode(errors="replace"))
        if kind == b":":
            return int(rest)
        if kind == b"$":
            length = int(rest)
            return None if length < 0 else self._file.read(length + 2)[:-2]
        if kind == b"*":
            return [self._answer() for _ in range(int(rest))]
        return rest

    def batches(self) -> Iterator[list[bytes]]:
        """All keys that are copied, in batches."""
        cursor = b"0"
        while True:
            cursor, found = self.call("SCAN", cursor, "COUNT", BATCH)
            batch = [key for key in set(found) if key != MARK and not key.startswith(CACHE)]
            if batch:
                yield batch
            if cursor == b"0":
                return

    def information(self) -> dict[str, str]:
        """What the server says of itself, by name."""
        lines = (self.call("INFO", "server") + self.call("INFO", "memory")).decode().splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line)


def check(client: Client) -> None:
    """Print `version policy maxmemory used keys`, then the mark."""
    known = client.information()
    # Valkey calls itself Redis 7.2 for the sake of clients.
    names = ("redis_version", "maxmemory_policy", "maxmemory", "used_memory")
    print(*[known.get(name, "?") for name in names], number_of_keys(client))
    print((client.call("GET", MARK) or b"").decode())


def number_of_keys(client: Client) -> int:
    """How many there are beside the mark."""
    return int(client.call("DBSIZE") - client.call("EXISTS", MARK))


def mark(client: Client, *words: str) -> None:
    """Write the mark."""
    client.call("SET", MARK, " ".join(words))


def copy(source: Client, target: Client, *words: str) -> None:
    """Replace the keys of the target by those of the source, and its mark by the words."""
    target.call("FLUSHDB")
    mark(target, *words)
    for batch in source.batches():
        # A server may name a key again in a later batch, and a list would grow with every time.
        target.call("DEL", *batch)
        kinds = source.calls([("TYPE", key) for key in batch])
        ends = source.calls([("PEXPIRETIME", key) for key in batch])
        for key, kind, end in zip(batch, kinds, ends, strict=True):
            if kind == b"none":
                continue
            for commands in parts_of(source, key, kind):
                target.calls(commands)
            if end > 0:
                target.call("PEXPIREAT", key, end)
    compare(source, target)
    print(number_of_keys(target))


def parts_of(source: Client, key: bytes, kind: bytes) -> Iterator[list[Command]]:
    """The commands that write a value, in batches."""
    if kind == b"string":
        value = source.call("GET", key)
        yield [("SET", key, value)] if value is not None else []
    elif kind in (b"list", b"zset"):
        start = 0
        while True:
            asked = ("LRANGE",) if kind == b"list" else ("ZRANGE",)
            scores = () if kind == b"list" else ("WITHSCORES",)
            found = source.call(*asked, key, start, start + BATCH - 1, *scores)
            if not found:
                return
            yield [("RPUSH", key, *found)] if kind == b"list" else [("ZADD", key, *swapped(found))]
            start += BATCH
    elif kind in (b"set", b"hash"):
        cursor = b"0"
        while True:
            cursor, found = source.call("SSCAN" if kind == b"set" else "HSCAN", key, cursor, "COUNT", BATCH)
            if found:
                yield [("SADD" if kind == b"set" else "HSET", key, *found)]
            if cursor == b"0":
                return
    else:
        raise RefusalError(
            f"the key {key.decode(errors='replace')} is of the type {kind.decode()}, which is not known here"
        )


def swapped(members: list[bytes]) -> Iterator[bytes]:
    """Members and scores as scores and members."""
    for index in range(0, len(members), 2):
        yield members[index + 1]
        yield members[index]


LENGTHS = {b"string": "STRLEN", b"list": "LLEN", b"set": "SCARD", b"hash": "HLEN", b"zset": "ZCARD"}


def compare(source: Client, target: Client) -> None:
    """Stop if a key is not the same in both. One that has expired meanwhile is of no importance."""
    for batch in source.batches():
        kinds = source.calls([("TYPE", key) for key in batch])
        lengths = [(LENGTHS[kind], key) for key, kind in zip(batch, kinds, strict=True) if kind in LENGTHS]
        for (_, key), length, copied in zip(lengths, source.calls(lengths), target.calls(lengths), strict=True):
            if length != copied and source.call("EXISTS", key):
                raise RefusalError(
                    f"the key {key.decode(errors='replace')} has {length} in one and {copied} in the other"
                )


#: By name; each takes a client for each line, then the words.
COMMANDS: dict[str, Any] = {"check": check, "mark": mark, "copy": copy}


def main() -> None:
    """Run one command."""
    command, *words = sys.argv[1:]
    lines = sys.stdin.read().splitlines()
    try:
        COMMANDS[command](*[Client(line) for line in lines], *words)
    except (RefusalError, ssl.SSLError) as error:
        print(error, file=sys.stderr)
        sys.exit(1)
    except OSError as error:
        print(error, file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
