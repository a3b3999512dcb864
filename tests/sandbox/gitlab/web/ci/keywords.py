"""Keywords of `.gitlab-ci.yml`: which exist, and their values. Unknown ones are refused, as by the linter."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from ..core import environments
from . import expressions
from .documents import ConfigurationError, Document

#: No job can have these names.
RESERVED = {"after_script", "before_script", "cache", "image", "include", "services", "stages", "variables"}
#: These are keywords, unless what they say is a job.
SECTIONS = {"default", "workflow"}
LONGEST_NAME = 255
MAXIMUM_PATHS = 50
DEFAULTS = {
    "after_script", "artifacts", "before_script", "cache", "hooks", "id_tokens", "image", "interruptible", "retry",
    "services", "tags", "timeout",
}  # fmt: skip
JOB = DEFAULTS | {
    "allow_failure", "coverage", "dependencies", "environment", "except", "extends", "inherit", "manual_confirmation",
    "needs", "only", "parallel", "publish", "resource_group", "rules", "script", "stage", "start_in", "variables",
    "when",
}  # fmt: skip
#: There are such in GitLab; this stand-in does nothing for them, and says so rather than leave them out.
NOT_SUPPORTED = {
    "trigger", "release", "secrets", "run", "identity", "inputs", "dast_configuration", "pages", "publish", "id_tokens",
}  # fmt: skip
RULE = {
    "if", "changes", "exists", "when", "allow_failure", "variables", "needs", "interruptible", "start_in",
    "auto_cancel",
}  # fmt: skip
WHENS = ("on_success", "on_failure", "always", "manual", "delayed", "never")
AUTO_CANCEL = {"on_new_commit": ("conservative", "interruptible", "none"), "on_job_failure": ("none", "all")}
ACCESSES = ("none", "developer", "all", "maintainer")
REPORTS = {
    "junit", "api_fuzzing", "codequality", "sast", "dependency_scanning", "container_scanning", "dast",
    "cluster_image_scanning", "performance", "browser_performance", "load_performance", "license_scanning", "metrics",
    "lsif", "dotenv", "terraform", "accessibility", "coverage_fuzzing", "coverage_report", "secret_detection",
    "requirements", "requirements_v2", "cyclonedx", "annotations", "repository_xray", "sarif",
}  # fmt: skip
ACTIONS = ("start", "stop", "prepare", "verify", "access")
RETRY_WHENS = (
    "always", "unknown_failure", "script_failure", "api_failure", "stuck_or_timeout_failure", "runner_system_failure",
    "runner_unsupported", "stale_schedule", "job_execution_timeout", "archived_failure", "unmet_prerequisites",
    "scheduler_failure", "data_integrity_failure",
)  # fmt: skip
HASHES: dict[str, set[str]] = {
    "image": {"name", "entrypoint", "docker", "kubernetes", "pull_policy"},
    "services": {"name", "alias", "entrypoint", "command", "docker", "kubernetes", "pull_policy", "variables"},
    "artifacts": {
        "name", "untracked", "paths", "exclude", "when", "expire_in", "expose_as", "reports", "public", "access",
    },
    "cache": {"key", "paths", "untracked", "policy", "when", "unprotect", "fallback_keys"},
    "retry": {"max", "when", "exit_codes"},
    "needs": {"job", "artifacts", "optional"},
    "environment": {"name", "url", "action", "on_stop", "auto_stop_in", "deployment_tier", "kubernetes"},
    "allow_failure": {"exit_codes"},
    "variables": {"value", "description", "options", "expand"},
    "workflow": {"rules", "name", "auto_cancel"},
}  # fmt: skip
UNITS = {
    "s": 1, "sec": 1, "second": 1, "m": 60, "min": 60, "minute": 60, "h": 3600, "hr": 3600, "hour": 3600, "d": 86400,
    "day": 86400, "w": 604800, "week": 604800, "mo": 2592000, "month": 2592000, "y": 31557600, "year": 31557600,
}  # fmt: skip


def refuse(path: str, problem: str) -> ConfigurationError:
    """A mistake in the linter's form."""
    return ConfigurationError(f"{path} {problem}" if problem.startswith("config") else f"{path} config {problem}")


def check_keys(path: str, value: Document, allowed: set[str]) -> None:
    """Refuse keys that there are not."""
    unknown = [str(key) for key in value if key not in allowed]
    if unknown:
        raise refuse(path, f"contains unknown keys: {', '.join(unknown)}")


def is_job(name: str, value: Any) -> bool:
    """Whether a top-level entry is meant as a job."""
    if name in RESERVED or name.startswith("."):
        return False
    return name not in SECTIONS or (isinstance(value, dict) and "script" in value)


def check_job(name: str, job: Document) -> None:
    """Refuse a job that is written wrongly."""
    path = f"jobs:{name}"
    if not name.strip():
        raise ConfigurationError(f"{path} name can't be blank")
    if len(name) > LONGEST_NAME:
        raise ConfigurationError(f"{path} name is too long (maximum is {LONGEST_NAME} characters)")
    unsupported = sorted(NOT_SUPPORTED & set(job))
    if unsupported:
        raise refuse(path, f"has keys that this stand-in does not support: {', '.join(unsupported)}")
    check_keys(path, job, JOB)
    if "script" not in job:
        raise refuse(path, "should implement the script:, run:, or trigger: keyword")
    if "rules" in job and ({"only", "except"} & set(job)):
        both = ", ".join(key for key in ("only", "except") if key in job)
        raise refuse(path, f"key may not be used with `rules`: {both}")
    if job.get("when", "on_success") not in WHENS:
        raise refuse(path, f"when should be one of: {', '.join(WHENS[:-1])}")
    if "manual_confirmation" in job and not isinstance(job["manual_confirmation"], str):
        raise refuse(path, "manual confirmation should be a string")
    if job.get("when") == "delayed" and "start_in" not in job:
        raise refuse(path, "start in should be a duration")
    for keyword, check in CHECKS.items():
        if job.get(keyword) is not None:
            check(f"{path}:{keyword}", job[keyword])


def script(path: str, value: Any) -> list[str]:
    """Commands: a text, or texts in lists up to ten deep."""
    problem = refuse(path, "should be a string or a nested array of strings up to 10 levels deep")

    def flat(item: Any, depth: int) -> list[str]:
        if isinstance(item, str):
            return [item]
        if not isinstance(item, list) or depth > 10:
            raise problem
        return [line for inner in item for line in flat(inner, depth + 1)]

    return flat(value, 0)


def strings(path: str, value: Any) -> list[str]:
    """A list of texts."""
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise refuse(path, "should be an array of strings")
    return list(value)


def duration(path: str, value: Any) -> int:
    """Seconds of a text such as `1h 30m`, `3 hours 10 minutes` or `3600`."""
    text = str(value).strip().lower()
    if text.isdigit():
        return int(text)
    parts = re.findall(r"(\d+(?:\.\d+)?)\s*([a-z]+)", text)
    units = [UNITS.get(unit) or UNITS.get(unit.removesuffix("s")) for _, unit in parts]
    rest = re.sub(r"\d+(?:\.\d+)?\s*[a-z]+|\band\b|[\s,]", "", text)
    if not parts or rest or None in units:
        raise refuse(path, "should be a duration")
    return int(sum(float(amount) * (unit or 0) for (amount, _), unit in zip(parts, units, strict=True)))


def image(path: str, value: Any, kind: str = "image") -> Document:
    """An image or a service: a name, or a hash with one."""
    if isinstance(value, str):
        return {"name": value}
    if not isinstance(value, dict):
        raise refuse(path, "should be a hash or a string")
    check_keys(path, value, HASHES[kind])
    if not isinstance(value.get("name"), str) or not value["name"]:
        raise refuse(path, "name should be a string")
    for key in ("entrypoint", "command"):
        if key in value:
            strings(f"{path}:{key}", value[key])
    if "variables" in value:
        variables(f"{path}:variables", value["variables"])
    policies = value.get("pull_policy", [])
    for policy in policies if isinstance(policies, list) else [policies]:
        if policy not in ("always", "never", "if-not-present"):
            raise refuse(f"{path}:pull_policy", "should be one of: always, never, if-not-present")
    return value


def services(path: str, value: Any) -> list[Document]:
    """A list of services."""
    if not isinstance(value, list):
        raise refuse(path, "should be an array")
    return [image(f"{path}:service", item, "services") for item in value]


def variables(path: str, value: Any) -> dict[str, Document]:
    """Variables: name to `value` and `expand`."""
    if not isinstance(value, dict):
        raise refuse(path, "should be a hash")
    found: dict[str, Document] = {}
    for key, item in value.items():
        entry = item if isinstance(item, dict) else {"value": item}
        check_keys(f"{path}:{key}", entry, HASHES["variables"])
        content = entry.get("value", "")
        if not isinstance(content, str | int | float) or isinstance(content, bool):
            raise refuse(path, "should be a hash of key value pairs, value can be a hash")
        found[str(key)] = {"value": str(content), "expand": entry.get("expand", True)}
    return found


def rules(path: str, value: Any) -> list[Document]:
    """Rules, checked one by one; lists in the list are flattened, as `!reference` makes them."""
    if not isinstance(value, list):
        raise refuse(path, "should be an array of hashes")
    flat = [rule for item in value for rule in (item if isinstance(item, list) else [item])]
    for rule in flat:
        if not isinstance(rule, dict):
            raise refuse(f"{path}:rule", "should be a hash")
        check_keys(f"{path}:rule", rule, RULE)
        if "if" in rule:
            condition(f"{path}:rule:if", rule["if"])
        if rule.get("when", "always") not in WHENS:
            raise refuse(f"{path}:rule", f"when unknown value: {rule['when']}")
        if "variables" in rule:
            variables(f"{path}:rule:variables", rule["variables"])
        for key in ("changes", "exists"):
            if key in rule:
                paths(f"{path}:rule:{key}", rule[key])
        if "auto_cancel" in rule:
            auto_cancel(f"{path}:rule:auto_cancel", rule["auto_cancel"])
    return flat


def auto_cancel(path: str, value: Any) -> None:
    """What makes a pipeline redundant."""
    if not isinstance(value, dict):
        raise refuse(path, "should be a hash")
    check_keys(path, value, set(AUTO_CANCEL))
    for key, allowed in AUTO_CANCEL.items():
        if key in value and value[key] not in allowed:
            raise refuse(path, f"{key.replace('_', ' ')} must be one of: {', '.join(allowed)}")


def paths(path: str, value: Any) -> list[str]:
    """Paths: a list, or a hash with one."""
    if isinstance(value, dict):
        check_keys(path, value, {"paths", "compare_to"} if path.endswith("changes") else {"paths"})
    found = strings(path, value.get("paths") if isinstance(value, dict) else value)
    if len(found) > MAXIMUM_PATHS:
        raise refuse(path, f"has too many entries (maximum {MAXIMUM_PATHS})")
    return found


def condition(path: str, value: Any) -> None:
    """A condition, written rightly."""
    try:
        expressions.check(str(value))
    except expressions.ExpressionError as error:
        raise ConfigurationError(f"{path} {error}") from None


def needs(path: str, value: Any) -> list[Document]:
    """Needed jobs: names or hashes."""
    if not isinstance(value, list):
        raise refuse(path, "can only be a hash or an array")
    found = []
    for item in value:
        entry = {"job": item} if isinstance(item, str) else item
        if not isinstance(entry, dict):
            raise refuse(f"{path}:need", "has an unsupported type")
        unsupported = sorted({"project", "pipeline", "ref", "parallel"} & set(entry))
        if unsupported:
            raise refuse(f"{path}:need", f"has keys that this stand-in does not support: {', '.join(unsupported)}")
        check_keys(f"{path}:need", entry, HASHES["needs"])
        if not isinstance(entry.get("job"), str):
            raise refuse(f"{path}:need", "job can't be blank")
        found.append({"artifacts": True, "optional": False} | entry)
    return found


def retry(path: str, value: Any) -> Document:
    """How often to try again, and after what."""
    entry = value if isinstance(value, dict) else {"max": value}
    check_keys(path, entry, HASHES["retry"])
    most = entry.get("max", 2)
    if not isinstance(most, int) or isinstance(most, bool) or not 0 <= most <= 2:
        raise refuse(path, "has to be between 0 and 2" if isinstance(value, dict) else "must be between 0 and 2")
    when = entry.get("when", ["always"])
    whens = when if isinstance(when, list) else [when]
    if set(whens) - set(RETRY_WHENS):
        raise refuse(path, "when is not one of the known reasons")
    return {"max": most, "when": whens, "exit_codes": as_list(entry.get("exit_codes"))}


def allow_failure(path: str, value: Any) -> None:
    """True, false, or exit codes."""
    if isinstance(value, dict):
        check_keys(path, value, HASHES["allow_failure"])
    elif not isinstance(value, bool):
        raise refuse(path, "should be a boolean value")


def caches(path: str, value: Any) -> list[Document]:
    """Up to four caches."""
    found = value if isinstance(value, list) else [value]
    if len(found) > 4:
        raise ConfigurationError(f"{path} no more than 4 caches can be created")
    for entry in found:
        if not isinstance(entry, dict):
            raise refuse(path, "should be a hash")
        check_keys(path, entry, HASHES["cache"])
        if "paths" in entry:
            strings(f"{path}:paths", entry["paths"])
        if str(entry.get("policy", "pull-push")).lstrip("$") not in ("pull-push", "pull", "push") and not str(
            entry["policy"]
        ).startswith("$"):
            raise refuse(path, "policy should be a variable or one of: pull-push, push, pull")
    return found


def artifacts(path: str, value: Any) -> None:
    """What is kept of a job."""
    if not isinstance(value, dict):
        raise refuse(path, "should be a hash")
    check_keys(path, value, HASHES["artifacts"])
    for key in ("paths", "exclude"):
        if key in value:
            strings(f"{path}:{key}", value[key])
    if value.get("when", "on_success") not in ("on_success", "on_failure", "always"):
        raise refuse(path, "when should be one of: on_success, on_failure, always")
    if "access" in value and "public" in value:
        raise refuse(path, "please use only one of the following keys: public, access")
    if value.get("access", "all") not in ACCESSES:
        raise refuse(path, "access should be one of: none, developer, all, maintainer")
    if not isinstance(value.get("reports") or {}, dict):
        raise refuse(f"{path}:reports", "should be a hash")
    check_keys(f"{path}:reports", value.get("reports") or {}, REPORTS)
    if "expire_in" in value and value["expire_in"] != "never":
        duration(f"{path}:expire_in", value["expire_in"])


def environment(path: str, value: Any) -> None:
    """Where a job deploys to."""
    if not isinstance(value, dict | str):
        raise refuse(path, "should be a hash or a string")
    said = {"name": value} if isinstance(value, str) else value
    check_keys(path, said, HASHES["environment"])
    name = said.get("name")
    if not name:
        raise ConfigurationError(f"{path} name can't be blank")
    if not isinstance(name, str) or not environments.NAME.match(name):
        raise ConfigurationError(f"{path} name {environments.NAME_REFUSED}")
    if said.get("action", "start") not in ACTIONS:
        raise ConfigurationError(f"{path} action should be start, stop, prepare, verify, or access")
    if said.get("deployment_tier", "other") not in environments.TIERS:
        raise ConfigurationError(f"{path} deployment tier must be one of {', '.join(environments.TIERS)}")
    if len(str(said.get("url") or "")) > LONGEST_NAME:
        raise ConfigurationError(f"{path} url is too long (maximum is {LONGEST_NAME} characters)")
    if said.get("auto_stop_in", "never") != "never":
        duration(f"{path} auto stop in", said["auto_stop_in"])


def resource_group(path: str, value: Any) -> None:
    """What a job must have alone."""
    if not isinstance(value, str) or not re.match(r"[a-zA-Z0-9_\-/${}.]{1,255}\Z", value):
        raise refuse(path, "should be a string of letters, digits, '-', '_', '/', '$', '{', '}' and '.'")


def as_list(value: Any) -> list[Any]:
    """One thing or several."""
    if value is None:
        return []
    return list(value) if isinstance(value, list) else [value]


CHECKS: dict[str, Callable[[str, Any], object]] = {
    "script": script,
    "before_script": script,
    "after_script": script,
    "image": image,
    "services": services,
    "variables": variables,
    "rules": rules,
    "needs": needs,
    "dependencies": strings,
    "tags": strings,
    "retry": retry,
    "timeout": duration,
    "start_in": duration,
    "allow_failure": allow_failure,
    "cache": caches,
    "artifacts": artifacts,
    "environment": environment,
    "resource_group": resource_group,
}
