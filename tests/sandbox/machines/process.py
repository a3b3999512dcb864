"""Runs host commands from asynchronous code."""

from __future__ import annotations

import asyncio


class CommandError(Exception):
    """A host command failed; the message has the command's name and what it said, not its input."""


async def run(*command: str, stdin: str = "") -> str:
    """Run `command` and return its standard output. Raises `CommandError` when it fails."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate(stdin.encode())
    if process.returncode:
        raise CommandError(f"{command[0]}: {err.decode(errors='replace').strip() or process.returncode}")
    return out.decode(errors="replace")
