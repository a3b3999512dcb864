"""The pod of one job, made of what `config.toml` says below `[runners.kubernetes]` and of what the job says."""

from __future__ import annotations

import secrets
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from . import version
from .configuration import Table, short_token
from .images import ImageError, PolicyError, as_list, is_allowed
from .payload import Image, Payload, Variables

BUILD, HELPER = "build", "helper"
#: What keeps a container there for the scripts.
IDLE = ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 3600 & wait $!; done"]
_POLICIES = {"always": "Always", "if-not-present": "IfNotPresent", "never": "Never"}
_RESOURCES = {"cpu": "cpu", "memory": "memory", "ephemeral_storage": "ephemeral-storage"}
#: Names the slot that a job has, which its pod and its disruption budget are known by.
_POD_LABEL = "job.runner.gitlab.com/pod"
_CONTEXTS = {name: f"{name}_container_security_context" for name in (BUILD, HELPER, "service")}
#: Every key that this stand-in knows. Another one is refused: it would do something in the real program.
KNOWN = {
    *("host", "namespace", "image", "helper_image", "privileged", "allow_privilege_escalation", "service_account"),
    *("automount_service_account_token", "pull_policy", "allowed_pull_policies", "allowed_images", "allowed_services"),
    *("poll_interval", "poll_timeout", "node_selector", "node_tolerations", "pod_annotations", "pod_labels"),
    *("volumes", "services", "pod_termination_grace_period_seconds", "cleanup_grace_period_seconds"),
    *("cap_add", "cap_drop", "image_pull_secrets", "priority_class_name", *_CONTEXTS.values()),
    *("pod_security_context", "pod_disruption_budget"),
    *(f"pod_{kind}_{what}" for kind in ("cpu", "memory") for what in ("request", "limit")),
    *(
        f"{prefix}{kind}_{what}"
        for prefix in ("", "helper_", "service_")
        for kind in _RESOURCES
        for what in ("request", "limit")
    ),
}
_KNOWN_IN_CONTEXT = {
    *("capabilities", "privileged", "run_as_user", "run_as_group", "run_as_non_root", "read_only_root_filesystem"),
    *("allow_privilege_escalation", "proc_mount", "seccomp_profile", "app_armor_profile"),
}
#: Of each key for all containers of a pod, what the API calls it.
_POD_CONTEXT = {
    "fs_group": "fsGroup",
    "run_as_group": "runAsGroup",
    "run_as_non_root": "runAsNonRoot",
    "run_as_user": "runAsUser",
    "supplemental_groups": "supplementalGroups",
}
_PROFILES = {"seccomp_profile": "seccompProfile", "app_armor_profile": "appArmorProfile"}
#: In the order in which the pod has them.
_VOLUMES = ("host_path", "secret", "config_map", "empty_dir")
#: The capability that the real program drops from every container unless it is asked not to.
_DROPPED = ("NET_RAW",)


def check(settings: Table) -> None:
    """Refuse what this stand-in does not know. `ImageError` names it."""
    unknown = [f"kubernetes.{key}" for key in settings if key not in KNOWN]
    for name in _CONTEXTS.values():
        unknown += [f"kubernetes.{name}.{key}" for key in settings.get(name, {}) if key not in _KNOWN_IN_CONTEXT]
    of_pod = settings.get("pod_security_context", {})
    unknown += [f"kubernetes.pod_security_context.{key}" for key in of_pod if key not in _POD_CONTEXT | _PROFILES]
    unknown += [f"kubernetes.volumes.{key}" for key in settings.get("volumes", {}) if key not in _VOLUMES]
    if unknown:
        raise ImageError(f"[runners.{unknown[0]}] is not in this stand-in")


@dataclass(frozen=True)
class PodPlan:
    """What becomes the pod of a job. `files` is the folder of file variables, `pull_secret` a Secret's name."""

    runner: Table
    payload: Payload
    variables: Variables
    files: str
    slot: int
    pull_secret: str

    @property
    def settings(self) -> Table:
        """The table `[runners.kubernetes]`."""
        found: Table = self.runner.get("kubernetes", {})
        return found

    @property
    def scripts(self) -> str:
        """Where the scripts are in the containers."""
        return f"/scripts-{self.payload.project_id}-{self.payload.id}"

    @property
    def builds(self) -> str:
        """The folder of builds."""
        return str(self.runner.get("builds_dir") or "/builds")

    @property
    def _slot_name(self) -> str:
        token = short_token(str(self.runner.get("token", ""))).lower()
        safe = "".join(one if one.isalnum() else "-" for one in token).strip("-")
        return f"runner-{safe}-project-{self.payload.project_id}-concurrent-{self.slot}"

    def budget(self, name: str, uid: str) -> dict[str, Any] | None:
        """What keeps others from evicting the pod that was made, if the settings ask for that; it goes with the pod."""
        if not self.settings.get("pod_disruption_budget"):
            return None
        owner = {"apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid}
        return {
            "metadata": {"name": f"{name}-pdb", "ownerReferences": [owner]},
            "spec": {"minAvailable": 1, "selector": {"matchLabels": {_POD_LABEL: self._slot_name}}},
        }

    def manifest(self) -> dict[str, Any]:
        """The pod as the API takes it."""
        settings = self.settings
        letters = "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(8))
        spec: dict[str, Any] = {
            "restartPolicy": "Never",
            "activeDeadlineSeconds": self.payload.timeout + 1,
            "resources": self._resources("pod_"),
            "containers": self._containers(),
            "volumes": self._volumes(),
            "hostAliases": self._aliases(),
            "securityContext": self._pod_context(),
            "nodeSelector": settings.get("node_selector"),
            "tolerations": _tolerations(settings.get("node_tolerations", {})),
            "serviceAccountName": settings.get("service_account"),
            "automountServiceAccountToken": settings.get("automount_service_account_token"),
            "priorityClassName": settings.get("priority_class_name"),
            "terminationGracePeriodSeconds": settings.get("pod_termination_grace_period_seconds"),
            "imagePullSecrets": [
                {"name": one} for one in (self.pull_secret, *as_list(settings.get("image_pull_secrets"))) if one
            ],
        }
        expand = self.variables.expand
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": f"{self._slot_name}-{letters}",
                "labels": {
                    _POD_LABEL: self._slot_name,
                    **{key: expand(str(value)) for key, value in settings.get("pod_labels", {}).items()},
                },
                "annotations": {
                    "job.runner.gitlab.com/id": str(self.payload.id),
                    **{key: expand(str(value)) for key, value in settings.get("pod_annotations", {}).items()},
                },
            },
            "spec": {key: value for key, value in spec.items() if value not in (None, [], {})},
        }

    def _containers(self) -> list[dict[str, Any]]:
        image = self.payload.image(self.variables, str(self.settings.get("image", "")))
        if not image.name:
            raise ImageError("no image specified to run the build in")
        self._allow(image.name, "image", "allowed_images", str(self.settings.get("image", "")))
        helper = str(
            self.settings.get("helper_image")
            or f"registry.gitlab.com/gitlab-org/gitlab-runner/gitlab-runner-helper:x86_64-v{version()}"
        )
        environment = self.variables.environment(self.files)
        found = [
            self._container(BUILD, image, "", IDLE, environment),
            self._container(HELPER, Image(helper), "helper_", IDLE, environment),
        ]
        for index, service in enumerate(self.payload.services(self.variables)):
            self._allow(service.name, "service", "allowed_services")
            own = self.variables.with_more(list(service.variables))
            public = {**self.variables.public_environment(), **{v.key: own.get(v.key) for v in service.variables}}
            made = self._container(f"svc-{index}", service, "service_", list(service.entrypoint or ()), public)
            made["args"] = list(service.command)
            found.append({key: value for key, value in made.items() if value not in (None, [], {})})
        return found

    def _allow(self, name: str, noun: str, key: str, *more: str) -> None:
        if not is_allowed(name, self.settings.get(key), *more):
            raise ImageError(f"The {name!r} {noun} is not present on list of allowed {noun}s")

    def _container(
        self, name: str, image: Image, prefix: str, command: Sequence[str], environment: Mapping[str, str]
    ) -> dict[str, Any]:
        made = {
            "name": name,
            "image": image.name,
            "imagePullPolicy": _POLICIES[self._policy(image)],
            "command": list(command),
            "env": [{"name": key, "value": value} for key, value in environment.items()],
            "resources": self._resources(prefix),
            "securityContext": self._context("service" if name.startswith("svc-") else name),
            "volumeMounts": self._mounts(),
        }
        return {key: value for key, value in made.items() if value not in (None, [], {})}

    def _resources(self, prefix: str) -> dict[str, Any]:
        """Requests and limits of one kind of container, or of the pod as a whole."""
        found = {
            f"{what}s": {
                known: str(self.settings[f"{prefix}{key}_{what}"])
                for key, known in _RESOURCES.items()
                if self.settings.get(f"{prefix}{key}_{what}")
            }
            for what in ("request", "limit")
        }
        return {key: value for key, value in found.items() if value}

    def _policy(self, image: Image) -> str:
        configured = as_list(self.settings.get("pull_policy")) or ["if-not-present"]
        wanted = list(image.pull_policies) or configured
        allowed = as_list(self.settings.get("allowed_pull_policies")) or configured
        usable = [one for one in wanted if one in allowed and one in _POLICIES]
        if not usable:
            source = "GitLab pipeline config" if image.pull_policies else "Runner config"
            raise PolicyError(
                f'invalid pull policy for image "{image.name}": pull_policy ([{" ".join(wanted)}]) defined in {source} '
                f"is not one of the allowed_pull_policies ([{' '.join(allowed)}])"
            )
        return usable[0]

    def _pod_context(self) -> dict[str, Any]:
        own: Table = self.settings.get("pod_security_context", {})
        found = {name: own.get(key) for key, name in _POD_CONTEXT.items()}
        found |= {name: _profile(own.get(key)) for key, name in _PROFILES.items()}
        return {key: value for key, value in found.items() if value is not None}

    def _context(self, kind: str) -> dict[str, Any]:
        own: Table = self.settings.get(_CONTEXTS[kind], {})
        added = [*as_list(self.settings.get("cap_add")), *as_list(own.get("capabilities", {}).get("add"))]
        dropped = [*as_list(self.settings.get("cap_drop")), *as_list(own.get("capabilities", {}).get("drop"))]
        dropped += [one for one in _DROPPED if one not in (*added, *dropped)]
        privileged = bool(own.get("privileged", self.settings.get("privileged", False)))
        found: dict[str, Any] = {
            "privileged": privileged,
            "capabilities": {"add": added, "drop": dropped},
            "runAsUser": own.get("run_as_user"),
            "runAsGroup": own.get("run_as_group"),
            "runAsNonRoot": own.get("run_as_non_root"),
            "readOnlyRootFilesystem": own.get("read_only_root_filesystem"),
            "allowPrivilegeEscalation": own.get(
                "allow_privilege_escalation", self.settings.get("allow_privilege_escalation")
            ),
            "procMount": own.get("proc_mount"),
            **{name: _profile(own.get(key)) for key, name in _PROFILES.items()},
        }
        return {key: value for key, value in found.items() if value is not None}

    def _aliases(self) -> list[dict[str, Any]]:
        """All containers of a pod share its network: names of services are this very pod."""
        names: list[str] = []
        for service in self.payload.services(self.variables):
            plain = service.name.partition("@")[0]
            plain = plain.rpartition(":")[0] if ":" in plain.rpartition("/")[2] else plain
            names += [*service.aliases, plain.replace("/", "-")]
        return [{"ip": "127.0.0.1", "hostnames": list(dict.fromkeys(names))}] if names else []

    def _entries(self) -> list[tuple[Table, dict[str, Any]]]:
        """Of each volume in the settings: what is said of it, and what the pod has for it."""
        found: list[tuple[Table, dict[str, Any]]] = []
        volumes: Table = self.settings.get("volumes", {})
        for kind in _VOLUMES:
            for one in volumes.get(kind, []):
                items = [{"key": key, "path": path} for key, path in one.get("items", {}).items()]
                source: dict[str, Any] = {
                    "empty_dir": {"emptyDir": {"medium": one["medium"]} if one.get("medium") else {}},
                    "config_map": {"configMap": {"name": one["name"], **({"items": items} if items else {})}},
                    "secret": {"secret": {"secretName": one["name"], **({"items": items} if items else {})}},
                    "host_path": {"hostPath": {"path": one.get("host_path") or one["mount_path"]}},
                }[kind]
                found.append((one, source))
        return found

    def _volumes(self) -> list[dict[str, Any]]:
        """One for each entry, with its name: the API server refuses a name that two of them have, of whatever kind."""
        named = [{"name": one["name"], **source} for one, source in self._entries()]
        return named + [{"name": name, "emptyDir": {}} for name in ("repo", "scripts", "logs")]

    def _mounts(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = [
            {"name": "repo", "mountPath": self.builds},
            {"name": "scripts", "mountPath": self.scripts},
            {"name": "logs", "mountPath": f"/logs-{self.payload.project_id}-{self.payload.id}"},
        ]
        for one, _ in self._entries():
            mount = {"name": one["name"], "mountPath": one["mount_path"]}
            mount |= {"subPath": one["sub_path"]} if one.get("sub_path") else {}
            mount |= {"readOnly": True} if one.get("read_only") else {}
            found.append(mount)
        return found


def _profile(said: Table | None) -> dict[str, Any] | None:
    if not said:
        return None
    return {
        "type": said["type"],
        **({"localhostProfile": said["localhost_profile"]} if said.get("localhost_profile") else {}),
    }


def _tolerations(said: Mapping[str, str]) -> list[dict[str, str]]:
    """`"key=value" = "Effect"`, with the value, or everything but the key, left out."""
    found = []
    for entry, effect in said.items():
        key, has_value, value = entry.partition("=")
        made = {"key": key, "operator": "Equal", "value": value} if has_value else {"key": key, "operator": "Exists"}
        found.append(made | ({"effect": effect} if effect else {}))
    return found
