"""What the end-to-end tests ask the cloud itself.

Each test file has a stack of its own, and builds, changes and destroys it from top to bottom; files do not depend on
each other and may run side by side, each in another sandbox.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.control import Control
from tests.sandbox.layout import current


@pytest.fixture(scope="session")
def control() -> Iterator[Control]:
    """The control interface of the sandbox that the tests run in."""
    if not current().control_socket.exists():
        pytest.exit(
            "end-to-end tests run inside a sandbox: python -m tests.e2e starts two, or, where one runs, "
            "python -m tests.sandbox exec -- python -m pytest tests/e2e",
            returncode=pytest.ExitCode.USAGE_ERROR,
        )
    made = Control()
    yield made
    made.close()


@pytest.fixture(scope="module", autouse=True)
def no_gaps(control: Control) -> Iterator[None]:
    """Fails a file whose tests made the program call a route that the emulator does not implement."""
    before = control.gaps()
    yield
    assert control.gaps() == before


@pytest.fixture(scope="module", autouse=True)
def pulls(control: Control) -> None:
    """Docker Hub has forgotten what earlier stacks pulled from the addresses that the next one gets."""
    control.limit_pulls()
