"""All steps of the program, cut off from their machine while they run. Needs a network namespace of its own.

Packets are dropped and nothing is reset, until the engine has given up. Then the former settings are set again. Prints
what the engine said, and what the steps have written in the end.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.sandbox_tests.support.pulumi_engine import Engine
from tests.sandbox_tests.support.ssh_server import ssh_server
from tests.sandbox_tests.support.steps_of_program import config, path_with_programs, written
from tests.sandbox_tests.support.waiting import eventually

#: The plugin gives up after 150 s without an answer; everything else is quick.
LIMIT_SECONDS = 300


def _nft(rules: str) -> None:
    subprocess.run(["nft", "-f", "-"], input=rules, text=True, check=True)


def _cut(port: int) -> None:
    ways = "".join(f"tcp {side} {port} drop; " for side in ("sport", "dport"))
    _nft(f"table inet cut {{ chain in {{ type filter hook input priority 0; {ways} }}; }};\n")


def main() -> None:
    """Run them."""
    folder, steps = Path(sys.argv[1]), json.loads(sys.argv[2])
    machine = folder / "machine"
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    os.environ["PATH"] = path_with_programs(folder)
    with ssh_server() as server:
        engine = Engine(folder / "engine", "steps", config(server, machine, steps, "good"))
        engine.up()
        engine.configure({"value": "endless"})
        running = engine.start("up", "--yes", "--skip-preview", "--continue-on-error", "--parallel=50")
        cut_off = [name for name, once in steps.items() if not once]
        eventually(lambda: all(written(machine)[name] == "endless" for name in cut_off), 120)
        _cut(server.port)
        output, _ = running.communicate(timeout=LIMIT_SECONDS)
        _nft("delete table inet cut;\n")
        engine.configure({"value": "good"})
        engine.up()
        print(json.dumps({"output": output, "written": written(machine)}))


if __name__ == "__main__":
    main()
