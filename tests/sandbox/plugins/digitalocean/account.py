"""Resources of the account: SSH keys, tags, projects, Spaces keys."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from tests.sandbox.plugins.base.framework import Call, Field, Fields, Kind, Resource, made
from tests.sandbox.plugins.base.properties import Properties
from tests.sandbox.plugins.digitalocean.session import ApiError, given, segment, session_of


class SshKey(Resource):
    """A public key for the first login to droplets."""

    full_name = "digitalocean:index/sshKey:SshKey"
    autoname = True
    inputs: ClassVar[Fields] = {
        "name": Field(),
        "publicKey": Field(required=True, replace=True, normal=str.strip),
    }
    outputs = ("fingerprint",)

    def create(self, call: Call, inputs: Properties) -> tuple[str, Properties]:
        body = {"name": inputs["name"], "public_key": inputs["publicKey"].strip()}
        key = session_of(call).post("/v2/account/keys", body)["ssh_key"]
        path = f"/v2/account/keys/{key['id']}"
        with made(str(key["id"]), inputs):
            call.wait_until(f"SSH key {key['id']}", lambda: session_of(call).find(path) is not None, timeout=120)
        return str(key["id"]), {"fingerprint": key["fingerprint"]}

    def read(self, call: Call, identifier: str, state: Properties) -> tuple[str, Properties] | None:
        del state
        found = session_of(call).find(f"/v2/account/keys/{identifier}")
        return found and (identifier, self._state(found["ssh_key"]))

    def update(self, call: Call, identifier: str, old: Properties, inputs: Properties) -> Properties:
        del old
        path = f"/v2/account/keys/{identifier}"
        return {"fingerprint": session_of(call).put(path, {"name": inputs["name"]})["ssh_key"]["fingerprint"]}

    def delete(self, call: Call, identifier: str, state: Properties) -> None:
        del state
        session_of(call).delete(f"/v2/account/keys/{identifier}")

    def _state(self, key: Properties) -> Properties:
        return {"name": key["name"], "publicKey": key["public_key"], "fingerprint": key["fingerprint"]}


class Tag(Resource):
    """A label for droplets, volumes and others."""

    full_name = "digitalocean:index/tag:Tag"
    autoname = True
    inputs: ClassVar[Fields] = {"name": Field(replace=True)}
    outputs = (
        "databasesCount",
        "dropletsCount",
        "imagesCount",
        "totalResourceCount",
        "volumeSnapshotsCount",
        "volumesCount",
    )

    def create(self, call: Call, inputs: Properties) -> tuple[str, Properties]:
        name = session_of(call).post("/v2/tags", {"name": inputs["name"]})["tag"]["name"]
        with made(name, inputs):
            return name, self._state(session_of(call).get(f"/v2/tags/{segment(name)}")["tag"])

    def read(self, call: Call, identifier: str, state: Properties) -> tuple[str, Properties] | None:
        del state
        found = session_of(call).find(f"/v2/tags/{segment(identifier)}")
        return found and (identifier, self._state(found["tag"]))

    def delete(self, call: Call, identifier: str, state: Properties) -> None:
        del state
        session_of(call).delete(f"/v2/tags/{segment(identifier)}")

    def _state(self, tag: Properties) -> Properties:
        resources = tag.get("resources") or {}

        def count(kind: str) -> int:
            return int((resources.get(kind) or {}).get("count", 0))

        return {
            "name": tag["name"],
            "totalResourceCount": int(resources.get("count", 0)),
            "databasesCount": count("databases"),
            "dropletsCount": count("droplets"),
            "imagesCount": count("images"),
            "volumeSnapshotsCount": count("volume_snapshots"),
            "volumesCount": count("volumes"),
        }


class SpacesKey(Resource):
    """A key for Spaces. Its secret is given once, and from then on only in the state."""

    full_name = "digitalocean:index/spacesKey:SpacesKey"
    autoname = True
    inputs: ClassVar[Fields] = {
        "name": Field(),
        "grants": Field(
            Kind.LIST,
            unordered=True,
            fields={
                "bucket": Field(required=True),
                "permission": Field(required=True, choices=("read", "readwrite", "fullaccess")),
            },
        ),
    }
    outputs = ("accessKey", "createdAt", "secretKey")
    secret_outputs = frozenset({"secretKey"})

    def create(self, call: Call, inputs: Properties) -> tuple[str, Properties]:
        key = session_of(call).post("/v2/spaces/keys", self._body(inputs))["key"]
        return key["access_key"], {**self._state(key), "secretKey": key["secret_key"]}

    def read(self, call: Call, identifier: str, state: Properties) -> tuple[str, Properties] | None:
        del state
        found = session_of(call).find(f"/v2/spaces/keys/{segment(identifier)}")
        return found and (identifier, self._state(found["key"]))

    def update(self, call: Call, identifier: str, old: Properties, inputs: Properties) -> Properties:
        del old
        return self._state(session_of(call).put(f"/v2/spaces/keys/{segment(identifier)}", self._body(inputs))["key"])

    def delete(self, call: Call, identifier: str, state: Properties) -> None:
        del state
        session_of(call).delete(f"/v2/spaces/keys/{segment(identifier)}")

    def _body(self, inputs: Properties) -> Properties:
        return {"name": inputs["name"], "grants": inputs.get("grants", [])}

    def _state(self, key: Properties) -> Properties:
        grants = [
            {"bucket": grant.get("bucket") or "", "permission": grant["permission"]}
            for grant in key.get("grants") or []
        ]
        return {
            "name": key["name"],
            "accessKey": key["access_key"],
            "createdAt": key["created_at"],
            "grants": grants,
        }


def _resources(call: Call, project: str) -> list[str]:
    return [item["urn"] for item in session_of(call).every(f"/v2/projects/{project}/resources", "resources")]


def _add(call: Call, project: str, urns: Iterable[str]) -> None:
    resources = sorted(urns)
    if resources:
        session_of(call).post(f"/v2/projects/{project}/resources", {"resources": resources})


def _move(call: Call, project: str, old: Iterable[str], new: Iterable[str]) -> None:
    """A resource is always in a project: what leaves one goes to the default one."""
    removed = set(old) - set(new)
    if removed:
        _add(call, session_of(call).get("/v2/projects/default")["project"]["id"], removed)
    _add(call, project, set(new) - set(old))


class Project(Resource):
    """A folder for resources."""

    full_name = "digitalocean:index/project:Project"
    autoname = True
    inputs: ClassVar[Fields] = {
        "name": Field(),
        "description": Field(),
        "purpose": Field(default="Web Application"),
        "environment": Field(normal=str.lower),
        "isDefault": Field(Kind.BOOLEAN, default=False),
        "resources": Field(Kind.LIST, items=Kind.STRING, unordered=True, computed=True),
    }
    outputs = ("createdAt", "ownerId", "ownerUuid", "resources", "updatedAt")

    def create(self, call: Call, inputs: Properties) -> tuple[str, Properties]:
        session = session_of(call)
        identifier = session.post("/v2/projects", self._body(inputs))["project"]["id"]
        with made(identifier, {name: value for name, value in inputs.items() if name != "resources"}):
            _add(call, identifier, inputs.get("resources") or [])
            if inputs["isDefault"]:
                session.request("PATCH", f"/v2/projects/{identifier}", {"is_default": True})
            return identifier, self._state(call, session.get(f"/v2/projects/{identifier}")["project"])

    def read(self, call: Call, identifier: str, state: Properties) -> tuple[str, Properties] | None:
        del state
        found = session_of(call).find(f"/v2/projects/{segment(identifier)}")
        return found and (identifier, self._state(call, found["project"]))

    def update(self, call: Call, identifier: str, old: Properties, inputs: Properties) -> Properties:
        session = session_of(call)
        body = {"description": "", **self._body(inputs), "is_default": inputs["isDefault"]}
        session.request("PATCH", f"/v2/projects/{identifier}", body)
        if inputs.get("resources") is not None:
            _move(call, identifier, old.get("resources") or [], inputs["resources"])
        return self._state(call, session.get(f"/v2/projects/{identifier}")["project"])

    def delete(self, call: Call, identifier: str, state: Properties) -> None:
        del state
        session = session_of(call)

        def gone() -> bool:
            if session.find(f"/v2/projects/{identifier}") is None:
                return True
            try:
                _move(call, identifier, _resources(call, identifier), [])
                session.delete(f"/v2/projects/{identifier}", missing_ok=True)
            except ApiError as error:
                # Not empty yet, or what was in it has gone while it was being moved.
                if error.code in (400, 404, 412, 422):
                    return False
                raise
            return True

        call.wait_until(f"project {identifier} to be empty", gone, timeout=180)

    def _body(self, inputs: Properties) -> Properties:
        names = ("name", "description", "purpose", "environment")
        return given(inputs, {name: name for name in names})

    def _state(self, call: Call, project: Properties) -> Properties:
        return {
            "name": project["name"],
            "description": project.get("description") or "",
            "purpose": (project.get("purpose") or "").removeprefix("Other: "),
            "environment": project.get("environment") or "",
            "isDefault": project["is_default"],
            "createdAt": project["created_at"],
            "updatedAt": project["updated_at"],
            "ownerId": project["owner_id"],
            "ownerUuid": project["owner_uuid"],
            "resources": _resources(call, project["id"]),
        }


class ProjectResources(Resource):
    """Some of the resources of a project, which may have others."""

    full_name = "digitalocean:index/projectResources:ProjectResources"
    inputs: ClassVar[Fields] = {
        "project": Field(required=True, replace=True),
        "resources": Field(Kind.LIST, items=Kind.STRING, required=True, unordered=True),
    }

    def create(self, call: Call, inputs: Properties) -> tuple[str, Properties]:
        session_of(call).get(f"/v2/projects/{inputs['project']}")
        _add(call, inputs["project"], inputs["resources"])
        with made(inputs["project"], inputs):
            session_of(call).get(f"/v2/projects/{inputs['project']}")
        return inputs["project"], {}

    def read(self, call: Call, identifier: str, state: Properties) -> tuple[str, Properties] | None:
        if session_of(call).find(f"/v2/projects/{identifier}") is None:
            return None
        there = _resources(call, identifier)
        mine: Any = state.get("resources", there)
        return identifier, {"project": identifier, "resources": [urn for urn in mine if urn in there]}

    def update(self, call: Call, identifier: str, old: Properties, inputs: Properties) -> Properties:
        _move(call, identifier, old.get("resources") or [], inputs["resources"])
        return {}

    def delete(self, call: Call, identifier: str, state: Properties) -> None:
        if session_of(call).find(f"/v2/projects/{identifier}") is not None:
            there = _resources(call, identifier)
            _move(call, identifier, [urn for urn in state["resources"] if urn in there], [])
