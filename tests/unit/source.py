"""Reading Python source as a syntax tree."""

from __future__ import annotations

import ast
import gc


def tree(text: str) -> ast.Module:
    """The syntax tree of a module.

    Without garbage collection meanwhile: what it finalizes may log a traceback, for which Python parses a line itself,
    and 3.11 then fails with `AST constructor recursion depth mismatch` (python/cpython#106905).
    """
    gc.disable()
    try:
        return ast.parse(text)
    finally:
        gc.enable()
