"""The note on a merge request: one for each stack, rewritten by later pipelines, without secrets."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tools import ci_note
from tools.progress import ToolError

ENVIRONMENT = {
    "CI_API_V4_URL": "https://gitlab.example.com/api/v4",
    "CI_PROJECT_ID": "7",
    "CI_MERGE_REQUEST_IID": "3",
    "CI_PIPELINE_ID": "41",
    "CI_COMMIT_SHA": "0123456789abcdef0123456789abcdef01234567",
    "CI_JOB_URL": "https://gitlab.example.com/ops/slipway/-/jobs/90",
    "NOTES_TOKEN": "glpat-notes",
}
JOB = ci_note.Job.here(ENVIRONMENT)
OUTPUT = """Previewing update (staging):
    ~ command:remote:Command: (update)
      ~ triggers: [
          - registry['gc'] = 24h
          + registry['gc'] = 48h
Resources:
    + 2 to create
    ~ 1 to update
    +-1 to replace
    4 changes. 90 unchanged
"""


def note(output: str, *, succeeded: bool = True, secrets: tuple[str, ...] = ()) -> str:
    return ci_note.body(JOB, "staging", output, succeeded=succeeded, secrets=list(secrets))


def fenced(text: str) -> str:
    """What a reader sees as verbatim text."""
    opening = re.search(r"^(`{3,})text$", text, re.MULTILINE)
    assert opening
    inside, closing, _ = text[opening.end() + 1 :].partition(f"\n{opening[1]}\n")
    assert closing
    return inside


def test_a_note_says_what_would_change_from_which_commit_and_where_the_log_is() -> None:
    text = note(OUTPUT)
    assert "### staging: 2 to create, 1 to update, 1 to replace\n" in text
    assert ENVIRONMENT["CI_COMMIT_SHA"] in text
    assert ENVIRONMENT["CI_JOB_URL"] in text
    assert fenced(text) == OUTPUT.strip("\n")
    assert "### staging: nothing to change\n" in note("Resources:\n    93 unchanged\n")


def test_a_preview_that_is_refused_is_shown_unfolded() -> None:
    text = note("error: server.size: is not a size\n", succeeded=False)
    assert "### staging: refused\n" in text
    assert "<details open>" in text
    assert fenced(text) == "error: server.size: is not a size"


@pytest.mark.parametrize(
    "line", ["```", "``````", "```text\n</details>\n````", "/close\n@all", "<!-- x -->", "\x1b[31mred\x1b[0m \x00"]
)
def test_nothing_in_a_diff_ends_the_verbatim_text(line: str) -> None:
    text = note(f"before\n{line}\nafter\n")
    assert fenced(text).startswith("before\n")
    assert fenced(text).endswith("\nafter")
    assert "\x1b" not in text
    assert "\x00" not in text


def test_secrets_are_masked_by_value_the_longest_first(tmp_path: Path) -> None:
    passphrase = tmp_path / "passphrase"
    passphrase.write_text("open sesame, and then some\n")
    environment = ENVIRONMENT | {
        "DIGITALOCEAN_TOKEN": "dop_v1_abc",
        "AWS_SECRET_ACCESS_KEY": "dop_v1_abcdef",
        "PULUMI_CONFIG_PASSPHRASE_FILE": str(passphrase),
    }
    output = "a dop_v1_abcdef b dop_v1_abc c glpat-notes d open sesame, and then some"
    assert fenced(note(output, secrets=tuple(ci_note.secret_values(environment)))) == (
        "a [masked] b [masked] c [masked] d [masked]"
    )


@pytest.mark.parametrize("succeeded", [True, False])
def test_a_long_preview_is_cut_at_a_line_and_points_to_the_log(succeeded: bool) -> None:
    lines = [f"line {number} of the preview" for number in range(9000)]
    text = note("\n".join(lines), succeeded=succeeded)
    assert len(text) < ci_note.LONGEST + 1000
    shown = fenced(text).splitlines()
    # What a preview ends with is why it was refused.
    assert shown == (lines[: len(shown)] if succeeded else lines[-len(shown) :])
    assert re.search(r"\d+ characters are left out here; the \[log of the job\]\(https", text)


def test_a_job_without_the_token_for_notes_says_what_sets_it() -> None:
    with pytest.raises(ToolError, match=r"NOTES_TOKEN is not set.*make pipeline"):
        ci_note.Job.here(ENVIRONMENT | {"NOTES_TOKEN": ""})
    with pytest.raises(ToolError, match="CI_MERGE_REQUEST_IID: not set"):
        ci_note.Job.here({name: value for name, value in ENVIRONMENT.items() if name != "CI_MERGE_REQUEST_IID"})


class Note:
    """A note in GitLab, that knows whether it was saved."""

    def __init__(self, body: str, author: int) -> None:
        self.body, self.author, self.saved = body, {"id": author}, 0

    def save(self) -> None:
        self.saved += 1


class MergeRequest:
    """A merge request whose notes are in memory; the owner of the token is user 5."""

    def __init__(self, *notes: Note) -> None:
        self.all = list(notes)
        self.notes = self.manager = self.gitlab = self.user = self
        self.id = 5

    def list(self, **_: Any) -> list[Note]:
        return self.all

    def create(self, fields: dict[str, str]) -> None:
        self.all.append(Note(fields["body"], self.id))


def published(monkeypatch: pytest.MonkeyPatch, request: MergeRequest, text: str) -> list[str]:
    monkeypatch.setattr(ci_note.Job, "merge_request_of", lambda _: request)
    ci_note.publish(JOB, "staging", text)
    return [one.body for one in request.all]


def marked(stack: str, pipeline: int, author: int = 5) -> Note:
    return Note(f"<!-- slipway preview of {stack}, pipeline {pipeline} -->\nearlier", author)


def test_a_later_pipeline_rewrites_the_note_of_its_stack_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    other, foreign, own = marked("production", 40), marked("staging", 40, author=9), marked("staging", 40)
    request = MergeRequest(Note("looks good", 9), other, foreign, own)
    text = note(OUTPUT)
    assert published(monkeypatch, request, text)[1:] == [other.body, foreign.body, text]
    assert (other.saved, foreign.saved, own.saved) == (0, 0, 1)


def test_the_first_pipeline_writes_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    assert published(monkeypatch, MergeRequest(), "text") == ["text"]


def test_an_earlier_pipeline_that_ends_last_leaves_the_note_of_the_later_one(monkeypatch: pytest.MonkeyPatch) -> None:
    later = marked("staging", 42)
    assert published(monkeypatch, MergeRequest(later), note(OUTPUT)) == [later.body]
    assert later.saved == 0
