"""Metrics: which services run, what a server needs for them, and what `make verify` asks."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from components.settings import SettingsError, load
from tests.unit.engine import REQUIRED, as_config, run_program
from tools import metrics, verify
from tools.clients import CheckError, Outputs

OUTPUTS = Outputs({"server_address": "203.0.113.20", "server_ssh_user": "slipway", "metrics": "http://127.0.0.1:9090"})


def lines_about_metrics(**settings: Any) -> list[str]:
    engine = run_program(**settings)
    text = engine.named("gitlab-configuration-rendered").inputs["GITLAB_RB"]
    return [line for line in text.splitlines() if line.startswith(("prometheus_monitoring", "alertmanager"))]


def test_without_the_setting_nothing_of_it_runs() -> None:
    assert lines_about_metrics() == ["prometheus_monitoring['enable'] = false"]
    assert "metrics" not in run_program().exports


def test_with_the_setting_prometheus_and_its_exporters_run_and_no_second_source_of_alerts() -> None:
    assert lines_about_metrics(gitlab={"metrics": True}) == [
        "prometheus_monitoring['enable'] = true",
        "alertmanager['enable'] = false",
    ]
    assert run_program(gitlab={"metrics": True}).exports["metrics"] == "http://127.0.0.1:9090"


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (
            {"gitlab": {"metrics": True}, "server": {"size": "s-2vcpu-4gb"}},
            "gitlab.metrics: needs about 300 MB of memory, and s-2vcpu-4gb has 4 GB; GitLab would be killed for lack "
            "of memory. Set server.size to s-4vcpu-8gb or more, or remove it",
        ),
        (
            {"gitlab": {"metrics": True, "extraConfiguration": "prometheus_monitoring['enable'] = false"}},
            "gitlab.extraConfiguration: sets prometheus_monitoring, and so does gitlab.metrics; the line would "
            "silently override it. Remove the line, or gitlab.metrics",
        ),
    ],
)
def test_a_server_that_is_too_small_and_a_line_that_would_win_are_refused_at_preview(
    settings: dict[str, Any], expected: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        load("slipway", "test", as_config({**REQUIRED, **settings}), [], {"DIGITALOCEAN_TOKEN": "x"})
    assert caught.value.errors == [expected]


def answering(monkeypatch: pytest.MonkeyPatch, code: int = 0, error: str = "", **jobs: str) -> list[str]:
    """A server on which Prometheus knows these jobs; returns the commands that were run there."""
    ran: list[str] = []
    result = [{"metric": {"job": job}, "value": [0, value]} for job, value in jobs.items()]

    @contextmanager
    def ssh_files(_: Outputs) -> Iterator[tuple[str, ...]]:
        yield ()

    def try_run(*words: str, timeout: float) -> subprocess.CompletedProcess[str]:
        assert timeout
        ran.append(words[-1])
        return subprocess.CompletedProcess(words, code, json.dumps({"data": {"result": result}}), error)

    monkeypatch.setattr(Outputs, "ssh_files", ssh_files)
    monkeypatch.setattr(metrics, "try_run", try_run)
    return ran


def test_verify_asks_prometheus_on_the_server_which_targets_it_has_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    ran = answering(monkeypatch, node="1", redis="1", prometheus="1")
    check = verify.checks_of(Outputs({**OUTPUTS.values, "projects": []}))["Metrics"]
    assert check(OUTPUTS) == "Prometheus has reached 3 of 3 targets"
    assert ran[0].endswith("'http://127.0.0.1:9090/api/v1/query?query=up'")
    assert "Metrics" not in verify.checks_of(Outputs({"projects": []}))
    answering(monkeypatch, node="1", redis="0")
    assert check(OUTPUTS) == "Prometheus has reached 1 of 2 targets; not redis"


def test_a_prometheus_that_reaches_nothing_or_does_not_answer_fails_the_check(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, node="0")
    with pytest.raises(CheckError, match="has reached none of its targets"):
        metrics.metrics_are_collected(OUTPUTS)
    answering(monkeypatch, 7, "curl: (7) Failed to connect to 127.0.0.1 port 9090\n")
    with pytest.raises(CheckError, match=r"Prometheus does not answer: curl: \(7\) Failed to connect"):
        metrics.metrics_are_collected(OUTPUTS)
