"""Templates and scripts: kept as files beside the components, and read and rendered only here."""

from __future__ import annotations

import json
import shlex
from functools import cache
from pathlib import Path
from typing import Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined

_HERE: Final = Path(__file__).resolve().parent


def ruby_string(value: str) -> str:
    """Quote `value` as a Ruby string in which nothing is interpolated.

    Between single quotes Ruby has only two escapes: the backslash and the quote itself.
    """
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def yaml_string(value: str) -> str:
    """Quote `value` as a YAML string on one line. Unlike `tojson`, it escapes nothing for HTML."""
    return json.dumps(value, ensure_ascii=False)


@cache
def _environment() -> Environment:
    # The output is YAML, TOML and Ruby, not HTML: values are quoted by filters for each language.
    environment = Environment(  # noqa: S701
        loader=FileSystemLoader(_HERE / "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["ruby"] = ruby_string
    environment.filters["shell"] = shlex.quote
    environment.filters["yaml"] = yaml_string
    # Escapes of JSON for characters beyond 16 bits are none of YAML's.
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False}
    return environment


def render(template: str, **values: object) -> str:
    """Return the text of `templates/<template>` with `values` filled in.

    Raises:
        jinja2.TemplateNotFound: there is no such template.
        jinja2.UndefinedError: the template uses a value that was not given.
    """
    return _environment().get_template(template).render(**values)


def script(name: str) -> str:
    """Return the text of `files/<name>`.

    Raises:
        FileNotFoundError: there is no such file.
    """
    return (_HERE / "files" / name).read_text(encoding="utf-8")
