"""`python -m tests.e2e [PYTEST ARGUMENT …]`: the end-to-end tests, side by side in sandboxes of their own.

Starts the sandboxes, gives each to one pytest worker, and stops them at the end. A test file is never split between
workers: its tests build on each other, and the stack, the cloud and its log of requests are theirs alone.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial

from tests.sandbox.cloud import lifecycle
from tests.sandbox.cloud.tools import kubernetes
from tests.sandbox.hub import runner
from tests.sandbox.layout import INSTANCE_VARIABLE, Layout, current
from tests.sandbox_tests.support import official_images, supply_chain
from tools.progress import say


def _have_clusters_for_runners() -> None:
    kubernetes.prepare(current().cache)
    runner.build(current().cache)


#: What files of tests need and nothing in a sandbox can get, without a way to the internet: made before one starts.
PREPARED: dict[str, Callable[[], object]] = {
    "tests/e2e/test_repositories.py": official_images.offer_images,
    "tests/e2e/test_supply_chain.py": supply_chain.offer_images,
    "tests/scale/test_kubernetes.py": lambda: kubernetes.prepare(current().cache),
    "tests/scale/test_kubernetes_runner.py": _have_clusters_for_runners,
}
#: One sandbox for each worker. More would compete for the two cores that a build server has.
INSTANCES = ("e2e-1", "e2e-2")


def worker(layout: Layout) -> str:
    """What pytest-xdist starts as a worker: a Python at the workstation of one sandbox."""
    sandbox = [sys.executable, "-m", "tests.sandbox", "exec", "--", sys.executable]
    return f"popen//python={shlex.join(['env', f'{INSTANCE_VARIABLE}={layout.instance}', *sandbox])}"


@contextmanager
def sandboxes(layouts: list[Layout]) -> Iterator[None]:
    """New sandboxes that run until the end of the block; what a killed run has left is removed first."""
    says = [partial(_say, layout) for layout in layouts]
    with ThreadPoolExecutor() as pool:
        try:
            list(pool.map(lifecycle.stop, layouts, says))
            list(pool.map(lifecycle.start, layouts, says))
            yield
        finally:
            list(pool.map(lifecycle.stop, layouts, says))


def is_chosen(file: str, arguments: list[str]) -> bool:
    """Whether arguments of pytest choose a file, by itself, by its folder or by one of its tests."""
    named = [argument.partition("::")[0] for argument in arguments if argument.startswith("tests/")]
    return any(file.startswith(one) for one in named) and f"--ignore={file}" not in arguments


def _say(layout: Layout, line: str) -> None:
    say(f"{layout.instance}: {line}")


def main() -> int:
    """Run the tests; the exit code is pytest's."""
    arguments = sys.argv[1:]
    if not any(argument.startswith("tests/") for argument in arguments):
        arguments.append("tests/e2e")
    for file, prepare in PREPARED.items():
        if is_chosen(file, arguments):
            prepare()
    layouts = [replace(current(), instance=name) for name in INSTANCES]
    workers = [option for layout in layouts for option in ("--tx", worker(layout))]
    command = [sys.executable, "-m", "pytest", "--dist", "loadfile", *workers, "--max-worker-restart", "0"]
    try:
        with sandboxes(layouts):
            return subprocess.run([*command, *arguments], cwd=current().root, check=False).returncode
    except lifecycle.SandboxError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        sys.exit(main())
    sys.exit(130)
