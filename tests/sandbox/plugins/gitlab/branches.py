"""Branches, their protection, and files in a repository."""

from __future__ import annotations

import base64
import hashlib
import threading
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

from tests.sandbox.plugins.base.framework import Call, Failure, Field, Fields, Kind, PluginError, Resource, made
from tests.sandbox.plugins.base.properties import Properties, Unknown
from tests.sandbox.plugins.gitlab.names import ACCESS_LEVELS, camel, level_name
from tests.sandbox.plugins.gitlab.session import ApiError, project_path, segment, session_of, split

_COMMIT = (
    "id", "short_id", "title", "message", "parent_ids",
    "author_name", "author_email", "authored_date", "committer_name", "committer_email", "committed_date",
)  # fmt: skip
_LEVELS = ("no one", "developer", "maintainer", "admin")


class Branch(Resource):
    """A branch, made from another branch, a tag or a commit. Where it was made from cannot be read later."""

    full_name = "gitlab:index/branch:Branch"
    autoname = True
    inputs: ClassVar[Fields] = {
        "project": Field(required=True, replace=True),
        "name": Field(replace=True),
        "ref": Field(required=True, replace=True),
        "keepOnDestroy": Field(Kind.BOOLEAN, default=False),
    }
    outputs = (
        "canPush", "commits", "default", "developerCanMerge", "developerCanPush", "merged", "protected", "webUrl",
    )  # fmt: skip

    def create(self, call: Call, inputs: Properties) -> tuple[str, Properties]:
        project, name = inputs["project"], inputs["name"]
        body = {"branch": name, "ref": inputs["ref"]}
        branch = session_of(call).post(project_path(project, "repository/branches"), body)
        return f"{project}:{name}", self._state(project, branch)

    def read(self, call: Call, identifier: str, state: Properties) -> tuple[str, Properties] | None:
        del state
        project, name = split(identifier, "project", "name")
        found = session_of(call).find(self._path(project, name))
        return found and (identifier, self._state(project, found))

    def update(self, call: Call, identifier: str, old: Properties, inputs: Properties) -> Properties:
        del inputs
        # Only `keepOnDestroy` changes in place, and GitLab knows nothing of it.
        found = self.read(call, identifier, old)
        if found is None:
            raise PluginError(f"branch {identifier} does not exist any more")
        return found[1]

    def delete(self, call: Call, identifier: str, state: Properties) -> None:
        if not state.get("keepOnDestroy"):
            session_of(call).delete(self._path(*split(identifier, "project", "name")))

    def _path(self, project: str, name: str) -> str:
        return project_path(project, "repository/branches", segment(name))

    def _state(self, project: str, branch: Properties) -> Properties:
        commit = branch.get("commit") or {}
        return {
            "project": project,
            "name": branch["name"],
            "canPush": branch["can_push"],
            "commits": [{camel(name): commit.get(name) for name in _COMMIT}],
            "default": branch["default"],
            "developerCanMerge": branch["developers_can_merge"],
            "developerCanPush": branch["developers_can_push"],
            "merged": branch["merged"],
            "protected": branch["protected"],
            "webUrl": branch["web_url"],
        }


class BranchProtection(Resource):
    """Who may push to a branch and merge into it; without what only the Enterprise Edition has.

    GitLab protects the default branch of a new project by itself: that protection is taken over. Another one that is
    there already is an error. A replacement needs `delete_before_replace`: there is one protection to a branch, and
    deleting the old one last would remove the new.
    """

    full_name = "gitlab:index/branchProtection:BranchProtection"
    inputs: ClassVar[Fields] = {
        "project": Field(required=True, replace=True),
        "branch": Field(required=True, replace=True),
        "mergeAccessLevel": Field(default="maintainer", choices=_LEVELS, replace=True),
        "pushAccessLevel": Field(default="maintainer", choices=_LEVELS, replace=True),
        "allowForcePush": Field(Kind.BOOLEAN, default=False),
    }
    outputs = ("branchProtectionId",)

    def create(self, call: Call, inputs: Properties) -> tuple[str, Properties]:
        session, project, branch = session_of(call), inputs["project"], inputs["branch"]
        if session.find(self._path(project, branch)) is not None:
            if session.get(project_path(project))["default_branch"] != branch:
                raise PluginError(f"branch {branch} of project {project} is protected already")
            session.delete(self._path(project, branch))
        body = {
            "name": branch,
            "push_access_level": ACCESS_LEVELS[inputs["pushAccessLevel"]],
            "merge_access_level": ACCESS_LEVELS[inputs["mergeAccessLevel"]],
            "allow_force_push": inputs["allowForcePush"],
        }
        protection = session.post(project_path(project, "protected_branches"), body)
        return f"{project}:{branch}", self._state(project, protection)

    def read(self, call: Call, identifier: str, state: Properties) -> tuple[str, Properties] | None:
        del state
        project, branch = split(identifier, "project", "branch")
        found = session_of(call).find(self._path(project, branch))
        return found and (identifier, self._state(project, found))

    def update(self, call: Call, identifier: str, old: Properties, inputs: Properties) -> Properties:
        del old
        project, branch = split(identifier, "project", "branch")
        body = {"allow_force_push": inputs["allowForcePush"]}
        return self._state(project, session_of(call).patch(self._path(project, branch), body))

    def delete(self, call: Call, identifier: str, state: Properties) -> None:
        del state
        session_of(call).delete(self._path(*split(identifier, "project", "branch")))

    def _path(self, project: str, branch: str) -> str:
        return project_path(project, "protected_branches", segment(branch))

    def _state(self, project: str, protection: Properties) -> Properties:
        state = {
            "project": project,
            "branch": protection["name"],
            "allowForcePush": bool(protection.get("allow_force_push")),
            "branchProtectionId": protection["id"],
        }
        for name, levels in (("pushAccessLevel", "push_access_levels"), ("mergeAccessLevel", "merge_access_levels")):
            for level in protection.get(levels) or []:
                # Levels of single users, groups and keys are of the Enterprise Edition.
                if not (level.get("user_id") or level.get("group_id") or level.get("deploy_key_id")):
                    state[name] = level_name(level["access_level"])
                    break
        return state


_MESSAGES = ("createCommitMessage", "updateCommitMessage", "deleteCommitMessage")
#: GitLab refuses a commit while another one to the same branch is being made.
_BUSY = "Please refresh and try again"


class RepositoryFile(Resource):
    """A file in a repository. Making, changing and removing it is one commit each, and these never run at once."""

    full_name = "gitlab:index/repositoryFile:RepositoryFile"
    inputs: ClassVar[Fields] = {
        "project": Field(required=True, replace=True),
        "branch": Field(required=True, replace=True),
        "filePath": Field(required=True, replace=True),
        "content": Field(required=True),
        "encoding": Field(required=True, choices=("base64", "text")),
        "commitMessage": Field(),
        **{name: Field() for name in _MESSAGES},
        "authorEmail": Field(),
        "authorName": Field(),
        "executeFilemode": Field(Kind.BOOLEAN),
        "overwriteOnCreate": Field(Kind.BOOLEAN),
        "startBranch": Field(),
    }
    outputs = ("blobId", "commitId", "contentSha256", "fileName", "lastCommitId", "ref", "size")
    changed_by_update = frozenset({"blobId", "commitId", "contentSha256", "lastCommitId", "size"})
    _one_at_a_time = threading.Lock()

    def validate(self, inputs: Properties) -> Iterable[Failure]:
        given = [name for name in _MESSAGES if inputs.get(name)]
        if inputs.get("commitMessage"):
            if given:
                yield Failure("commitMessage", f"conflicts with {', '.join(given)}")
        elif len(given) < len(_MESSAGES):
            yield Failure("commitMessage", f"it is missing, and so is at least one of {', '.join(_MESSAGES)}")
        path = inputs["filePath"]
        if not isinstance(path, Unknown) and path.startswith(("/", "./")):
            yield Failure("filePath", "must be relative to the top of the repository, without / or ./ before it")

    def create(self, call: Call, inputs: Properties) -> tuple[str, Properties]:
        project, branch, path = inputs["project"], inputs["branch"], inputs["filePath"]
        address = self._address(project, path)

        def commit() -> None:
            found = self._find(call, project, branch, path) if inputs.get("overwriteOnCreate") else None
            if found is None:
                session_of(call).post(address, self._body(inputs, "createCommitMessage"))
            else:
                body = self._body(inputs, "updateCommitMessage")
                session_of(call).put(address, {**body, "last_commit_id": found["last_commit_id"]})

        self._commit(call, commit, path)
        identifier = f"{project}:{branch}:{path}"
        with made(identifier, inputs):
            return identifier, self._required(call, project, branch, path, inputs)

    def read(self, call: Call, identifier: str, state: Properties) -> tuple[str, Properties] | None:
        project, branch, path = split(identifier, "project", "branch", "file path")
        found = self._find(call, project, branch, path)
        return None if found is None else (identifier, self._state(project, branch, found, state))

    def update(self, call: Call, identifier: str, old: Properties, inputs: Properties) -> Properties:
        del old
        project, branch, path = split(identifier, "project", "branch", "file path")

        def commit() -> None:
            found = self._find(call, project, branch, path)
            if found is None:
                raise PluginError(f"{path} is not on branch {branch} of project {project} any more")
            body = self._body(inputs, "updateCommitMessage")
            session_of(call).put(self._address(project, path), {**body, "last_commit_id": found["last_commit_id"]})

        self._commit(call, commit, path)
        return self._required(call, project, branch, path, inputs)

    def delete(self, call: Call, identifier: str, state: Properties) -> None:
        project, branch, path = split(identifier, "project", "branch", "file path")
        message = f"[DELETE]: {state['commitMessage']}" if state.get("commitMessage") else state["deleteCommitMessage"]

        def commit() -> None:
            found = self._find(call, project, branch, path)
            if found is None:
                return
            query = {
                "branch": branch,
                "commit_message": message,
                "author_email": state.get("authorEmail"),
                "author_name": state.get("authorName"),
                "last_commit_id": found["last_commit_id"],
            }
            given = {name: value for name, value in query.items() if value is not None}
            session_of(call).delete(self._address(project, path), given)

        self._commit(call, commit, path)

    def _commit(self, call: Call, commit: Callable[[], None], path: str) -> None:
        def made() -> bool:
            try:
                with self._one_at_a_time:
                    commit()
            except ApiError as error:
                if error.code == 400 and _BUSY in error.message:
                    return False
                raise
            return True

        call.wait_until(f"the commit of {path}", made, timeout=60)

    def _address(self, project: str, path: str) -> str:
        return project_path(project, "repository/files", segment(path))

    def _find(self, call: Call, project: str, branch: str, path: str) -> Properties | None:
        found: Properties | None = session_of(call).find(self._address(project, path), {"ref": branch})
        return found

    def _required(self, call: Call, project: str, branch: str, path: str, inputs: Properties) -> Properties:
        found = session_of(call).get(self._address(project, path), {"ref": branch})
        return self._state(project, branch, found, inputs)

    def _body(self, inputs: Properties, message: str) -> Properties:
        body = {
            "branch": inputs["branch"],
            "content": inputs["content"],
            "encoding": inputs["encoding"],
            "commit_message": inputs.get("commitMessage") or inputs[message],
            "author_email": inputs.get("authorEmail"),
            "author_name": inputs.get("authorName"),
            "execute_filemode": inputs.get("executeFilemode"),
            "start_branch": inputs.get("startBranch"),
        }
        return {name: value for name, value in body.items() if value is not None}

    def _state(self, project: str, branch: str, file: Properties, known: Properties) -> Properties:
        state: Properties = {
            "project": project,
            "branch": branch,
            "filePath": file["file_path"],
            "fileName": file["file_name"],
            "ref": file["ref"],
            "size": file["size"],
            "blobId": file["blob_id"],
            "commitId": file["commit_id"],
            "lastCommitId": file["last_commit_id"],
            **self._content(file, known.get("encoding")),
        }
        if "execute_filemode" in file:
            state["executeFilemode"] = bool(file["execute_filemode"])
        return state

    def _content(self, file: Properties, encoding: Any) -> Properties:
        """The API returns the content in base64, whatever it was sent in."""
        content = base64.b64decode(file["content"])
        digest = file.get("content_sha256") or hashlib.sha256(content).hexdigest()
        if encoding == "text":
            return {"content": content.decode(errors="replace"), "encoding": "text", "contentSha256": digest}
        return {"content": file["content"], "encoding": "base64", "contentSha256": digest}
