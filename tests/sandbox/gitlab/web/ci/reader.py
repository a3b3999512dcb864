"""`.gitlab-ci.yml`: text -> a definition (all of its jobs, checked) -> a plan (the jobs of one pipeline)."""

from __future__ import annotations

from itertools import product
from typing import Any

from . import keywords
from .conditions import Context, applies, choose, expand
from .documents import ConfigurationError, Document, load
from .plans import Definition, Job, Plan

STAGES = ["build", "test", "deploy"]
FIRST, LAST = ".pre", ".post"
FILTERED = "Pipeline filtered out by workflow rules."
NO_JOBS = (
    "Pipeline will not run for the selected trigger. The rules configuration prevented any jobs from being added to "
    "the pipeline."
)
MAXIMUM_NEEDS = 50
#: Keywords that a job keeps as they are written.
OPTIONS = (
    "artifacts", "dependencies", "coverage", "interruptible", "resource_group", "hooks", "environment",
    "manual_confirmation",
)  # fmt: skip


def parse(text: str, context: Context) -> Definition:
    """All jobs of a file. Raises `ConfigurationError` with what the linter would say."""
    document = load(text, context.files, context.known())
    names = [name for name, value in document.items() if keywords.is_job(name, value)]
    for name in names:
        if not isinstance(document[name], dict):
            raise keywords.refuse("root", f"contains unknown keys: {name}")
    if not names:
        raise ConfigurationError("jobs config should contain at least one visible job")
    defaults = _defaults(document)
    variables = keywords.variables("variables", document.get("variables") or {})
    stages = _stages(document.get("stages", STAGES))
    workflow = _section(document, "workflow")
    keywords.check_keys("workflow", workflow, keywords.HASHES["workflow"])
    keywords.rules("workflow:rules", workflow.get("rules", []))
    keywords.auto_cancel("workflow:auto_cancel", workflow.get("auto_cancel") or {})
    jobs: dict[str, Document] = {}
    for name in names:
        keywords.check_job(name, document[name])
        jobs |= _parallel(name, _inherit(document[name], defaults))
    definition = Definition(stages, jobs, variables, workflow)
    for name, job in jobs.items():
        _check_relations(definition, name, job)
    return definition


def plan(definition: Definition, context: Context) -> Plan:
    """The jobs of a pipeline, or why there are none. Raises `ConfigurationError` for needs that are left out."""
    context = context.with_variables({key: entry["value"] for key, entry in definition.variables.items()})
    added: dict[str, Document] = {}
    auto_cancel = definition.workflow.get("auto_cancel") or {}
    if (rules := definition.workflow.get("rules")) is not None:
        rule = choose(keywords.rules("workflow:rules", rules), context, "workflow")
        if rule is None or rule.get("when") == "never":
            return Plan([], FILTERED)
        added = keywords.variables("workflow:rules:variables", rule.get("variables") or {})
        context = context.with_variables({key: entry["value"] for key, entry in added.items()})
        auto_cancel = auto_cancel | (rule.get("auto_cancel") or {})
    jobs: list[Job] = []
    for name, entry in definition.jobs.items():
        found = _job(definition, name, entry, context, added)
        if found:
            jobs.append(found)
    present = {job.name for job in jobs}
    for job in jobs:
        _check_present(job, present)
    if not [job for job in jobs if job.stage not in (FIRST, LAST)]:
        return Plan([], NO_JOBS)
    jobs.sort(key=lambda job: job.stage_index)
    return Plan(jobs, None, context.expand(str(definition.workflow.get("name") or "")) or None, auto_cancel)


def _section(document: Document, name: str) -> Document:
    """A section that is not a job by that name."""
    value = document.get(name)
    return {} if value is None or keywords.is_job(name, value) else value


def _defaults(document: Document) -> Document:
    default = _section(document, "default")
    if unsupported := sorted(keywords.NOT_SUPPORTED & set(default)):
        words = f"has keys that this stand-in does not support: {', '.join(unsupported)}"
        raise keywords.refuse("default", words)
    keywords.check_keys("default", default, keywords.DEFAULTS)
    old = {
        key: document[key] for key in ("image", "services", "before_script", "after_script", "cache") if key in document
    }
    both = [key for key in old if key in default]
    if both:
        raise keywords.refuse("root", f"{both[0]} is defined in top-level and `default:` entry")
    defaults = default | old
    for key, value in defaults.items():
        if key in keywords.CHECKS:
            keywords.CHECKS[key](f"default:{key}", value)
    return defaults


def _stages(value: Any) -> list[str]:
    stages = keywords.strings("stages", value)
    return [FIRST, *(stage for stage in dict.fromkeys(stages) if stage not in (FIRST, LAST)), LAST]


def _inherit(job: Document, defaults: Document) -> Document:
    wanted = (job.get("inherit") or {}).get("default", True)
    taken = {
        key: value for key, value in defaults.items() if wanted is True or (isinstance(wanted, list) and key in wanted)
    }
    return taken | job


def _parallel(name: str, job: Document) -> dict[str, Document]:
    parallel = job.get("parallel")
    if parallel is None:
        return {name: job}
    if isinstance(parallel, int) and not isinstance(parallel, bool) and 1 <= parallel <= 200:
        copies: dict[str, Document] = {f"{name} {number + 1}/{parallel}": {} for number in range(parallel)}
    elif isinstance(parallel, dict) and isinstance(parallel.get("matrix"), list):
        copies = {}
        for entry in parallel["matrix"]:
            values = [[str(value) for value in keywords.as_list(entry[key])] for key in entry]
            for combination in product(*values):
                copies[f"{name}: [{', '.join(combination)}]"] = dict(zip(entry, combination, strict=True))
    else:
        raise keywords.refuse(f"jobs:{name}:parallel", "should be an integer or a hash")
    jobs = {}
    for number, (title, variables) in enumerate(copies.items()):
        own = variables | {"CI_NODE_INDEX": str(number + 1), "CI_NODE_TOTAL": str(len(copies))}
        jobs[title] = job | {"variables": (job.get("variables") or {}) | own, "parallel_of": name}
    return jobs


def _check_relations(definition: Definition, name: str, job: Document) -> None:
    stage = str(job.get("stage", "test"))
    if stage not in definition.stages:
        raise ConfigurationError(
            f"{name} job: chosen stage {stage} does not exist; available stages are {', '.join(definition.stages)}"
        )
    here = definition.stages.index(stage)
    needed = keywords.needs(f"jobs:{name}:needs", job["needs"]) if job.get("needs") is not None else []
    if len(needed) > MAXIMUM_NEEDS:
        raise ConfigurationError(f"{name} job: one job can only need {MAXIMUM_NEEDS} others")
    for need in needed:
        others = definition.called(need["job"])
        if not others and not need["optional"]:
            raise ConfigurationError(f"{name} job: undefined need: {need['job']}")
        if any(definition.stages.index(str(other.get("stage", "test"))) > here for other in others):
            raise ConfigurationError(f"{name} job: need {need['job']} is not defined in current or prior stages")
    for dependency in job.get("dependencies") or []:
        others = definition.called(dependency)
        if not others:
            raise ConfigurationError(f"{name} job: undefined dependency: {dependency}")
        if any(definition.stages.index(str(other.get("stage", "test"))) >= here for other in others) and not needed:
            raise ConfigurationError(f"{name} job: dependency {dependency} is not defined in prior stages")
    _check_cycles(definition, name, ())
    _check_stop(definition, name, job)


def _check_stop(definition: Definition, name: str, job: Document) -> None:
    environment: Any = job.get("environment")
    stop = environment.get("on_stop") if isinstance(environment, dict) else None
    if not stop:
        return
    words, other = f"{name} job: on_stop job {stop}", definition.jobs.get(stop)
    if other is None:
        raise ConfigurationError(f"{words} is not defined")
    theirs = other.get("environment")
    if not theirs:
        raise ConfigurationError(f"{words} does not have environment defined")
    theirs = {"name": theirs} if isinstance(theirs, str) else theirs
    if theirs.get("name") != environment["name"]:
        raise ConfigurationError(f"{words} have different environment name")
    if theirs.get("action") != "stop":
        raise ConfigurationError(f"{words} needs to have action stop defined")


def _check_cycles(definition: Definition, name: str, above: tuple[str, ...]) -> None:
    if name in above:
        raise ConfigurationError("The pipeline has circular dependencies: self-dependency in `needs`")
    job = definition.jobs.get(name)
    for need in keywords.needs(name, (job or {}).get("needs") or []):
        _check_cycles(definition, need["job"], (*above, name))


def _check_present(job: Job, present: set[str]) -> None:
    for need in job.needs or []:
        if need["job"] not in present and not need["optional"]:
            raise ConfigurationError(
                f"'{job.name}' job needs '{need['job']}' job, but '{need['job']}' does not exist in the pipeline. This "
                "might be because of the only, except, or rules keywords. To need a job that sometimes does not exist "
                "in the pipeline, use needs:optional."
            )


def _job(definition: Definition, name: str, job: Document, context: Context, added: dict[str, Document]) -> Job | None:
    wanted = (job.get("inherit") or {}).get("variables", True)
    base = definition.variables | added
    base = base if wanted is True else {key: base[key] for key in base if isinstance(wanted, list) and key in wanted}
    variables = base | keywords.variables(f"jobs:{name}:variables", job.get("variables") or {})
    own = context.with_variables({key: entry["value"] for key, entry in variables.items()})
    rule: Document = {}
    if job.get("rules") is not None:
        chosen = choose(keywords.rules(f"jobs:{name}:rules", job["rules"]), own, name)
        if chosen is None:
            return None
        rule = chosen
        variables |= keywords.variables(f"jobs:{name}:rules:variables", rule.get("variables") or {})
    elif not applies(job, own):
        return None
    when = str(rule.get("when", job.get("when", "on_success")))
    if when == "never":
        return None
    # Only of a job that says so itself, not in a rule: that one holds the pipeline up.
    failure = rule.get("allow_failure", job.get("allow_failure", job.get("when") == "manual"))
    needs = rule.get("needs", job.get("needs"))
    full = context.with_variables({key: entry["value"] for key, entry in variables.items()})
    stage = str(job.get("stage", "test"))
    return Job(
        name=name,
        stage=stage,
        stage_index=definition.stages.index(stage),
        when=when,
        allow_failure=failure is True,
        options=_options(
            name, job | {key: rule[key] for key in ("start_in", "interruptible") if key in rule}, failure, full
        ),
        variables=variables,
        tags=_tags(keywords.as_list(job.get("tags")), own),
        needs=None if needs is None else _needs(definition, keywords.needs(f"jobs:{name}:needs", needs)),
        timeout=keywords.duration(f"jobs:{name}:timeout", job["timeout"]) if "timeout" in job else None,
    )


def _tags(written: list[str], context: Context) -> list[str]:
    """The tags that a runner must have. Only variables that exist are put in; what is blank then is no tag.

    `ExpandVariables.expand_existing` and `Gitlab::Ci::Tags::TagList`.
    """
    known = context.known()
    tags = [expand(str(tag), known, keep=True).strip() for tag in written]
    return list(dict.fromkeys(filter(None, tags)))


def _needs(definition: Definition, needs: list[Document]) -> list[Document]:
    found = []
    for need in needs:
        copies = [title for title, job in definition.jobs.items() if job.get("parallel_of") == need["job"]]
        found += [need | {"job": title} for title in copies or [need["job"]]]
    return found


def _options(name: str, job: Document, failure: Any, context: Context) -> Document:
    path = f"jobs:{name}"
    options: Document = {key: job[key] for key in OPTIONS if job.get(key) is not None}
    for key in ("before_script", "script", "after_script"):
        options[key] = keywords.script(f"{path}:{key}", job.get(key) or [])
    if job.get("image") is not None:
        options["image"] = keywords.image(f"{path}:image", job["image"])
    options["services"] = keywords.services(f"{path}:services", job.get("services") or [])
    options["cache"] = keywords.caches(f"{path}:cache", job["cache"]) if job.get("cache") else []
    if job.get("retry") is not None:
        options["retry"] = keywords.retry(f"{path}:retry", job["retry"])
    if "start_in" in job:
        options["start_in"] = keywords.duration(f"{path}:start_in", job["start_in"])
    if isinstance(failure, dict):
        options["allow_failure_exit_codes"] = [int(code) for code in keywords.as_list(failure["exit_codes"])]
    if (environment := options.get("environment")) is not None:
        said = {"name": environment} if isinstance(environment, str) else dict(environment)
        options["environment"] = said | {"name": context.expand(str(said["name"]))}
    if (resource := options.get("resource_group")) is not None:
        options["resource_group"] = context.expand(str(resource))
    return options


def lines(job: Document, key: str) -> list[str]:
    """Commands of a job, as one list."""
    return keywords.script(key, job.get(key) or [])
