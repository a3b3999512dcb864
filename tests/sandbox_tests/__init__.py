"""Tests of the sandbox, one folder per area; `support` holds what they share."""

import pytest

# Before anything imports it: an assertion that fails in there explains itself as one in a test does.
pytest.register_assert_rewrite(f"{__name__}.support")
