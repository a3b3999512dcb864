"""Every wrong stack file of the corpus is refused with a message to act on, and no error hides another one."""

from __future__ import annotations

import copy
import random
import re
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import pytest

from components.settings import SettingsError, load, read
from tests.unit.engine import RecordingEngine, as_config, project_defaults, run_program
from tests.unit.stack_file_corpus import ACCEPTS, WRONG, Case, all_settings, base, cases, is_text, with_value

TOKEN = {"DIGITALOCEAN_TOKEN": "dop_v1_of_a_unit_test"}
#: The sections with secrets, which are encrypted.
ENCRYPTED = [f"slipway:{key}" for key in ("alerts", "certificate", "gitlab", "registry", "signIn", "smtp", "projects")]
#: Key path, what is wrong, what would happen, what to do.
SENTENCE = re.compile(r"(?P<path>\S+?|\w+\[\".*?\"\]): (?P<wrong>\S.+?); (?P<otherwise>\S.+?)\. (?P<advice>\S.*)")
#: With values of up to 80 characters and lists of all keys, regions or choices.
LONGEST_LINE = 600
#: An error of one key that is reported at another one.
ELSEWHERE = {
    "adminCidrs[0]": {"adminCidrs"},
    "certificate.source": {"certificate"},
    "backup.maxAgeHours": {"backup"},
    "gitlab.extraSecrets": {"gitlab.extraConfiguration"},
    "gitlab.extraSecrets.NAME": {"gitlab.extraSecrets"},
    "smtp.userName": {"smtp.password"},
    "smtp.password": {"smtp.userName"},
    "projects": {"runners"},
    "projects[0]": {"runners"},
    "projects[0].runners": {"runners"},
    "projects[0].runners[0]": {"runners"},
    "runners": {"projects[0].runners", "projects[0].runners[0]"},
    "runners[0]": {"projects[0].runners"},
    "runners[0].name": {"projects[0].runners[0]", "runners"},
    "runners[0].untagged": {"projects[0].runners"},
}
CASES = list(cases())
PAIRS = 800
DEFAULTS = project_defaults()
SECRETS = ("example-secret", "example-of-a-value")


def errors(settings: Mapping[str, Any]) -> list[str]:
    config = as_config({**DEFAULTS, **settings})
    try:
        load("slipway", "test", config, ENCRYPTED, TOKEN)
    except SettingsError as error:
        return error.errors
    return []


def path_of(line: str) -> str:
    return line.partition(": ")[0]


def by_setting() -> dict[str, list[Case]]:
    found: dict[str, list[Case]] = defaultdict(list)
    for case in CASES:
        found[case.setting.path].append(case)
    return found


def problems(case: Case, lines: list[str]) -> list[str]:
    """What is wrong with the refusal of a case."""
    place = case.setting.place
    if not lines:
        return ["is accepted"]
    allowed = ELSEWHERE.get(place, set())
    stray = [line for line in lines if not path_of(line).startswith(place) and path_of(line) not in allowed]
    found = [f"reports another key: {line}" for line in stray]
    found += [f"has not four parts: {line!a}" for line in lines if not SENTENCE.fullmatch(line)]
    found += [f"is not printable: {line!a}" for line in lines if not line.isprintable()]
    found += [f"is too long: {len(line)}" for line in lines if len(line) > LONGEST_LINE]
    shown = [secret for secret in SECRETS for line in lines if secret in line]
    if case.setting.is_secret and isinstance(case.value, str) and len(case.value) > len("short"):
        shown += [line for line in lines if case.value in line]
    return found + [f"shows a secret: {one}" for one in shown]


@pytest.mark.parametrize("path", [setting.path for setting in all_settings()])
def test_a_setting_refuses_every_wrong_value_with_the_key_and_a_way_out(path: str) -> None:
    found = {case.name: problems(case, errors(case.settings)) for case in by_setting()[path]}
    assert len(found) > 1
    assert {name: wrong for name, wrong in found.items() if wrong} == {}


def test_every_setting_has_wrong_values_of_its_own() -> None:
    assert set(WRONG) == {setting.path for setting in all_settings()}


def test_the_corpus_has_hundreds_of_files_whose_only_fault_is_the_wrong_value() -> None:
    assert len(CASES) > 2000
    assert {path: errors(base(path)) for path in WRONG if errors(base(path))} == {}


@pytest.mark.parametrize(
    "path", [one.path for one in all_settings() if is_text(one) and ACCEPTS.get(one.path) != "all"]
)
def test_no_message_shows_a_value_that_is_encrypted_in_the_stack_file(path: str) -> None:
    [setting] = [one for one in all_settings() if one.path == path]
    lines: list[str] = []
    for value in ("Encrypted Value!", "https://Encrypted-Value,x", "\u202eencrypted", "e" * 300 + "\n"):
        decrypted, written = with_value(setting, value), with_value(setting, {"secure": "v1:example"})
        config = as_config({**DEFAULTS, **decrypted})
        keys = [*ENCRYPTED, f"slipway:{setting.path.split('.')[0].removesuffix('[]')}"]
        lines += read("slipway", "test", config, keys, TOKEN, stack_file=written).errors
    assert lines
    assert [line for line in lines if "ncrypted" in line.replace("encrypted one", "") or "eeee" in line] == []


def mergeable() -> list[tuple[Case, Case]]:
    """Pairs of cases of different settings, neither of which contains the other; the same ones in every run."""
    chosen = random.Random(9)  # noqa: S311 - reproducible, not secret
    pairs: list[tuple[Case, Case]] = []
    while len(pairs) < PAIRS:
        one, other = chosen.sample(CASES, 2)
        paths = [one.setting.place, other.setting.place]
        contained = any(re.match(re.escape(a) + r"([.\[]|$)", b) for a, b in (paths, paths[::-1]))
        together = base(one.setting.path) == base(other.setting.path)
        if together and not contained and not isinstance(one.value, list) and not isinstance(other.value, list):
            pairs.append((one, other))
    return pairs


def merged(one: Any, other: Any, unchanged: Any) -> Any:
    """A stack file with what is wrong in both, given the file without either."""
    if one == unchanged:
        return copy.deepcopy(other)
    if other == unchanged or not isinstance(unchanged, dict | list):
        return copy.deepcopy(one)
    if isinstance(unchanged, list):
        return [merged(a, b, c) for a, b, c in zip(one, other, unchanged, strict=True)]
    return {key: merged(one.get(key), other.get(key), unchanged.get(key)) for key in {**one, **other}}


#: Keys that others of the pair are checked against: with one of them invalid, nothing can be said of the other.
DEPENDENT = [
    {"domain", "hostname", "certificate.source", "certificate.acmeDirectory"},
    {
        *("region", "registry.spacesRegion", "registry.storage", "backup.spacesRegion", "backup.enabled"),
        *("objectStorage.spacesRegion", "objectStorage.storage"),
    },
    {"objectStorage.storage", "recover.objectBuckets"},
    {"databases.postgresql", "databases.postgresql.size", "databases.postgresql.kind", "server.size"},
    {"databases.postgresql.kind", "recover.postgresql", "databases", "databases.postgresql"},
    {"databases.valkey.kind", "recover.valkey", "databases", "databases.valkey"},
    {"adminCidrs", "adminCidrs[0]", "adminsFromAnywhere"},
    {"backup.maxAgeHours", "backup.times", "backup.times[0]"},
    {"certificate.source", "certificate.chain", "certificate.privateKey"},
    {"smtp.address", "smtp.port", "smtp.portUnblocked", "smtp.security", "smtp.userName", "smtp.password", "smtp.from"},
    {"signIn.oidc", "signIn.oidc[0]", "signIn.newUsers", "signIn.ldap"},
    {f"signIn.ldap.{key}" for key in ("port", "encryption", "caCertificate", "bindDn", "password")},
    {"signIn.require2fa", "signIn.graceHours"},
    {"groups[0].importId", "groups[0].path"},
    {"gitlab.extraConfiguration", "gitlab.extraSecrets", "gitlab.extraSecrets.NAME"},
]


def depend(one: Case, other: Case) -> bool:
    places = {one.setting.place, other.setting.place}
    runners = all(place.startswith(("runners", "projects")) for place in places)
    section = any(place in {"registry", "backup", "server", "certificate", "projects[0]"} for place in places)
    return runners or section or any(places <= group for group in DEPENDENT)


def test_two_wrong_values_are_reported_together_wherever_they_are() -> None:
    hidden = {}
    for one, other in mergeable():
        if depend(one, other):
            continue
        alone = {path_of(line) for case in (one, other) for line in errors(case.settings)}
        both = merged(one.settings, other.settings, base(one.setting.path))
        if missing := alone - {path_of(line) for line in errors(both)}:
            hidden[f"{one.name} and {other.name}"] = missing
    assert hidden == {}


def test_everything_wrong_at_once_is_reported_at_once() -> None:
    """One wrong value in every setting that is no section and no list."""
    file, wrong = base(""), []
    for path, found in by_setting().items():
        case = next((one for one in found if base(path) == base("") and not isinstance(one.value, list | dict)), None)
        inner = [other for other in WRONG if other.startswith((f"{path}.", f"{path}["))]
        if case is not None and not inner:
            file = merged(file, case.settings, base(""))
            wrong.append(case.setting.place)
    reported = {path_of(line) for line in errors(file)}
    assert [place for place in wrong if not any(path.startswith(place) for path in reported)] == []
    assert len(wrong) > 40


@pytest.mark.parametrize("path", [path for path in WRONG if path.count(".") < 2 and "[" not in path][::4])
def test_a_refused_stack_file_registers_nothing(path: str) -> None:
    case = by_setting()[path][-1]
    engine = RecordingEngine()
    with pytest.raises(SettingsError):
        run_program(engine=engine, **case.settings)
    assert {one.type for one in engine.registrations if not one.is_provider} == {"pulumi:pulumi:Stack"}
