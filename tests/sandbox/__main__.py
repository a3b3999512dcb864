"""Entry of `python -m tests.sandbox`."""

from tests.sandbox.cli import main

main()
