"""Pipelines as GitLab would read them, before they are committed: one that it cannot run is refused at preview.

The settings refuse names that GitLab has rules for. This reads the rendered text, so that nothing depends on the rules
being complete, nor on the template. Sources: `lib/gitlab/ci/config` and `lib/gitlab/config/loader` of GitLab.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping
from typing import Any, Final

import yaml

from components.build_pipeline import pipeline_of
from components.delivery import builder_of, protected_tag_of, runs_on_cluster
from components.settings import Reading
from components.settings.shown import shown

#: Keywords at the top level; `pages` is a job that publishes a folder.
_KEYWORDS: Final = frozenset(
    {"after_script", "before_script", "cache", "default", "image", "include", "services", "spec", "stages", "variables"}
    | {"workflow"}
)
#: Characters, `Gitlab::Ci::Config::Entry::Processable`.
_LONGEST_NAME: Final = 255
#: Bytes, the application setting `max_yaml_size_bytes`.
_LARGEST_FILE: Final = 2 * 2**20


class _Loader(yaml.SafeLoader):
    """Refuses a mapping with two equal keys, of which GitLab would keep the last one without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Construct a mapping whose keys are different."""
        keys = Counter(self.construct_object(key, deep=True) for key, _ in node.value)
        for key, count in keys.items():
            if count > 1:
                message = f"there are two entries called {shown(key)}"
                raise yaml.constructor.ConstructorError(None, None, message, node.start_mark)
        return super().construct_mapping(node, deep)


def pipeline_errors(reading: Reading) -> Iterator[str]:
    """Errors for projects whose pipeline GitLab would not read or not run, among those that are valid otherwise."""
    settings = reading.settings
    for place, project in enumerate(settings.projects):
        path = f"projects[{place}]"
        if project.has_pipeline and reading.has("runners", "supplyChain", path):
            tag = protected_tag_of(project, settings.runners)
            text = pipeline_of(
                project,
                *builder_of(project, settings.runners),
                tag,
                settings.supply_chain,
                on_cluster=runs_on_cluster(project, settings.runners),
            )
            for problem in problems(text):
                yield (
                    f"{path}.extraStages: give a pipeline that GitLab would refuse, because {problem}; no job would "
                    "run. Change the names or the commands of the stages"
                )


def problems(text: str) -> Iterator[str]:
    """Why GitLab would refuse the text of a pipeline, or would lose a part of it; nothing if it would run."""
    if len(text.encode()) > _LARGEST_FILE:
        yield f"it has more than {_LARGEST_FILE} bytes"
        return
    try:
        document = yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        reason = getattr(error, "problem", None) or getattr(error, "reason", None) or error
        yield f"it cannot be read ({shown(reason)})"
        return
    if not isinstance(document, dict):
        yield "it is not a section"
        return
    yield from _name_problems(document)
    jobs = {str(name): job for name, job in document.items() if name not in _KEYWORDS and not _is_hidden(name)}
    yield from _stage_problems(document.get("stages"), jobs)
    for name, job in jobs.items():
        yield from _job_problems(name, job)


def _is_hidden(name: object) -> bool:
    return str(name).startswith(".")


def _name_problems(document: Mapping[object, Any]) -> Iterator[str]:
    for name, value in document.items():
        if not isinstance(name, str):
            yield f"the job {shown(name)} is not called by a text"
        elif name in _KEYWORDS and isinstance(value, Mapping) and "script" in value:
            yield f"{name} is a keyword, not a job"
        elif not name.strip():
            yield "a job has no name"
        elif len(name) > _LONGEST_NAME:
            yield f"the name of the job {shown(name)} is too long"
        elif _is_hidden(name):
            yield f"the job {shown(name)} is hidden"


def _stage_problems(stages: object, jobs: Mapping[str, Any]) -> Iterator[str]:
    if not isinstance(stages, list) or not all(isinstance(one, str) and one for one in stages):
        yield "its stages are not a list of names"
        return
    yield from (f"there are two stages called {shown(name)}" for name, count in Counter(stages).items() if count > 1)
    used = {job.get("stage") for job in jobs.values() if isinstance(job, Mapping)}
    yield from (f"no job is in the stage {shown(name)}" for name in stages if name not in used)
    for name, job in jobs.items():
        if isinstance(job, Mapping) and job.get("stage") not in stages:
            yield f"the stage of the job {shown(name)} is none of its stages"


def _job_problems(name: str, job: object) -> Iterator[str]:
    if not isinstance(job, Mapping):
        yield f"{shown(name)} is not a job"
        return
    script = job.get("script")
    if not isinstance(script, list) or not script or not all(isinstance(line, str) for line in script):
        yield f"the script of the job {shown(name)} is not a list of commands"
    if job.get("tags"):
        yield f"the job {shown(name)} has tags, which its runners may not have"
