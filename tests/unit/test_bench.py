"""`make bench`: what it compares."""

from __future__ import annotations

import json
import stat
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console
from rich.table import Table

from tests.unit.engine import run_program
from tools.bench import CANDIDATES, pipeline_table, settings, unchanged_table
from tools.bench_cluster import throughput_table, with_cluster
from tools.bench_figures import AIMS, RECORDED, record, summary
from tools.bench_graph import Operations, graph_table, longest_chain
from tools.bench_recreate import recreation

RESOURCES: dict[str, dict[str, Any]] = {
    "urn::key": {"custom": True},
    "urn::provider": {"custom": True, "dependencies": ["urn::key"]},
    "urn::droplet": {"custom": True, "provider": "urn::provider::some-id"},
    "urn::component": {"custom": False},
    "urn::bucket": {"custom": True},
    "urn::step": {"custom": True, "dependencies": ["urn::droplet", "urn::bucket"]},
}
SECONDS = {"urn::key": 1.0, "urn::droplet": 30.0, "urn::bucket": 29.0, "urn::step": 9.0, "urn::component": 99.0}


def cells(table: Table) -> list[list[str]]:
    """The rows of a table as they are printed."""
    text = StringIO()
    Console(file=text, width=120).print(table)
    lines = [line.split("│")[1:-1] for line in text.getvalue().splitlines() if "│" in line]
    return [[cell.strip() for cell in line] for line in lines]


def test_the_longest_chain_goes_through_dependencies_and_providers() -> None:
    chain = longest_chain(SECONDS, RESOURCES)
    assert chain == ["urn::key", "urn::provider", "urn::droplet", "urn::step"]


def test_an_update_is_compared_with_its_longest_chain_and_with_all_its_operations() -> None:
    made = graph_table(44.0, SECONDS, RESOURCES)
    rows = cells(made.table)
    assert rows == [
        ["the update", "44.0", "1.00", ""],
        ["its longest chain of dependencies", "40.0", "1.10", "≤ 1.10"],
        ["all operations one after another", "69.0", "0.64", "≤ 0.60"],
    ]
    assert made.ratios["new stack ÷ its longest chain"] == pytest.approx(1.1)


def test_a_queue_on_a_cluster_is_compared_with_the_one_on_a_machine() -> None:
    made = throughput_table({"one machine": 20.0, "cluster, no node at first": 100.0, "cluster": 25.0})
    rows = cells(made.table)
    assert rows == [
        ["one machine", "20.0", "24.0", "1.00"],
        ["cluster, no node at first", "100.0", "4.8", "5.00"],
        ["cluster", "25.0", "19.2", "1.25"],
    ]


def event(kind: str, urn: str) -> str:
    """An event as the engine writes it."""
    return json.dumps({"sequence": 1, kind: {"metadata": {"urn": urn, "op": "create"}}}) + "\n"


def test_operations_last_from_their_beginning_to_their_end_as_the_engine_reports_them(tmp_path: Path) -> None:
    operations = Operations(tmp_path)
    operations.note(json.loads(event("resourcePreEvent", "urn::a")), 1.0)
    operations.note(json.loads(event("resourcePreEvent", "urn::b")), 2.0)
    operations.note(json.loads(event("resOutputsEvent", "urn::b")), 5.0)
    operations.note(json.loads(event("resOutputsEvent", "urn::a")), 11.0)
    operations.note({"sequence": 2, "summaryEvent": {}}, 12.0)
    operations.note(json.loads(event("resOutputsEvent", "urn::never-begun")), 13.0)
    assert operations.seconds == {"urn::a": 10.0, "urn::b": 3.0}


def test_events_are_read_while_they_are_written_and_leave_no_file(tmp_path: Path) -> None:
    with Operations.recorded(tmp_path) as operations:
        assert stat.S_IMODE(operations.file.stat().st_mode) == 0o600
        operations.file.write_text(event("resourcePreEvent", "urn::a") + event("resOutputsEvent", "urn::a"))
    assert list(operations.seconds) == ["urn::a"]
    assert list(tmp_path.iterdir()) == []


def test_an_update_that_fails_before_its_first_event_is_not_waited_for(tmp_path: Path) -> None:
    with Operations.recorded(tmp_path) as operations:
        pass
    assert operations.seconds == {}


def test_a_recreated_stack_is_compared_with_a_new_one_with_and_without_golden_images() -> None:
    made = recreation(new=200.0, destroyed=30.0, again=110.0, from_images=(30.0, 50.0))
    assert {title: ratio for title, _, ratio in cells(made.table)} == {
        "new": "1.00",
        "destroy, data stays": "0.15",
        "again, on that data": "0.55",
        "both: make recreate": "0.70",
        "again, from golden images": "0.25",
        "both, from golden images": "0.40",
    }
    assert made.ratios == {
        "recreate ÷ new": pytest.approx(0.7),
        "recreate from golden images ÷ new": pytest.approx(0.4),
    }


def test_all_ratios_are_in_one_table_beside_those_before_and_their_aims(tmp_path: Path) -> None:
    file = tmp_path / "bench.yaml"
    file.write_text("# A note.\nrecreate ÷ new: 1.04\nqueue: 2.0\n")
    now = {"recreate ÷ new": 0.456, "something new": 3.0}
    assert cells(summary(now, file)) == [
        ["recreate ÷ new", "0.46", "1.04", "≤ 0.50"],
        ["something new", "3.00", "", ""],
    ]
    record(now, file)
    assert file.read_text() == "# A note.\nrecreate ÷ new: 0.46\nqueue: 2.0\nsomething new: 3.0\n"


def test_every_aim_and_every_recorded_ratio_is_one_that_a_run_measures() -> None:
    measured = [
        graph_table(44.0, SECONDS, RESOURCES),
        unchanged_table({"empty": 0.5, "preview": 2.0, "update": 2.5}),
        pipeline_table(dict.fromkeys(CANDIDATES, (20.0, 5.0))),
        throughput_table({"one machine": 20.0, "cluster": 25.0}),
        recreation(200.0, 30.0, 110.0, (30.0, 50.0)),
    ]
    assert {*AIMS, *yaml.safe_load(RECORDED.read_text())} <= {name for one in measured for name in one.ratios}


@pytest.mark.parametrize("pipelines", [False, True])
def test_the_settings_of_the_benchmark_are_accepted(*, pipelines: bool) -> None:
    changes: dict[str, Any] = settings({"image": "debian-13-x64"}, pipelines=pipelines)
    engine = run_program(**changes)
    projects = [one.name for one in engine.registrations if one.type == "gitlab:index/project:Project"]
    assert len(projects) == len(CANDIDATES)
    committed = {one.name for one in engine.registrations if one.name.endswith("-pipeline")}
    assert len(committed) == (1 if pipelines else 0)


def test_the_cluster_of_the_benchmark_has_one_node_of_the_size_of_the_machine() -> None:
    runner = {"image": "debian-13-x64", "size": "s-4vcpu-8gb"}
    engine = run_program(**with_cluster(settings(runner, pipelines=True), runner))
    [pool] = engine.of_type(":KubernetesNodePool")
    assert (pool.inputs["size"], pool.inputs["minNodes"], pool.inputs["maxNodes"]) == ("s-4vcpu-8gb", 0, 1)
    assert not any("builder-cluster" in one.name for one in engine.of_type(":Droplet"))
