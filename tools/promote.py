"""Promotion: one environment gets what another one runs, by a plan that was shown, and the repository records it.

The record is a commit of the target's stack file. Its author and date say who and when, its change says what, and its
trailers which commit and which update of the source were promoted. The way back is the stack file before that commit.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from tools import plans
from tools.clients import CheckError, run, try_run
from tools.diff import Comparison, Difference, compare
from tools.environment import ROOT
from tools.progress import ToolError, say
from tools.stack import stack_file
from tools.stack_files import change, read_settings
from tools.verify import verify

#: What an update depends on, beside the stack file.
_PROGRAM: Final = ("__main__.py", "Pulumi.yaml", "components", "requirements.txt", "requirements-kubernetes.txt")


def promote(source: str, target: str, *, keep_secrets: bool, confirmed: bool) -> int:
    """Promote `source` to `target`; 0 if `target` has everything of it in the end.

    Raises:
        ToolError: the source is not fit to be promoted, or the target refuses it. Its stack file is then unchanged.
    """
    if source == target:
        raise ToolError(f"FROM and TO are both {source}; there would be nothing to promote. Name two stacks")
    comparison = compare(read_settings(source), read_settings(target))
    _require_committed(source, target)
    _refuse_secrets(comparison, source, target, keep_secrets=keep_secrets)
    wanted = [one for one in comparison.differences if not one.is_secret or one.is_new]
    if not wanted:
        print(f"{target} has everything that is promoted from {source}")
        return 0
    promoted_update = _require_fit(source)
    _show(comparison, source, target)
    message = (
        f"Promote {source} to {target}\n\n"
        f"Promoted-Commit: {_git('rev-parse', 'HEAD')}\nPromoted-Update: {source} {promoted_update}\n"
    )
    _apply(target, wanted, message, confirmed=confirmed, unchanged=(source, promoted_update))
    return 0


def revert(stack: str, *, confirmed: bool) -> int:
    """Give a stack the promoted settings from before its last promotion; 0 if it has them in the end.

    Raises:
        ToolError: there was no promotion, or the way back is refused. The stack file is then unchanged.
    """
    read_settings(stack)
    _require_committed(stack)
    file = stack_file(stack).relative_to(ROOT)
    found = _git("log", "--max-count=1", f"--grep=^Promote .* to {stack}$", "--format=%H", "--", str(file))
    if not found:
        raise ToolError(f"no commit of {file} is a promotion; there is nothing to go back to")
    with plans.plan_file(f"{stack}-before") as before:
        before.write_text(_git("show", f"{found}^:{file}") + "\n", encoding="utf-8")
        comparison = compare(read_settings(stack, before), read_settings(stack))
    if not comparison.differences:
        print(f"{stack} has the settings from before its last promotion, {found[:12]}")
        return 0
    _show(comparison, f"{found[:12]}^", stack)
    message = f"Take back the last promotion to {stack}\n\nReverted-Commit: {found}\n"
    _apply(stack, list(comparison.differences), message, confirmed=confirmed)
    return 0


def _show(comparison: Comparison, source: str, target: str) -> None:
    print("\n".join(one.text(source, target) for one in comparison.differences), flush=True)


def _apply(
    target: str,
    wanted: Sequence[Difference],
    message: str,
    *,
    confirmed: bool,
    unchanged: tuple[str, int] | None = None,
) -> None:
    """Change the stack file, show the plan, commit the file and apply the plan; put the file back unless it is applied.

    The commit comes first: an update that fails half way can then be taken back as well.
    """
    file = stack_file(target)
    before = file.read_bytes()
    with plans.plan_file(target) as plan:
        try:
            _write(target, wanted)
            plans.preview(target, plan)
            if not (confirmed or plans.confirm(target)):
                raise ToolError("nothing was changed")
            if unchanged and _last_update(unchanged[0]) != unchanged[1]:
                raise ToolError(f"{unchanged[0]} was updated after it was verified; run the command again")
            _git("commit", "--quiet", "--message", message, "--", str(file))
        except BaseException:
            # Ctrl-C as well.
            file.write_bytes(before)
            raise
        say(f"{target}: recorded as commit {_git('rev-parse', '--short', 'HEAD')}; applying the plan")
        plans.apply(target, plan)


def _write(target: str, wanted: Sequence[Difference]) -> None:
    values: dict[str, Any] = {}
    secrets: dict[str, str] = {}
    removed: list[str] = []
    for one in wanted:
        if one.is_secret and one.source is not None:
            secrets[one.path] = one.source
        elif isinstance(one.source, list):
            if not one.source:
                raise ToolError(
                    f"{one.path} is an empty list, which Pulumi cannot set: edit the stack file of {target}"
                )
            removed += [one.path] if one.target is not None else []
            values |= {f"{one.path}[{number}]": value for number, value in enumerate(one.source)}
        elif one.source is None:
            removed.append(one.path)
        else:
            values[one.path] = one.source
    change(target, values, secrets, removed)


def _refuse_secrets(comparison: Comparison, source: str, target: str, *, keep_secrets: bool) -> None:
    """Refuse to replace secrets of the target: each environment usually has its own."""
    differ = [one.path for one in comparison.differences if one.is_secret and not one.is_new]
    if differ and not keep_secrets:
        lines = "\n".join(f"  - {path}" for path in differ)
        raise ToolError(
            f"secrets of {source} and {target} differ; a promotion would replace those of {target}, which may have its "
            "own. Set them with pulumi config set --secret --path, or leave them as they are with KEEP_SECRETS=yes:\n"
            f"{lines}"
        )


def _require_committed(*stacks: str) -> None:
    files = [str(stack_file(stack).relative_to(ROOT)) for stack in stacks]
    if changed := _git("status", "--porcelain", "--", *_PROGRAM, *files):
        raise ToolError(
            "not everything is committed, so no record could say what was promoted; nothing was changed. "
            f"Commit or undo first:\n{changed}"
        )


def _require_fit(source: str) -> int:
    """Require a source that is up to date, healthy, and the same before and after; returns the number of its update."""
    update = _last_update(source)
    say(f"{source}: is it up to date with its stack file?")
    words = ("preview", "--stack", source, "--expect-no-changes", "--non-interactive")
    done = try_run("pulumi", *words, timeout=600, cwd=ROOT)
    if done.returncode != 0:
        raise ToolError(
            f"{source} is not up to date with its stack file and this program, so it is not what would be promoted. "
            f"Run make up STACK={source} first:\n{_last_lines(done.stdout + done.stderr)}"
        )
    say(f"{source}: is it healthy?")
    if verify(source) != 0:
        raise ToolError(f"{source} is not healthy (see above); nothing was changed. Fix it, and run make verify first")
    if _last_update(source) != update:
        raise ToolError(f"{source} was updated meanwhile; run the command again")
    return update


def _last_update(stack: str) -> int:
    """The number of the last update of a stack, of whatever kind, that changed its state."""
    try:
        history = json.loads(run("pulumi", "stack", "history", "--stack", stack, "--json", "--page-size", "1"))
    except CheckError as error:
        raise ToolError(f"stack {stack} cannot be read: {error}") from error
    if not history:
        raise ToolError(f"stack {stack} has not been deployed; there is nothing to promote. Run make up STACK={stack}")
    if (result := history[0]["result"]) != "succeeded":
        raise ToolError(f"the last update of {stack} {result}; fix that first, with make up STACK={stack}")
    return int(history[0]["version"])


def _last_lines(output: str) -> str:
    lines = [line for line in output.splitlines() if re.search(r"\S", line)]
    return "\n".join(f"  {line}" for line in lines[-12:])


def _git(*words: str, cwd: Path = ROOT) -> str:
    done = try_run("git", *words, cwd=cwd)
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise ToolError(f"git {words[0]} failed: {said[-1] if said else done.returncode}")
    return done.stdout.rstrip()
