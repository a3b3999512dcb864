"""What `make status` says of managed databases."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from components.api import RefusedError
from tools import databases as module
from tools.answers import Health, Question

RULE = {"type": "tag", "value": "slipway-test-server"}


def asked(monkeypatch: pytest.MonkeyPatch, cluster: dict[str, Any] | None, rules: list[Any] | None) -> Any:
    """The answer for a stack with one cluster."""

    def request(path: str) -> Any:
        if cluster is None:
            raise RefusedError("not found", 404)
        known = {"status": "online", "version": "17", "num_nodes": 2, "size": "db-s-2vcpu-4gb", **cluster}
        return {"rules": rules} if path.endswith("/firewall") else {"database": known}

    monkeypatch.setattr(module, "request", request)
    declared = SimpleNamespace(id="c1", values={"name": "slipway-test-postgresql"}, is_pending=False)
    state: Any = SimpleNamespace(of=lambda noun: [declared] if noun == "DatabaseCluster" else [])
    outputs: Any = None
    return module.databases_run(Question(state, outputs, 60))


@pytest.mark.parametrize(
    ("cluster", "rules", "health", "words"),
    [
        ({}, [RULE], Health.HEALTHY, "online, version 17, 2 x db-s-2vcpu-4gb"),
        ({"status": "resizing"}, [RULE], Health.NOTICE, "resizing, version 17"),
        ({"status": "degraded"}, [RULE], Health.FAILING, "degraded"),
        ({}, [], Health.FAILING, "open to the internet: pulumi up --refresh closes it"),
        ({}, None, Health.FAILING, "open to the internet"),
        (None, None, Health.FAILING, "deleted outside of Pulumi"),
    ],
)
def test_a_cluster_is_as_digitalocean_says_and_failing_if_it_is_open(
    cluster: dict[str, Any] | None, rules: list[Any] | None, health: Health, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = asked(monkeypatch, cluster, rules)
    assert answer.health is health
    assert answer.text.startswith("slipway-test-postgresql: ")
    assert words in answer.text
