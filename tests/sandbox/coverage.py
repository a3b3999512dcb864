"""Writes `COVERAGE.md`: which operations of the two emulated APIs the sandbox has.

`python -m tests.sandbox.coverage` writes the file, `make docs` calls it, and a test fails when the file is out of date.
What the sandbox has comes from its routes. What the real API has comes from its official client: pydo is generated from
DigitalOcean's OpenAPI document; python-gitlab names each resource, and which of list, get, create, update and delete it
has.
"""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import inspect
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from typing import Any

import gitlab.v4.objects
from gitlab.base import RESTManager
from gitlab.mixins import (
    CreateMixin,
    DeleteMixin,
    GetMixin,
    GetWithoutIdMixin,
    ListMixin,
    UpdateMethod,
    UpdateMixin,
)
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.routing import Route

from tests.sandbox.digitalocean.routes import ROUTES
from tests.sandbox.digitalocean.routes.common import refuse
from tests.sandbox.gitlab.web import api

TARGET = Path(__file__).with_name("COVERAGE.md")
GITLAB_PREFIX = "/api/v4"
#: Levels of GitLab's paths that say whose a resource is, not of which kind.
OWNERS = ("admin", "groups", "projects")
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")

Operation = tuple[str, str]


def shape(path: str) -> str:
    """A path without the names of its parameters, so that `{id}` and `{volume_id}` compare as equal."""
    return re.sub(r"\{[^}]*\}", "{}", path)


def routes_of(routes: Iterable[Route], prefix: str = "") -> dict[Operation, Route]:
    """Method and path of every operation that is implemented, and its route. HEAD comes with GET and is left out."""
    found = {}
    for route in routes:
        if isinstance(route.endpoint, partial) and route.endpoint.func is refuse:
            continue
        path = re.sub(r"\{(\w+):\w+\}", r"{\1}", route.path.removeprefix(prefix))
        for method in (route.methods or set()) - {"HEAD"}:
            found[method, path] = route
    return found


def digitalocean_client() -> set[Operation]:
    """Every operation below /v2 that pydo can call. Read as text: importing the module takes ten seconds."""
    package = importlib.util.find_spec("pydo")
    if package is None or package.origin is None:
        raise ModuleNotFoundError("pydo")
    text = Path(package.origin).with_name("operations").joinpath("_operations.py").read_text()
    builders = re.split(r"^def build_\w+_request\(", text.partition("\nclass ")[0], flags=re.MULTILINE)[1:]
    found = set()
    for builder in builders:
        url, method = re.search(r'_url = \(?\s*"(/v2/[^"]*)"', builder), re.search(r'method="(\w+)"', builder)
        if url and method:
            found.add((method[1], url[1].partition("?")[0]))
    return found


def gitlab_client() -> set[Operation]:
    """Every operation that python-gitlab's managers can call. Actions such as `retry` are not among them."""
    found: set[Operation] = set()
    for manager in vars(gitlab.v4.objects).values():
        if not (inspect.isclass(manager) and issubclass(manager, RESTManager) and getattr(manager, "_path", None)):
            continue
        path = str(manager._path)
        one = path if issubclass(manager, GetWithoutIdMixin) else f"{path}/{{id}}"
        mixins = {
            ListMixin: ("GET", path),
            CreateMixin: ("POST", path),
            GetMixin: ("GET", one),
            GetWithoutIdMixin: ("GET", one),
            UpdateMixin: (_update_method(manager), one),
            DeleteMixin: ("DELETE", one),
        }
        found |= {operation for mixin, operation in mixins.items() if issubclass(manager, mixin)}
    return found


def _update_method(manager: type[RESTManager[Any]]) -> str:
    return {UpdateMethod.POST: "POST", UpdateMethod.PATCH: "PATCH"}.get(
        getattr(manager, "_update_method", UpdateMethod.PUT), "PUT"
    )


@cache
def _functions(module: str) -> dict[str, ast.AST]:
    tree = ast.parse(inspect.getsource(import_module(module)))
    return {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def gaps_of(route: Route) -> list[str]:
    """What one operation answers with 501: the calls of `gap` that its handler reaches inside its module."""
    module = route.endpoint.__module__
    functions, found = _functions(module), []
    waiting, seen = [route.endpoint.__name__], set()
    while waiting:
        name = waiting.pop()
        if name in seen or name not in functions:
            continue
        seen.add(name)
        for node in ast.walk(functions[name]):
            if isinstance(node, ast.Name):
                waiting.append(node.id)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "gap":
                found.append(_text(node.args[1], module))
    return sorted(found)


def _text(detail: ast.expr, module: str) -> str:
    """The detail of a gap; where it names one of the module's `LACKING`, all of them."""
    if isinstance(detail, ast.Constant):
        return str(detail.value)
    if isinstance(detail, ast.JoinedStr):
        lacking = ", ".join(sorted(import_module(module).LACKING))
        return "".join(str(part.value) if isinstance(part, ast.Constant) else f"({lacking})" for part in detail.values)
    raise TypeError(f"{module}: the detail of a gap must be a text")


def _kind(path: str) -> str:
    """The kind of resource that a path is about."""
    parts = [part for part in path.split("/") if part and not part.startswith("{")]
    return "/".join(parts[:2] if parts[0] in ("v2", *OWNERS) else parts[:1]).removeprefix("v2/")


def lacking_of(have: dict[Operation, Route], real: set[Operation], prefix: str = "") -> set[Operation]:
    """The operations of the real API that no route takes."""
    found = set()
    for method, path in real:
        example = prefix + re.sub(r"\{[^}]*\}", "1", path)
        if not any(method == own and route.path_regex.match(example) for (own, _), route in have.items()):
            found.add((method, path))
    return found


@dataclass(frozen=True)
class Row:
    """One path: the methods that the sandbox has, and what it lacks."""

    path: str
    have: list[str]
    missing: list[str]


@dataclass(frozen=True)
class Section:
    """What the document says of one API. Only kinds of resources that the sandbox has in part get rows."""

    rows: list[Row]
    absent: list[str]
    have: int
    real: int
    lacking: int


def section(have: dict[Operation, Route], real: set[Operation], prefix: str = "") -> Section:
    """Compare the routes of one API with the real operations."""
    lacking = lacking_of(have, real, prefix)
    kinds = {_kind(path) for _, path in have}
    shown = [path for _, path in have] + sorted(path for _, path in lacking if _kind(path) in kinds)
    names = {shape(path): path for path in reversed(shown)}
    rows = []
    for path in sorted(names.values()):
        own = {method: route for (method, other), route in have.items() if shape(other) == shape(path)}
        missing = [method for method in METHODS if any(m == method and shape(p) == shape(path) for m, p in lacking)]
        gaps = [f"{method}: {gap}" for method in METHODS if method in own for gap in gaps_of(own[method])]
        rows.append(Row(path, [method for method in METHODS if method in own], missing + gaps))
    absent = sorted({_kind(path) for _, path in lacking} - kinds)
    return Section(rows, absent, len(have), len(real), len(lacking))


def document() -> str:
    """The whole file."""
    environment = Environment(
        loader=FileSystemLoader(TARGET.parent),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - Markdown
    )
    return environment.get_template("coverage.md.j2").render(
        digitalocean=section(routes_of(ROUTES), digitalocean_client()),
        gitlab=section(routes_of(api.routes, GITLAB_PREFIX), gitlab_client(), GITLAB_PREFIX),
        pydo=importlib.metadata.version("pydo"),
        python_gitlab=importlib.metadata.version("python-gitlab"),
    )


def main() -> None:
    """Write the file."""
    TARGET.write_text(document())
    print(f"written: {TARGET}")


if __name__ == "__main__":
    main()
