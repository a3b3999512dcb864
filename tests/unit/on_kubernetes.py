"""A stack whose runner has a cluster, for tests of the program."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from components.settings import SettingsError
from tests.certificates import provided, root
from tests.unit.delivered import delivered
from tests.unit.engine import RecordingEngine

NAME = "delivery-docker-builder"
CLUSTER = f"{NAME}-kubernetes-cluster"


def on_kubernetes(runner: dict[str, Any] | None = None, **settings: Any) -> RecordingEngine:
    """The program with one project, whose runner has a cluster."""
    return delivered(runner={"kind": "kubernetes", **(runner or {})}, **settings)


def errors(runner: dict[str, Any] | None = None, engine: RecordingEngine | None = None, **settings: Any) -> list[str]:
    """What is refused."""
    with pytest.raises(SettingsError) as caught:
        on_kubernetes(runner, engine=engine, **settings)
    return caught.value.errors


def configuration(engine: RecordingEngine) -> Any:
    """The manager's config.toml."""
    return tomllib.loads(engine.named(f"{NAME}-configuration").inputs["stringData"]["config.toml"])


def kubernetes_of(engine: RecordingEngine) -> dict[str, Any]:
    """The table `[runners.kubernetes]`."""
    [runner] = configuration(engine)["runners"]
    assert runner["executor"] == "kubernetes"
    found: dict[str, Any] = runner["kubernetes"]
    return found


def deployed(**more: Any) -> dict[str, dict[str, Any]]:
    """A state in which the cluster is."""
    urn = (
        "urn:pulumi:test::slipway::slipway:index:Delivery$slipway:index:KubernetesRunner$slipway:index:KubernetesCluster"
        f"$digitalocean:index/kubernetesCluster:KubernetesCluster::{CLUSTER}"
    )
    return {urn: {"name": "slipway-test-docker-builder", "version": "1.35.2-do.0", "ha": False, **more}}


def with_pool(cluster: dict[str, Any] | None = None, **more: Any) -> dict[str, dict[str, Any]]:
    """The same with the pool of nodes for jobs."""
    [(urn, known)] = deployed(**(cluster or {})).items()
    pool = f"{urn.rpartition('$')[0]}$digitalocean:index/kubernetesNodePool:KubernetesNodePool::{NAME}-kubernetes-jobs"
    usual = {"name": "slipway-test-docker-builder-jobs", "size": "s-2vcpu-4gb", "maxNodes": 3}
    return {urn: known, pool: {**usual, **more}}


def certificate() -> dict[str, Any]:
    """A certificate of a private authority."""
    return {**provided(), "caCertificate": root()}
