"""What these tests share with the end-to-end tests: both run inside a sandbox."""

from tests.e2e.conftest import control, no_gaps, pulls

__all__ = ["control", "no_gaps", "pulls"]
