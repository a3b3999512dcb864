"""Names that GitLab and git have rules for: project and group paths, branches, jobs. What they accept is accepted."""

from __future__ import annotations

import re
from typing import Annotated, Final

from pydantic import AfterValidator

from components.settings.shown import shown

#: The user that every installation of GitLab starts with, as which the stack works: also the namespace of a project
#: without a group.
ADMINISTRATOR: Final = "root"
#: GitLab's own pages have these names below a project's URL (`lib/gitlab/path_regex.rb`, in any case).
_RESERVED_PATHS: Final = frozenset(
    {"badges", "blame", "blob", "builds", "commits", "create", "create_dir", "edit", "files", "find_file", "new"}
    | {"preview", "raw", "refs", "tree", "update", "wikis"}
)
#: The same at the top, where groups and users are.
_RESERVED_AT_THE_TOP: Final = frozenset(
    {".well-known", "404.html", "422.html", "500.html", "502.html", "503.html", "admin", "api", "assets", "dashboard"}
    | {"deploy.html", "explore", "favicon.ico", "favicon.png", "files", "groups", "health_check", "help", "import"}
    | {"jwt", "login", "oauth", "profile", "projects", "public", "robots.txt", "s", "search", "sitemap", "sitemap.xml"}
    | {"sitemap.xml.gz", "snippets", "unsubscribes", "uploads", "users", "v2"}
)
_LONGEST_NAME: Final = 255
#: The deploy token's user name is the path and a suffix, within GitLab's 255 characters.
_LONGEST_PATH: Final = 250
#: `lib/gitlab/ci/config/entry/processable.rb`, and the column of the database.
_LONGEST_JOB: Final = 255
#: Keywords of `.gitlab-ci.yml`; `pages` is one as the name of a job.
_KEYWORDS: Final = frozenset(
    {"after_script", "before_script", "cache", "default", "image", "include", "pages", "pages:deploy", "services"}
    | {"stages", "variables", "workflow"}
)
#: What YAML reads as true, false or nothing unless it is quoted, in any case.
_YAML_WORDS: Final = frozenset({"y", "yes", "n", "no", "true", "false", "on", "off", "null", "nil", "~"})
_OWN_JOBS: Final = frozenset({"build", "test", "release"})
#: What `git check-ref-format --branch` and GitLab reject as a branch.
_NO_BRANCH: Final = re.compile(
    r"""-.* | HEAD | @ | refs/(heads|remotes)/.*      # as a whole
    | .*[\x00-\x20\x7f~^:?*\[\\].* | .*\.\..* | .*@\{.*
    | /.* | .*/ | .*//.* | .*\.                       # an empty component, or a dot at the end
    | (.*/)?\..* | (.*/)?[^/]*\.lock(/.*)?            # a component such as .hidden or name.lock
    | ([0-9a-fA-F]{40}|[0-9a-fA-F]{64})([/-].*)?      # could be mistaken for a commit""",
    re.VERBOSE | re.DOTALL,
)
_LONGEST_BRANCH: Final = 255


def ref_slug(ref: str) -> str:
    """A branch or tag as GitLab writes it in lowercase letters, digits and dashes (`CI_COMMIT_REF_SLUG`)."""
    return re.sub(r"[^a-z0-9]", "-", ref.lower())[:63].strip("-")


def _project_path(value: str) -> str:
    if not re.fullmatch(r"[a-zA-Z0-9]+([._-][a-zA-Z0-9]+)*", value) or len(value) > _LONGEST_PATH:
        message = (
            "is not the path of a project; GitLab would reject it. Use at most "
            f"{_LONGEST_PATH} letters and digits, with single dots, dashes or underscores between them"
        )
        raise ValueError(message)
    if value.endswith((".git", ".atom")):
        message = f"{shown(value)} ends in .git or .atom; GitLab would reject it. Use it without the ending"
        raise ValueError(message)
    if value.lower() in _RESERVED_PATHS:
        message = f"{shown(value)} is reserved for GitLab's own pages; GitLab would reject it. Choose another name"
        raise ValueError(message)
    return value


def _branch(value: str) -> str:
    if not value or _NO_BRANCH.fullmatch(value) or len(value.encode()) > _LONGEST_BRANCH:
        message = (
            f"{shown(value)} is not a branch name; git or GitLab would reject it. "
            "Use one such as main or release/1.0 (rules: git check-ref-format)"
        )
        raise ValueError(message)
    return value


def _job(value: str) -> str:
    if not value.strip() or not value.isprintable() or len(value) > _LONGEST_JOB:
        message = (
            f"is not the name of a job; GitLab would reject it. Use at most {_LONGEST_JOB} characters on one line, "
            "such as deploy"
        )
        raise ValueError(message)
    if value.startswith("."):
        message = f"{shown(value)} starts with a dot; GitLab would hide the job and never run it. Remove the dot"
        raise ValueError(message)
    if value in _OWN_JOBS:
        message = f"{shown(value)} is already a stage; there would be two stages of that name. Choose another name"
        raise ValueError(message)
    if value in _KEYWORDS:
        message = (
            f"{shown(value)} is a keyword of .gitlab-ci.yml; GitLab would not read it as an ordinary job, and "
            "pipelines would fail. Choose another name"
        )
        raise ValueError(message)
    if value.lower() in _YAML_WORDS:
        message = (
            f"{shown(value)} is read as true, false or nothing in YAML; GitLab would not find the job. "
            "Choose another name"
        )
        raise ValueError(message)
    return value


def _group(value: str) -> str:
    first, *rest = value.lower().split("/")
    names = re.fullmatch(r"[a-zA-Z0-9_.][\w.-]*(/[a-zA-Z0-9_.][\w.-]*)*", value, re.ASCII)
    if not names or any(len(one) > _LONGEST_NAME or one.endswith((".git", ".atom", ".")) for one in [first, *rest]):
        message = (
            "is not the path of a group; no group could be found. "
            "Use the path from the group's URL, such as team or team/sub"
        )
        raise ValueError(message)
    if first in _RESERVED_AT_THE_TOP or not _RESERVED_PATHS.isdisjoint(rest):
        message = (
            f"{shown(value)} is an address of GitLab's own pages; no group can have it. "
            "Use the path from the group's URL, such as team or team/sub"
        )
        raise ValueError(message)
    return value


ProjectPath = Annotated[str, AfterValidator(_project_path)]
Group = Annotated[str, AfterValidator(_group)]
Branch = Annotated[str, AfterValidator(_branch)]
StageName = Annotated[str, AfterValidator(_job)]
