"""The comment of a pipeline on a merge request: what a preview shows, in one note a stack, which later ones rewrite."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import gitlab
from gitlab.v4.objects import ProjectMergeRequest

from tools.clients import gitlab_client
from tools.progress import ToolError

#: GitLab takes notes of up to 1,000,000 characters (`Note::MAX_NOTE_LENGTH`), and shows such a one slowly.
LONGEST: Final = 60_000
#: The token that posts notes: a job's own token may not.
TOKEN: Final = "NOTES_TOKEN"  # noqa: S105 - the name of a variable
#: Variables whose values never leave a job. GitLab masks them in logs, and in nothing else.
SECRETS: Final = (
    "DIGITALOCEAN_TOKEN",
    "PULUMI_ACCESS_TOKEN",
    "PULUMI_CONFIG_PASSPHRASE",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "SPACES_ACCESS_KEY_ID",
    "SPACES_SECRET_ACCESS_KEY",
)
_COUNTS: Final = re.compile(r"^ {4}[-+~=<> ]*(\d+ to [a-z]+)$", re.MULTILINE)
#: Colors and other control sequences, and characters that a note cannot have.
_CONTROL: Final = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f]")
_MARKER: Final = re.compile(r"<!-- slipway preview of (?P<stack>\S+), pipeline (?P<pipeline>\d+) -->")


@dataclass(frozen=True)
class Job:
    """The job that this process runs in, by GitLab's predefined variables."""

    api_url: str
    project: str
    merge_request: str
    pipeline: int
    commit: str
    url: str
    token: str = field(repr=False)
    ca_certificate: str | None = None

    @classmethod
    def here(cls, environment: Mapping[str, str] = os.environ) -> Job:
        """Read the variables of the job.

        Raises:
            ToolError: this is no job of a merge request, or the token for notes is missing.
        """
        names = ("CI_API_V4_URL", "CI_PROJECT_ID", "CI_MERGE_REQUEST_IID", "CI_PIPELINE_ID", "CI_COMMIT_SHA")
        missing = [name for name in (*names, "CI_JOB_URL") if not environment.get(name)]
        if missing:
            raise ToolError(f"{', '.join(missing)}: not set. This command runs in a job of a merge request's pipeline")
        if not environment.get(TOKEN):
            raise ToolError(
                f"{TOKEN} is not set, so the preview cannot be posted. Run make pipeline for this stack, which sets it"
            )
        api_url, project, merge_request, pipeline, commit = (environment[name] for name in names)
        url, token = environment["CI_JOB_URL"], environment[TOKEN]
        # The runner passes on the authority that it was given for GitLab itself.
        file = environment.get("CI_SERVER_TLS_CA_FILE")
        roots = Path(file).read_text(encoding="utf-8") if file else None
        return cls(api_url, project, merge_request, int(pipeline), commit, url, token, roots)

    def merge_request_of(self) -> ProjectMergeRequest:
        """The merge request, as the owner of the token for notes sees it."""
        client = gitlab_client(self.api_url.removesuffix("/api/v4"), self.token, ca_certificate=self.ca_certificate)
        return client.projects.get(self.project, lazy=True).mergerequests.get(self.merge_request)


def secret_values(environment: Mapping[str, str] = os.environ) -> list[str]:
    """The values that a note must not have, the longest first."""
    found = [environment.get(name, "") for name in (*SECRETS, TOKEN, "CI_JOB_TOKEN")]
    if file := environment.get("PULUMI_CONFIG_PASSPHRASE_FILE"):
        found.append(Path(file).read_text(encoding="utf-8").strip())
    return sorted({value for value in found if value}, key=len, reverse=True)


def body(job: Job, stack: str, output: str, *, succeeded: bool, secrets: list[str]) -> str:
    """The note about a preview: what it would do in one line, from which commit, and the output, folded."""
    clean = _CONTROL.sub("", output)
    for value in secrets:
        clean = clean.replace(value, "[masked]")
    changes = _COUNTS.findall(clean.rpartition("\nResources:\n")[2])
    summary = "refused" if not succeeded else ", ".join(changes) or "nothing to change"
    shown, left_out = _shortened(clean.strip("\n"), keep_end=not succeeded)
    more = f"\n\n{left_out} characters are left out here; the [log of the job]({job.url}) has all." if left_out else ""
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", shown)), default=0))
    return (
        f"<!-- slipway preview of {stack}, pipeline {job.pipeline} -->\n"
        f"### {stack}: {summary}\n\n"
        f"Preview of commit {job.commit}, by [this job]({job.url}). Nothing was changed.\n\n"
        f"<details{'' if succeeded else ' open'}><summary>{'Changes' if succeeded else 'Why'}</summary>\n\n"
        f"{fence}text\n{shown}\n{fence}{more}\n\n</details>"
    )


def publish(job: Job, stack: str, text: str) -> None:
    """Write the note of a stack, in the place of the one of earlier pipelines. One of a later pipeline stays.

    Raises:
        ToolError: GitLab does not accept it.
    """
    try:
        merge_request = job.merge_request_of()
        for note in merge_request.notes.list(iterator=True, order_by="created_at", sort="asc"):
            found = _MARKER.match(str(note.body))
            if found is None or found["stack"] != stack or not _is_own(note.author, merge_request):
                continue
            if int(found["pipeline"]) <= job.pipeline:
                note.body = text
                note.save()
            return
        merge_request.notes.create({"body": text})
    except gitlab.GitlabError as error:
        raise ToolError(f"the preview could not be posted on the merge request ({error}). Check {TOKEN}") from error


def _is_own(author: Mapping[str, object], merge_request: ProjectMergeRequest) -> bool:
    """Whether the owner of the token wrote it: anybody can write a note with the marker, which only they may change."""
    client = merge_request.manager.gitlab
    if client.user is None:
        client.auth()
    return client.user is not None and author.get("id") == client.user.id


def _shortened(text: str, *, keep_end: bool) -> tuple[str, int]:
    if len(text) <= LONGEST:
        return text, 0
    kept = text[-LONGEST:] if keep_end else text[:LONGEST]
    # At the end of a line.
    kept = kept.partition("\n")[2] or kept if keep_end else kept.rpartition("\n")[0] or kept
    return kept, len(text) - len(kept)
