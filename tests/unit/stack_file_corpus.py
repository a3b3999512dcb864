"""Wrong stack files, generated: values that the kind of a setting forbids, and those that `wrong_values.yaml` lists.

The settings themselves are the source, so a new one takes part at once, and has to be listed with values of its own.
"""

from __future__ import annotations

import copy
import enum
import json
import re
import types
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
import yaml
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from components.settings import Settings
from components.settings.errors import sections_of
from tests.certificates import provided
from tests.unit.engine import REQUIRED

_LISTED = yaml.safe_load(Path(__file__).with_name("wrong_values.yaml").read_text(encoding="utf-8"))
#: Of the texts below, those that a setting accepts.
ACCEPTS: dict[str, Any] = _LISTED["accepts"]
WRONG: dict[str, list[Any]] = _LISTED["wrong"]

#: The first entry of a list, or the entry of a mapping, that a path of a setting leads through.
_ENTRY = re.compile(r"\[\]")
#: What is wrong for every text that is not free: in its characters, or as a whole.
TEXTS = [
    "", " ", "\n", "a\nb", "a\x00b", "\u202egnp.x", "e\u0301", "\U0001f680", "a\u00a0b", "a b", "-", "--help", "$HOME",
    "$(id)", "`id`", "it's", 'say "x"', "back\\slash", "~", "*", "&anchor", "!!binary x", "%", "\ufeff", "x" * 100_000,
]  # fmt: skip
#: What is no text, no list, no section …: as YAML has them.
_NUMBER, _FRACTION, _FLAG, _LIST, _SECTION = 5, 1.5, True, ["x"], {"zzz": "x"}
#: As deep as Python reads JSON, and deeper than it copies.
_DEEP: Any = json.loads('{"a":' * 400 + "1" + "}" * 400)
_CERTIFICATE = provided()
WEBHOOK = "https://hooks.slack.com/services/T0123/B0123/abcDEF123"
PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJgnNkZXhM4x1u7yZkA2mcBKR8F5oL4m4yGcmQ1yR0pW"


@dataclass(frozen=True)
class Setting:
    """One setting by its path, in which `[]` stands for entries of a list and `*` for names that users choose."""

    path: str
    field: FieldInfo
    annotation: Any

    @property
    def place(self) -> str:
        """Where a case has its value."""
        return self.path.replace("[]", "[0]").replace("*", "NAME")

    @property
    def is_secret(self) -> bool:
        """Whether messages must not contain its value."""
        return SecretStr in _options(self.annotation)


@dataclass(frozen=True)
class Case:
    """A stack file with one wrong value: all of its settings, and the place of that value."""

    name: str
    setting: Setting
    value: Any
    settings: dict[str, Any]


def all_settings(model: type[BaseModel] = Settings, prefix: str = "") -> Iterator[Setting]:
    """Every setting, sections and lists included."""
    for name, field in model.model_fields.items():
        path = f"{prefix}{field.alias or name}"
        yield Setting(path, field, field.annotation)
        kind = _kind(field.annotation)
        inner = {"list": f"{path}[]", "mapping": f"{path}.*"}.get(kind, path)
        for section in sections_of(field.annotation):
            if kind != "section":
                yield Setting(inner, field, section)
            yield from all_settings(section, f"{inner}.")
        if kind in {"list", "mapping"} and not sections_of(field.annotation):
            of_entries = get_args(_options(field.annotation)[0])
            yield Setting(inner, field, of_entries[0] if kind == "list" else of_entries[1])


def cases() -> Iterator[Case]:
    """Every wrong stack file."""
    for setting in all_settings():
        for value in [*_of_kind(setting), *WRONG.get(setting.path, [])]:
            yield Case(f"{setting.path} = {shortened(value)}", setting, value, with_value(setting, value))


def shortened(value: Any) -> str:
    """A value for the name of a case."""
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:40]}… ({len(text)})"


def with_value(setting: Setting, value: Any) -> dict[str, Any]:
    """A stack file that is valid but for one value."""
    settings = base(setting.path)
    steps = [step for step in re.split(r"[.\[\]]+", setting.place) if step]
    section: Any = settings
    for step in steps[:-1]:
        section = section[int(step) if step.isdigit() else step]
    section[int(steps[-1]) if steps[-1].isdigit() else steps[-1]] = value if value is _DEEP else copy.deepcopy(value)
    return settings


def base(path: str) -> dict[str, Any]:
    """A valid stack file in which the setting at `path` has an effect and its section is there."""
    settings: dict[str, Any] = {**copy.deepcopy(REQUIRED), "server": {"authorizedKeys": []}, "dns": {}, "backup": {}}
    settings["supplyChain"] = {"severity": ["HIGH"], "scan": "warn"}
    slack = {"channel": "#ops", "url": WEBHOOK}
    settings["alerts"] = {"email": ["ops@example.test"], "slack": slack, "regions": ["us_east"]}
    settings |= {"certificate": {}, "gitlab": {"packages": {}, "limits": {}}, "registry": {}}
    settings["objectStorage"] = {"storage": "spaces"}
    settings["databases"] = {"postgresql": {"kind": "managed"}, "valkey": {"kind": "managed"}}
    stage = {"name": "deploy", "script": ["true"]}
    variables = {"NAME": {"value": "example-of-a-value", "masked": False}}
    settings["projects"] = [{"path": "hello", "variables": variables, "extraStages": [stage]}]
    settings["projects"][0] |= {"runners": ["docker-builder"], "members": [{"user": "jane"}]}
    settings["groups"] = [{"path": "team", "members": [{"user": "jane"}]}]
    cluster: dict[str, Any] = {"kind": "kubernetes", "cluster": {}} if path.startswith("runners[].cluster") else {}
    settings["runners"] = [{"name": "docker-builder", "tags": ["example"], **cluster}]
    settings["server"]["authorizedKeys"] = [PUBLIC_KEY]
    settings["backup"]["times"] = ["02:30"]
    if path.startswith("gitlab.extraSecrets"):
        settings["gitlab"] |= {
            "extraConfiguration": "gitlab_rails['x'] = secrets['NAME']",
            "extraSecrets": {"NAME": "example-secret"},
        }
    told = {"email": ["team@example.test"], "slack": dict(slack)}
    if path.startswith("alerts.pipelines"):
        settings["alerts"]["pipelines"] = told
    if path.startswith("projects[].notify"):
        settings["projects"][0]["notify"] = told
    if path.startswith(("smtp", "alerts.pipelines", "projects[].notify")):
        mail = {"address": "smtp.example.com", "userName": "apikey", "password": "example-secret"}
        settings["smtp"] = {**mail, "from": "gitlab@example.com", "displayName": "GitLab"}
    if path.startswith("signIn"):
        provider = {"issuer": "https://login.example.com", "clientId": "gitlab", "clientSecret": "example-secret"}
        account = {"bindDn": "cn=gitlab,dc=example,dc=com", "password": "example-secret"}
        directory = {"host": "ldap.example.com", "base": "dc=example,dc=com", **account}
        oidc = [{**provider, "scopes": ["openid", "email"]}]
        settings["signIn"] = {"oidc": oidc, "ldap": directory, "require2fa": True}
    if path.startswith("recover."):
        settings["recover"] = {"groups": {"NAME": "7"}, "projects": {"NAME": "42"}}
    build = {"args": {"NAME": "1.2"}, "labels": {"NAME": "1.2"}, "secrets": ["NPM_TOKEN"], "platforms": ["linux/amd64"]}
    if path.startswith(("projects[].build", "projects[].test")):
        settings["projects"][0] |= {"build": build, "test": {"script": ["true"]}}
    if path.startswith("projects[].supplyChain"):
        settings["projects"][0]["supplyChain"] = {"severity": ["HIGH"]}
    if path.startswith("projects[].images"):
        settings["projects"][0]["images"] = [{"name": "api", **build, "test": {"script": ["true"]}}]
    if path.startswith("projects[].deploy"):
        stage = {"name": "announce", "script": ["true"]}
        settings["projects"][0] |= {"deploy": [_environment(path)], "extraStages": [stage]}
    if path.startswith("registry.s3"):
        bucket = {"bucket": "images", "region": "eu-central-1", "accessKey": "a-key", "secretKey": "example-secret"}
        settings["registry"] = {"storage": "s3", "s3": bucket}
    if path in {"certificate.chain", "certificate.privateKey", "certificate.caCertificate"}:
        settings["certificate"] = dict(_CERTIFICATE)
    return settings


def _environment(path: str) -> dict[str, Any]:
    """An environment in which the setting at `path` has an effect."""
    target: dict[str, Any] = {"name": "production", "variables": ["NAME"]}
    if "].droplet" in path:
        return {**target, "droplet": {"openPorts": [80]}, "healthCheck": {"path": "/", "port": 3000}}
    target |= {"host": "203.0.113.7", "user": "deploy", "hostKey": PUBLIC_KEY}
    if path.endswith("].compose"):
        # The file of a Compose project says what is published.
        return {**target, "publish": [], "healthCheck": {"path": "/", "port": 3000}}
    return {**target, "publish": ["80:3000"], "healthCheck": {"path": "/"}}


def is_text(setting: Setting) -> bool:
    """Whether its value is a text, secret or not."""
    return _kind(setting.annotation) == "text"


def _options(annotation: Any) -> tuple[Any, ...]:
    """The types that a value may have besides nothing."""
    if get_origin(annotation) is Annotated:
        return _options(get_args(annotation)[0])
    if get_origin(annotation) in {Union, types.UnionType}:
        return tuple(one for option in get_args(annotation) if option is not type(None) for one in _options(option))
    return (annotation,)


def _kind(annotation: Any) -> str:
    [option] = _options(annotation)
    origin = get_origin(option)
    if origin in {tuple, dict, Literal}:
        return {tuple: "list", dict: "mapping", Literal: "choice"}[origin]
    if issubclass(option, BaseModel):
        return "section"
    if issubclass(option, enum.Enum):
        return "choice"
    return {bool: "flag", int: "number", str: "text", SecretStr: "text", IPv4Network: "text"}[option]


def _of_kind(setting: Setting) -> Iterator[Any]:
    kind = _kind(setting.annotation)
    # Pulumi passes each top-level value that is no list and no section as a string.
    is_nested = "." in setting.path or "[" in setting.path
    if kind == "list":
        yield from ("x", "", 5, True, 1.5, {"zzz": "x"}, [[]], [None], [{"zzz": "x"}], "a,b", "2001-01-01")
    elif kind in {"section", "mapping"}:
        yield from ("x", "", 5, True, 1.5, ["x"], {"": {}}, {"a\nb": "x"}, {"<<": {"a": "b"}}, [], _DEEP)
        yield from (one for one in ({"zzz": "x"},) if one not in ACCEPTS.get(setting.path, []))
    elif kind == "flag":
        yield from ("maybe", "", " ", 2, 1.5, ["x"], {"zzz": "x"}, "truee", "$TRUE", "\U0001f680", "ja", -1)
    elif kind == "choice":
        # Whatever YAML makes of `on`, `no`, `0o17` and a date.
        wrong = ("", " ", "zzz", "ZZZ", ["x"], {"zzz": "x"}, True, False, "2001-01-01", "$HOME", "x" * 100_000, -1)
        yield from (one for one in wrong if one not in ACCEPTS.get(setting.path, []))
    elif kind == "number":
        yield from ("", " ", "x", 1.5, True, False, ["x"], {"zzz": "x"}, "1e3", "0x1F", "0o17", "1_0", "\u0663", "1,5")
        yield from (10**30, -(10**30), "9" * 5000, "-", "2001-01-01", ".inf", "5\n")
        yield from _beyond(setting.field)
    else:
        yield from (["x"], {"zzz": "x"})
        if is_nested:
            yield from (5, 1.5, True)
        accepted = ACCEPTS.get(setting.path, [])
        yield from (text for text in TEXTS if accepted != "all" and text not in accepted)
    optional = type(None) in get_args(setting.annotation)
    if is_nested and not optional and kind != "section":
        yield None


def _beyond(field: FieldInfo) -> Iterator[int]:
    for limit in field.metadata:
        if isinstance(limit, annotated_types.Ge):
            yield int(str(limit.ge)) - 1
        if isinstance(limit, annotated_types.Le):
            yield int(str(limit.le)) + 1
