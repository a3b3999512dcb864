"""Projects."""

from __future__ import annotations

import json
from typing import Any

from starlette.responses import Response

from ..core import (
    access,
    commits,
    db,
    group_rules,
    images,
    namespaces,
    patterns,
    projects,
    protection,
    repositories,
    settings,
)
from ..core.auth import Principal
from ..core.errors import ApiError, forbidden, missing, not_found, rejected
from .call import Call, accepted, created, page, route
from .lookup import find_project

#: What can be open to everybody, also when the project is not.
WITH_PUBLIC = ("pages_access_level", "package_registry_access_level")
#: Switches of old, for what has levels of access today.
OLD_NAMES = {
    "container_registry_enabled": "container_registry_access_level",
    "issues_enabled": "issues_access_level",
    "jobs_enabled": "builds_access_level",
    "merge_requests_enabled": "merge_requests_access_level",
    "snippets_enabled": "snippets_access_level",
    "wiki_enabled": "wiki_access_level",
}
POLICY: dict[str, tuple[object, ...]] = {
    "cadence": ("1d", "7d", "14d", "1month", "3month"),
    "older_than": (None, "7d", "14d", "30d", "60d", "90d"),
    "keep_n": (None, 1, 5, 10, 25, 50, 100),
}
#: `app/models/project.rb` and the columns of the policy.
LONGEST_DESCRIPTION, LONGEST_PATTERN = 2000, 255


def listing(call: Call) -> Response:
    """Projects that can be seen."""
    found = projects.visible(call.connection, call.who)
    if call.flag("owned", False) and call.who:
        found = [(row, level) for row, level in found if level >= access.OWNER]
    if call.flag("membership", False):
        found = [(row, level) for row, level in found if level]
    search = (call.text("search") or "").lower()
    shown = [
        _present(call, row, level) for row, level in found if search in row["name"].lower() or search in row["path"]
    ]
    return page(call, shown)


def get(call: Call) -> dict[str, Any]:
    """One project."""
    row, level = find_project(call, 0)
    return _present(call, row, level)


def create(call: Call) -> Response:
    """Make a project in a group or in one's own namespace."""
    who = call.user()
    name = call.text("name") or call.text("path")
    if not name:
        raise ApiError(400, {"error": "name, path are missing, at least one parameter must be provided"})
    path = call.text("path") or "-".join(name.lower().split())
    namespaces.check_project(name, path)
    namespace = _namespace(call, who)
    full_path = f"{namespace['full_path']}/{path}"
    namespaces.ensure_free(call.connection, full_path)
    visibility = call.choice("visibility", namespaces.VISIBILITIES, "private") or "private"
    if not group_rules.allowed_in(visibility, namespace):
        # As `Projects::CreateService`: a new project silently gets what its group has.
        visibility = namespace["visibility"]
    branch = call.text("default_branch") or settings.read(call.connection)["default_branch_name"] or "main"
    if not repositories.valid_ref(f"{repositories.BRANCHES}{branch}"):
        raise rejected("base", "Failed to create repository")
    identity = db.insert(
        call.connection,
        "projects",
        namespace_id=namespace["id"],
        creator_id=who.user["id"],
        path=path,
        full_path=full_path,
        name=name,
        description=_description(call, None),
        visibility=visibility,
        default_branch=branch,
        options=json.dumps(_options(call)),
        created_at=db.now(),
    )
    row = projects.find(call.connection, str(identity))
    if row is None:
        raise LookupError(f"project {identity}")
    _begin(call, who, row)
    return created(_present(call, row, access.project_level(call.connection, who, row)))


def _begin(call: Call, who: Principal, row: db.Row) -> None:
    """Make the repository; with `initialize_with_readme` also its first commit, which starts no pipeline."""
    branch = row["default_branch"]
    repositories.remove(call.config, row["id"])  # Left by one that was not finished.
    repositories.ensure(call.config, row["id"], branch)
    if not call.flag("initialize_with_readme", False):
        return
    text = "\n\n".join(filter(None, [f"# {row['name']}", row["description"]]))
    somebody = commits.Signature(who.user["name"], who.user["email"])
    commits.create(
        call.config,
        row["id"],
        branch=branch,
        changes=[commits.Change("create", "README.md", f"{text}\n".encode())],
        message="Initial commit",
        author=somebody,
        committer=somebody,
    )
    protection.protect_default(call.connection, row["id"], branch)


def update(call: Call) -> dict[str, Any]:
    """Change a project."""
    call.user()
    row, level = find_project(call, access.MAINTAINER)
    _rename(call, row, level)
    branch = call.text("default_branch", row["default_branch"])
    if branch != row["default_branch"] and not repositories.empty(call.config, row["id"]):
        if branch not in repositories.branches(call.config, row["id"]):
            question = f"Do you have a branch named '{branch}' in your repository?"
            raise rejected("base", f"Could not set the default branch. {question}")
        repositories.set_head(call.config, row["id"], branch)
    visibility = call.choice("visibility", namespaces.VISIBILITIES, row["visibility"]) or row["visibility"]
    namespace = namespaces.find(call.connection, str(row["namespace_id"]))
    if visibility != row["visibility"] and namespace is not None:
        group_rules.refuse_in(visibility, namespace)
    call.connection.execute(
        "UPDATE projects SET name = ?, description = ?, visibility = ?, default_branch = ?, options = ? WHERE id = ?",
        (
            call.text("name", row["name"]),
            _description(call, row["description"]),
            visibility,
            branch,
            json.dumps(json.loads(row["options"]) | _options(call, json.loads(row["options"]))),
            row["id"],
        ),
    )
    fresh = projects.find(call.connection, str(row["id"]))
    if fresh is None:
        raise LookupError(f"project {row['id']}")
    return _present(call, fresh, level)


def _rename(call: Call, row: db.Row, level: int) -> None:
    """Give a project another path."""
    path = call.text("path", row["path"]) or row["path"]
    if path == row["path"]:
        return
    if level < access.OWNER:
        raise forbidden()
    namespaces.check_project(row["name"], path)
    full_path = f"{row['full_path'].rpartition('/')[0]}/{path}"
    namespaces.ensure_free(call.connection, full_path)
    images.rename(call.connection, call.config, row, path)
    call.connection.execute("UPDATE projects SET path = ?, full_path = ? WHERE id = ?", (path, full_path, row["id"]))


def delete(call: Call) -> Response:
    """Mark a project for deletion, which frees its path; with `permanently_remove`, remove one that is marked."""
    call.user()
    row, _ = find_project(call, access.OWNER)
    if call.flag("permanently_remove", False):
        if row["marked_for_deletion_on"] is None:
            raise ApiError(400, {"message": "Project must be marked for deletion first."})
        if call.text("full_path") != row["full_path"]:
            raise ApiError(
                400, {"message": "`full_path` is incorrect. You must enter the complete path for the project."}
            )
        images.delete(call.connection, call.config, row)
        call.connection.execute("DELETE FROM projects WHERE id = ?", (row["id"],))
        repositories.remove(call.config, row["id"])
        return accepted()
    if row["marked_for_deletion_on"] is None:
        suffix = f"-deletion_scheduled-{row['id']}"
        images.rename(call.connection, call.config, row, f"{row['path']}{suffix}")
        call.connection.execute(
            "UPDATE projects SET marked_for_deletion_on = ?, path = path || ?, full_path = full_path || ?, "
            "name = name || ? WHERE id = ?",
            (db.today().isoformat(), suffix, suffix, suffix, row["id"]),
        )
    return accepted()


def _present(call: Call, row: db.Row, level: int) -> dict[str, Any]:
    return projects.present(call.connection, call.config, row, level)


def _namespace(call: Call, who: Principal) -> db.Row:
    identity = call.integer("namespace_id")
    if identity is None:
        own = db.one(call.connection, "SELECT * FROM namespaces WHERE owner_id = ?", who.user["id"])
        if own is None:
            raise missing("namespace_id")
        return own
    row = namespaces.find(call.connection, str(identity))
    if row is None or access.namespace_level(call.connection, who, row) < access.DEVELOPER:
        raise ApiError(400, {"message": {"namespace": ["is not valid"], "limit_reached": []}})
    return row


def _options(call: Call, before: dict[str, Any] | None = None) -> dict[str, Any]:
    chosen = {name: _option(call, name) for name in projects.OPTIONS if name in call.params}
    for old, name in OLD_NAMES.items():
        on = call.flag(old)
        if on is not None and name not in chosen:
            chosen[name] = "enabled" if on else "disabled"
    if "public_builds" in call.params and "public_jobs" not in chosen:
        chosen["public_jobs"] = call.flag("public_builds")
    policy = call.params.get("container_expiration_policy_attributes")
    chosen.pop("container_expiration_policy", None)
    if isinstance(policy, dict):
        was = (before or {}).get("container_expiration_policy", projects.OPTIONS["container_expiration_policy"])
        chosen["container_expiration_policy"] = was | _policy(policy)
    return chosen


def _option(call: Call, name: str) -> Any:
    default = projects.OPTIONS[name]
    if name.endswith("_access_level"):
        return call.choice(name, (*projects.LEVELS, "public") if name in WITH_PUBLIC else projects.LEVELS)
    if name in projects.WORDS:
        return call.choice(name, projects.WORDS[name])
    if isinstance(default, bool):
        return call.flag(name)
    if isinstance(default, int):
        return call.integer(name)
    return call.words(name) if isinstance(default, list) else call.params[name]


def _description(call: Call, default: str | None) -> str | None:
    text = call.text("description", default)
    if text is not None and len(text) > LONGEST_DESCRIPTION:
        raise rejected("description", f"is too long (maximum is {LONGEST_DESCRIPTION} characters)")
    return text


def _policy(given: dict[str, Any]) -> dict[str, Any]:
    """The cleanup policy; the name of old and the name of today of the pattern are the same."""
    chosen: dict[str, Any] = {}
    for name in ("cadence", "older_than", "keep_n", "name_regex_keep"):
        if name in given:
            chosen[name] = given[name] if given[name] != "" else None
    for name in ("name_regex", "name_regex_delete"):
        if name in given:
            chosen["name_regex"] = given[name]
    if "enabled" in given:
        chosen["enabled"] = str(given["enabled"]).lower() in ("true", "1")
    if str(chosen.get("keep_n", "")).isdigit():
        chosen["keep_n"] = int(chosen["keep_n"])
    for name, values in POLICY.items():
        if name in chosen and chosen[name] not in values:
            raise rejected(f"container_expiration_policy.{name}", "is not included in the list")
    if chosen.get("enabled") and chosen.get("name_regex", ".*") in (None, ""):
        raise rejected("container_expiration_policy.name_regex", "can't be blank")
    for name in ("name_regex", "name_regex_keep"):
        text = str(chosen.get(name) or "")
        if len(text) > LONGEST_PATTERN:
            raise rejected(
                f"container_expiration_policy.{name}", f"is too long (maximum is {LONGEST_PATTERN} characters)"
            )
        if chosen.get("enabled") and (wrong := patterns.problem(text)):
            raise rejected(f"container_expiration_policy.{name}", f"not valid RE2 syntax: {wrong}")
    return chosen


def set_archived(call: Call) -> Response:
    """Archive a project, or take it back."""
    call.user()
    row, _ = find_project(call, access.OWNER)
    archived = call.request.url.path.endswith("/archive")
    call.connection.execute("UPDATE projects SET archived = ? WHERE id = ?", (int(archived), row["id"]))
    return created(get(call))


def restore(call: Call) -> Response:
    """Take back a project that is marked for deletion, under the path that it had."""
    call.user()
    row, _ = find_project(call, access.OWNER)
    if row["marked_for_deletion_on"] is not None:
        suffix = f"-deletion_scheduled-{row['id']}"
        path, full_path = row["path"].removesuffix(suffix), row["full_path"].removesuffix(suffix)
        namespaces.ensure_free(call.connection, full_path)
        images.rename(call.connection, call.config, row, path)
        call.connection.execute(
            "UPDATE projects SET marked_for_deletion_on = NULL, path = ?, full_path = ?, name = ? WHERE id = ?",
            (path, full_path, row["name"].removesuffix(suffix), row["id"]),
        )
    return created(get(call))


def transfer(call: Call) -> dict[str, Any]:
    """Move a project to another namespace, given by ID or path."""
    who = call.user()
    row, level = find_project(call, access.OWNER)
    call.require("namespace")
    target = namespaces.find(call.connection, str(call.params["namespace"]))
    if target is None or access.namespace_level(call.connection, who, target) < access.MAINTAINER:
        raise not_found("Namespace")
    full_path = f"{target['full_path']}/{row['path']}"
    namespaces.ensure_free(call.connection, full_path)
    images.transfer(call.connection, call.config, row, target["full_path"])
    visibility = row["visibility"] if group_rules.allowed_in(row["visibility"], target) else target["visibility"]
    moved = "UPDATE projects SET namespace_id = ?, full_path = ?, visibility = ? WHERE id = ?"
    call.connection.execute(moved, (target["id"], full_path, visibility, row["id"]))
    fresh = projects.find(call.connection, str(row["id"]))
    return _present(call, fresh or row, level)


routes = [
    *route("/projects", GET=listing, POST=create),
    *route("/projects/{id}", GET=get, PUT=update, DELETE=delete),
    *route("/projects/{id}/archive", POST=set_archived),
    *route("/projects/{id}/unarchive", POST=set_archived),
    *route("/projects/{id}/restore", POST=restore),
    *route("/projects/{id}/transfer", PUT=transfer),
]
