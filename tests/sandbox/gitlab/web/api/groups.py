"""Groups and namespaces."""

from __future__ import annotations

import json
from typing import Any

from starlette.responses import Response

from ..core import access, db, group_rules, images, namespaces, projects, registration, repositories
from ..core.errors import ApiError, not_found
from .call import Call, accepted, created, page, route
from .lookup import find_group

OPTIONS: dict[str, Any] = {
    "request_access_enabled": True,
    "require_two_factor_authentication": False,
    "project_creation_level": "developer",
    "subgroup_creation_level": "maintainer",
    "auto_devops_enabled": None,
    "emails_enabled": True,
    "mentions_disabled": None,
    "lfs_enabled": True,
    "share_with_group_lock": False,
    "shared_runners_setting": "enabled",
    "default_branch": None,
    "default_branch_protection": 2,
    "default_branch_protection_defaults": {
        "allowed_to_push": [{"access_level": 40}],
        "allow_force_push": False,
        "allowed_to_merge": [{"access_level": 40}],
        "developer_can_initial_push": False,
    },
    "emails_disabled": False,
    "math_rendering_limits_enabled": True,
    "lock_math_rendering_limits_enabled": False,
    "max_artifacts_size": None,
    "organization_id": 1,
    "runner_token_expiration_interval": None,
    "shared_with_groups": [],
    "two_factor_grace_period": 48,
    "wiki_access_level": "enabled",
}


def listing(call: Call) -> Response:
    """Groups that can be seen."""
    rows = namespaces.visible(call.connection, call.who, "group")
    search = (call.text("search") or "").lower()
    return page(
        call, [present(call, row) for row in rows if search in row["name"].lower() or search in row["full_path"]]
    )


def get(call: Call) -> dict[str, Any]:
    """One group."""
    return present(call, find_group(call, 0))


def create(call: Call) -> Response:
    """Make a group; who makes it owns it."""
    who = call.user()
    call.require("name", "path")
    path, name = call.text("path") or "", call.text("name") or ""
    parent = None
    if (parent_id := call.integer("parent_id")) is not None:
        parent = namespaces.find(call.connection, str(parent_id), "group")
        level = access.namespace_level(call.connection, who, parent)
        if parent is None or level < access.MAINTAINER:
            raise not_found("Group") if not level else ApiError(403, {"message": "403 Forbidden"})
    full_path = f"{parent['full_path']}/{path}" if parent else path
    visibility = call.choice("visibility", namespaces.VISIBILITIES, "private") or "private"
    with group_rules.told_of_a_new_group():
        namespaces.check_path(path, namespaces.BELOW if parent else namespaces.TOP)
        group_rules.check_texts(name, call.text("description"))
        namespaces.ensure_free(call.connection, full_path)
        group_rules.check_below(visibility, parent)
    identity = db.insert(
        call.connection,
        "namespaces",
        kind="group",
        path=path,
        full_path=full_path,
        name=name,
        description=call.text("description", ""),
        visibility=visibility,
        parent_id=parent["id"] if parent else None,
        options=json.dumps(_options(call)),
        created_at=db.now(),
    )
    db.insert(call.connection, "members", user_id=who.user["id"], namespace_id=identity, access_level=access.OWNER)
    row = namespaces.find(call.connection, str(identity))
    return created(present(call, row)) if row else created({})


def update(call: Call) -> dict[str, Any]:
    """Change a group. Another path is one for all that is inside, too."""
    call.user()
    row = find_group(call, access.OWNER)
    path = call.text("path", row["path"]) or row["path"]
    if path != row["path"]:
        namespaces.check_path(path, namespaces.BELOW if row["parent_id"] else namespaces.TOP)
        images.refuse_rename_of_group(call.connection, call.config, row)
        _rename(call, row, path)
    group_rules.check_texts(call.text("name", row["name"]) or "", call.text("description"))
    visibility = call.choice("visibility", namespaces.VISIBILITIES, row["visibility"]) or row["visibility"]
    if visibility != row["visibility"]:
        group_rules.check_below(visibility, namespaces.find(call.connection, str(row["parent_id"])))
        group_rules.check_above(call.connection, visibility, _fresh(call, row))
    options = json.dumps(json.loads(row["options"]) | _options(call))
    call.connection.execute(
        "UPDATE namespaces SET name = ?, description = ?, visibility = ?, options = ? WHERE id = ?",
        (
            call.text("name", row["name"]),
            call.text("description", row["description"]),
            visibility,
            options,
            row["id"],
        ),
    )
    return present(call, _fresh(call, row))


def _rename(call: Call, row: db.Row, path: str) -> None:
    full_path = "/".join([*row["full_path"].split("/")[:-1], path])
    namespaces.ensure_free(call.connection, full_path)
    namespaces.move(call.connection, row["full_path"], full_path)
    call.connection.execute("UPDATE namespaces SET path = ? WHERE id = ?", (path, row["id"]))


def _fresh(call: Call, row: db.Row) -> db.Row:
    found = namespaces.find(call.connection, str(row["id"]))
    if found is None:
        raise LookupError(f"group {row['id']}")
    return found


def delete(call: Call) -> Response:
    """Mark a group for deletion; with `permanently_remove`, remove one that is marked.

    As `Groups::MarkForDeletionService`: the path becomes free, unless a project inside has a repository of images.
    """
    call.user()
    row = find_group(call, access.OWNER)
    if call.flag("permanently_remove", False):
        if row["marked_for_deletion_on"] is None:
            raise ApiError(400, {"message": "Group must be marked for deletion first."})
        if call.text("full_path") != row["full_path"]:
            raise ApiError(
                400, {"message": "`full_path` is incorrect. You must enter the complete path for the subgroup."}
            )
        below = f"{row['full_path']}/%"
        inside = call.connection.execute("SELECT id FROM projects WHERE full_path LIKE ?", (below,)).fetchall()
        call.connection.execute("DELETE FROM namespaces WHERE id = ?", (row["id"],))
        for project in inside:
            repositories.remove(call.config, project["id"])
        return accepted()
    if row["marked_for_deletion_on"] is not None:
        raise ApiError(400, {"message": "Group has been already marked for deletion"})
    if not group_rules.has_images(call.connection, row):
        suffix = f"-deletion_scheduled-{row['id']}"
        _rename(call, row, f"{row['path']}{suffix}")
        call.connection.execute("UPDATE namespaces SET name = name || ? WHERE id = ?", (suffix, row["id"]))
    call.connection.execute(
        "UPDATE namespaces SET marked_for_deletion_on = ? WHERE id = ?", (db.today().isoformat(), row["id"])
    )
    return accepted()


def restore(call: Call) -> Response:
    """Take back a group that is marked for deletion, under the path that it had."""
    call.user()
    row = find_group(call, access.OWNER)
    if row["marked_for_deletion_on"] is None:
        raise ApiError(400, {"message": "Group has not been marked for deletion"})
    suffix = f"-deletion_scheduled-{row['id']}"
    if row["path"].endswith(suffix):
        _rename(call, row, row["path"].removesuffix(suffix))
    call.connection.execute(
        "UPDATE namespaces SET marked_for_deletion_on = NULL, name = ? WHERE id = ?",
        (row["name"].removesuffix(suffix), row["id"]),
    )
    return created(present(call, _fresh(call, row)))


def list_projects(call: Call) -> Response:
    """Projects of a group; with `include_subgroups`, also those of groups inside."""
    row = find_group(call, 0)
    below = f"{row['full_path']}/"
    inside = bool(call.flag("include_subgroups", False))
    found = [
        projects.present(call.connection, call.config, project, level)
        for project, level in projects.visible(call.connection, call.who)
        if project["namespace_id"] == row["id"] or (inside and project["full_path"].startswith(below))
    ]
    return page(call, found)


def list_subgroups(call: Call) -> Response:
    """Groups right inside of a group."""
    row = find_group(call, 0)
    rows = namespaces.visible(call.connection, call.who, "group")
    return page(call, [present(call, group) for group in rows if group["parent_id"] == row["id"]])


def list_descendants(call: Call) -> Response:
    """Groups inside of a group, at any depth; `search` narrows them by name or path."""
    row = find_group(call, 0)
    above, search = f"{row['full_path']}/", (call.text("search") or "").lower()
    rows = namespaces.visible(call.connection, call.who, "group")
    found = [group for group in rows if group["full_path"].startswith(above)]
    return page(
        call, [present(call, group) for group in found if search in group["name"].lower() or search in group["path"]]
    )


def present(call: Call, row: db.Row) -> dict[str, Any]:
    """A group as the API shows it."""
    shown = {
        "id": row["id"],
        "web_url": f"{call.config.external_url}/groups/{row['full_path']}",
        "name": row["name"],
        "path": row["path"],
        "description": row["description"],
        "visibility": row["visibility"],
        "full_name": row["full_path"].replace("/", " / "),
        "full_path": row["full_path"],
        "created_at": row["created_at"],
        "parent_id": row["parent_id"],
        "marked_for_deletion_on": row["marked_for_deletion_on"],
        "avatar_url": None,
        **OPTIONS,
        **json.loads(row["options"]),
    }
    if call.who is not None and access.namespace_level(call.connection, call.who, row) >= access.OWNER:
        shown["runners_token"] = registration.token(call.connection, call.config, namespace_id=row["id"])
    return shown


def list_namespaces(call: Call) -> Response:
    """Namespaces that one can see."""
    call.user()
    rows = namespaces.visible(call.connection, call.who)
    search = (call.text("search") or "").lower()
    url = call.config.external_url
    return page(call, [namespaces.brief(row, url) for row in rows if search in row["full_path"].lower()])


def get_namespace(call: Call) -> dict[str, Any]:
    """One namespace."""
    who = call.user()
    row = namespaces.find(call.connection, call.path("id"))
    if row is None or not access.visible(who, row, access.namespace_level(call.connection, who, row)):
        raise not_found("Namespace")
    return namespaces.brief(row, call.config.external_url)


def _options(call: Call) -> dict[str, Any]:
    return {name: call.params[name] for name in OPTIONS if name in call.params}


routes = [
    *route("/groups", GET=listing, POST=create),
    *route("/groups/{id}", GET=get, PUT=update, DELETE=delete),
    *route("/groups/{id}/restore", POST=restore),
    *route("/groups/{id}/projects", GET=list_projects),
    *route("/groups/{id}/subgroups", GET=list_subgroups),
    *route("/groups/{id}/descendant_groups", GET=list_descendants),
    *route("/namespaces", GET=list_namespaces),
    *route("/namespaces/{id}", GET=get_namespace),
]
