"""A GitLab runner whose jobs are pods of a Kubernetes cluster of its own.

Imported only for such a runner: the SDK of Kubernetes is large, and not installed where no runner needs it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pulumi
import pulumi_gitlab as gitlab
import pulumi_kubernetes as kubernetes

from components import versions
from components.kubernetes_cache import KubernetesCache, KubernetesCacheArgs
from components.kubernetes_cluster import JOBS, KubernetesCluster, KubernetesClusterArgs
from components.kubernetes_files import builder_files
from components.kubernetes_offer import ClusterVersion
from components.object_storage import ObjectStorage
from components.remote import MASK
from components.rendering import render
from components.runner_registration import RunnerArgs, RunnerComponent, register, wait_until_online

#: The namespace of the program that asks GitLab for jobs, and that of the jobs.
MANAGER: Final = "gitlab-runner"
JOBS_NAMESPACE: Final = "gitlab-runner-jobs"
#: Seconds that the manager has to let its jobs end when it is replaced: the longest job that GitLab allows by default.
_GRACE: Final = 3600
#: The user of GitLab Runner's image, as its chart has it.
_USER, _GROUP = 100, 65533
#: What jobs must not reach: the metadata service, and every private network, with the cluster's own in it.
_FORBIDDEN: Final = ("169.254.0.0/16", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")
#: What the Kubernetes executor needs, and no more (GitLab Runner, "Configure runner API permissions").
_RULES: Final[tuple[tuple[str, str, tuple[str, ...]], ...]] = (
    ("", "pods", ("create", "delete", "get", "list", "watch")),
    ("", "pods/attach", ("create", "delete", "get", "patch")),
    ("", "pods/exec", ("create", "delete", "get", "patch")),
    ("", "pods/log", ("get", "list")),
    ("", "secrets", ("create", "delete", "get", "update")),
    ("", "serviceaccounts", ("get",)),
    ("", "services", ("create", "get")),
    ("", "events", ("list", "watch")),
    ("policy", "poddisruptionbudgets", ("create", "get")),
)


@dataclass(frozen=True)
class KubernetesRunnerArgs:
    """Inputs of `KubernetesRunner`. With `own_key`, the environment has a Spaces key of the user's."""

    runner: RunnerArgs
    version: ClusterVersion
    own_key: bool


class KubernetesRunner(RunnerComponent):
    """One GitLab runner on a Kubernetes cluster of its own, each of whose jobs is a pod.

    Owns the runner in GitLab, the cluster, a Space for caches if there is to be one, and everything in the cluster: the
    manager, which asks GitLab for jobs and has rights in the namespace of the jobs alone, and the network policies that
    keep jobs from each other, from the metadata service and from private networks. It is ready once it has contacted
    GitLab. Everything in the cluster is deleted with it, so that it can be destroyed when it no longer answers. Refuses
    to own the projects.
    """

    def __init__(self, name: str, args: KubernetesRunnerArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Declare the runner and its cluster."""
        super().__init__("KubernetesRunner", name, opts)
        # DigitalOcean manages the nodes, and nobody can log in to them.
        self.machines = ()
        self._args = args.runner
        settings, gitlab = args.runner.settings, args.runner.gitlab
        self._files = builder_files(settings.builder, settings.mirror_in_jobs, gitlab.ca_certificate)
        runner = register(self, args.runner)
        self._cluster = KubernetesCluster(
            self.child_name("kubernetes"),
            KubernetesClusterArgs(args.runner.site, args.runner.settings, args.version),
            self.child_options(),
        )
        self.cluster_id = self._cluster.cluster.id
        self._cache = self._caches(own_key=args.own_key)
        manager, jobs = self._namespaces()
        self._rights(manager, jobs)
        prepared = [*self._isolation(manager, jobs), *self._declare_files(jobs)]
        deployment, configured = self._manager(manager, runner, prepared)
        online = wait_until_online(self, args.runner, runner, registered=configured, depends_on=[deployment])
        known = pulumi.Output.all(runner.id, online.stdout).apply(lambda both: str(both[0]))
        self.runner_id = pulumi.Output.unsecret(known)
        self.register_outputs({"runnerId": self.runner_id})

    def _inside(self, depends_on: Sequence[pulumi.Resource] = (), **extra: Any) -> pulumi.ResourceOptions:
        """The options of what is in the cluster."""
        return self.child_options(
            provider=self._cluster.provider, deleted_with=self._cluster.cluster, depends_on=depends_on, **extra
        )

    def _namespaces(self) -> tuple[kubernetes.core.v1.Namespace, kubernetes.core.v1.Namespace]:
        # Nothing in the first is more than an ordinary process. Builders need what the second allows, and only the
        # manager can create pods there.
        levels = {MANAGER: "restricted", JOBS_NAMESPACE: "privileged"}
        manager, jobs = (
            kubernetes.core.v1.Namespace(
                self.child_name(f"namespace-{name}"),
                metadata={"name": name, "labels": {"pod-security.kubernetes.io/enforce": level}},
                opts=self._inside(),
            )
            for name, level in levels.items()
        )
        return manager, jobs

    def _rights(self, manager: kubernetes.core.v1.Namespace, jobs: kubernetes.core.v1.Namespace) -> None:
        accounts = {"manager": manager, "job": jobs}
        for name, namespace in accounts.items():
            kubernetes.core.v1.ServiceAccount(
                self.child_name(f"account-{name}"),
                metadata={"name": name, "namespace": _name_of(namespace)},
                automount_service_account_token=False,
                opts=self._inside(),
            )
        role = kubernetes.rbac.v1.Role(
            self.child_name("role"),
            metadata={"name": "manager", "namespace": _name_of(jobs)},
            rules=[{"api_groups": [group], "resources": [kind], "verbs": list(verbs)} for group, kind, verbs in _RULES],
            opts=self._inside(),
        )
        kubernetes.rbac.v1.RoleBinding(
            self.child_name("role-binding"),
            metadata={"name": "manager", "namespace": _name_of(jobs)},
            role_ref={"api_group": "rbac.authorization.k8s.io", "kind": "Role", "name": "manager"},
            subjects=[{"kind": "ServiceAccount", "name": "manager", "namespace": _name_of(manager)}],
            opts=self._inside(depends_on=[role]),
        )

    def _isolation(
        self, manager: kubernetes.core.v1.Namespace, jobs: kubernetes.core.v1.Namespace
    ) -> list[pulumi.Resource]:
        """The network policies. Nothing can connect to a manager or a job, and a job only to DNS and the internet."""
        closed = kubernetes.networking.v1.NetworkPolicy(
            self.child_name("policy-manager"),
            metadata={"name": "closed", "namespace": _name_of(manager)},
            spec={"pod_selector": {}, "policy_types": ["Ingress"]},
            opts=self._inside(),
        )
        # With high availability, DigitalOcean does not tell the address of the API server: jobs can reach it then,
        # and have no credential for it.
        forbidden = self._cluster.cluster.ipv4_address.apply(
            lambda address: [*_FORBIDDEN, *([f"{address}/32"] if address else [])]
        )
        dns = [{"port": 53, "protocol": protocol} for protocol in ("UDP", "TCP")]
        system = {"namespace_selector": {"match_labels": {"kubernetes.io/metadata.name": "kube-system"}}}
        allowed: Any = [
            {"to": [system], "ports": dns},
            {"to": [{"ip_block": {"cidr": "0.0.0.0/0", "except_": forbidden}}]},
        ]
        outwards = kubernetes.networking.v1.NetworkPolicy(
            self.child_name("policy-jobs"),
            metadata={"name": "outwards-only", "namespace": _name_of(jobs)},
            spec={"pod_selector": {}, "policy_types": ["Ingress", "Egress"], "egress": allowed},
            opts=self._inside(),
        )
        return [closed, outwards]

    def _declare_files(self, jobs: kubernetes.core.v1.Namespace) -> list[pulumi.Resource]:
        return [
            kubernetes.core.v1.ConfigMap(
                self.child_name(file.name),
                metadata={"name": file.name, "namespace": _name_of(jobs)},
                data={file.key: file.content},
                opts=self._inside(),
            )
            for file in self._files
        ]

    def _caches(self, *, own_key: bool) -> ObjectStorage | None:
        site, settings = self._args.site, self._args.settings
        if settings.cluster.cache_days is None:
            return None
        args = KubernetesCacheArgs(site, settings.name, settings.cluster.cache_days, own_key)
        return KubernetesCache(self.child_name("cache"), args, self.child_options()).storage

    def _configuration(self, token: pulumi.Input[str], *, masked: bool = False) -> pulumi.Output[str]:
        args, settings, cache = self._args, self._args.settings, self._cache
        storage: Mapping[str, pulumi.Input[str]] = {
            "bucket": cache.bucket if cache else "",
            "host": cache.base_url.removeprefix("https://") if cache else "",
            "region": cache.region if cache else "",
            "access_key": cache.access_key if cache else "",
            "secret_key": (MASK if masked else cache.secret_key) if cache else "",
        }
        known = pulumi.Output.all(
            url=args.gitlab.url, token=token, registry=args.gitlab.registry, cache=pulumi.Output.all(**storage)
        )
        return known.apply(
            lambda values: render(
                "kubernetes-runner-config.toml.j2",
                name=settings.name,
                concurrency=settings.concurrency,
                builder=settings.builder,
                is_shared=bool(args.further_project_ids),
                docker_version=versions.DOCKER,
                buildah_image=versions.BUILDAH_IMAGE,
                ca_certificate=args.gitlab.ca_certificate,
                cpu=settings.cluster.job_cpu,
                memory=settings.cluster.job_memory,
                namespace=JOBS_NAMESPACE,
                service_account="job",
                files=self._files,
                jobs=JOBS,
                **values,
            )
        )

    def _manager(
        self, namespace: kubernetes.core.v1.Namespace, runner: gitlab.UserRunner, prepared: Sequence[pulumi.Resource]
    ) -> tuple[pulumi.Resource, pulumi.Output[str]]:
        """The manager, and the digest of what it was configured with."""
        args = self._args
        files: dict[str, pulumi.Input[str]] = {
            "config.toml": self._configuration(runner.token),
            "system-id": _system_id(args.site.prefix, args.settings.name),
        }
        if args.gitlab.ca_certificate:
            files["authority.crt"] = args.gitlab.ca_certificate
        secret = kubernetes.core.v1.Secret(
            self.child_name("configuration"),
            metadata={"name": "configuration", "namespace": _name_of(namespace)},
            string_data=files,
            opts=self._inside(),
        )
        # A changed configuration is a new manager. The digest is not of the token, but the runner's ID changes with it.
        authority = args.gitlab.ca_certificate or ""
        digest = pulumi.Output.all(self._configuration(MASK, masked=True), authority, runner.id).apply(_digest)
        template: Any = {
            "metadata": {"labels": {"app": "manager"}, "annotations": {"slipway/configuration": digest}},
            "spec": _manager_pod(args.settings.version, has_authority=bool(args.gitlab.ca_certificate)),
        }
        deployment = kubernetes.apps.v1.Deployment(
            self.child_name("manager"),
            metadata={"name": "manager", "namespace": _name_of(namespace)},
            spec={
                "replicas": 1,
                "selector": {"match_labels": {"app": "manager"}},
                # The new one takes jobs while the old one lets its own end.
                "strategy": {"type": "RollingUpdate", "rolling_update": {"max_surge": 1, "max_unavailable": 0}},
                "template": template,
            },
            opts=self._inside(depends_on=[secret, *prepared]),
        )
        return deployment, digest


def _manager_pod(version: str, *, has_authority: bool) -> Mapping[str, Any]:
    """The pod of the manager. It writes nothing but what it keeps for itself, and has no rights on its node."""
    mounted = {"config.toml": "config.toml", "system-id": ".runner_system_id"}
    mounted |= {"authority.crt": "authority.crt"} if has_authority else {}
    folder = "/etc/gitlab-runner"
    return {
        "service_account_name": "manager",
        "automount_service_account_token": True,
        # SIGQUIT, which the image asks for, lets jobs end.
        "termination_grace_period_seconds": _GRACE,
        "security_context": {
            "run_as_non_root": True,
            "run_as_user": _USER,
            "run_as_group": _GROUP,
            "fs_group": _GROUP,
            "seccomp_profile": {"type": "RuntimeDefault"},
        },
        "containers": [
            {
                "name": "manager",
                "image": f"gitlab/gitlab-runner:alpine-v{version.partition('-')[0]}",
                "command": ["gitlab-runner"],
                "args": ["run", f"--config={folder}/config.toml", "--working-directory=/home/gitlab-runner"],
                "security_context": {
                    "allow_privilege_escalation": False,
                    "read_only_root_filesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                },
                # It needs little, and DigitalOcean's own pods leave little of a node.
                "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"memory": "512Mi"}},
                "volume_mounts": [
                    {"name": "own", "mount_path": folder, "sub_path": "etc"},
                    {"name": "own", "mount_path": "/home/gitlab-runner", "sub_path": "home"},
                    {"name": "own", "mount_path": "/tmp", "sub_path": "tmp"},  # noqa: S108 - in the container
                    *(
                        {"name": "configuration", "mount_path": f"{folder}/{path}", "sub_path": key, "read_only": True}
                        for key, path in mounted.items()
                    ),
                ],
            }
        ],
        "volumes": [
            {"name": "own", "empty_dir": {}},
            {"name": "configuration", "secret": {"secret_name": "configuration", "default_mode": 0o440}},
        ],
    }


def _name_of(namespace: kubernetes.core.v1.Namespace) -> pulumi.Output[str]:
    return namespace.metadata["name"]


def _system_id(prefix: str, runner: str) -> str:
    """What GitLab knows the manager by: always the same, so that it does not list every one that there has been."""
    return "r_" + hashlib.sha256(f"{prefix}/{runner}".encode()).hexdigest()[:12]


def _digest(values: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(map(str, values)).encode()).hexdigest()[:16]
