"""Faults of Spaces, and what the provider `digitalocean` does about them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.sandbox.digitalocean.state.backend import Grant
from tests.sandbox.gitlab.web.faults import Fault
from tests.sandbox.machines import spaces_front
from tests.sandbox.plugins.base.framework import Call, Checker, PartlyMadeError, PluginError
from tests.sandbox.plugins.digitalocean.session import Session
from tests.sandbox.plugins.digitalocean.spaces import SpacesBucket
from tests.sandbox_tests.support.spaces_service import SpacesService, spaces_service

pytestmark = pytest.mark.real_time("versitygw is written in Go: its clock cannot be moved, and it refuses other times")

ACCESS, SECRET = "DO00FAULTS", "x" * 40


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SpacesService]:
    with spaces_service(tmp_path_factory.mktemp("spaces")) as running:
        running.put_key(ACCESS, SECRET, [Grant("", "fullaccess")])
        yield running


@pytest.fixture
def call(service: SpacesService, monkeypatch: pytest.MonkeyPatch) -> Iterator[Call]:
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, service.proxy)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    config = {"spacesAccessId": ACCESS, "spacesSecretKey": SECRET, "spacesEndpoint": service.endpoint}
    yield Call(Session(config), "", "it", threading.Event(), lambda _severity, _message: None)
    service.faults.clear()


def create(call: Call, name: str, **inputs: Any) -> tuple[str, dict[str, Any]]:
    checked = Checker().check(SpacesBucket.inputs, {"name": name, **inputs})
    return SpacesBucket().create(call, checked)


@pytest.mark.parametrize(
    "fault", [{"status": 503, "retry_after": 1}, {"status": 500}, {"status": 429}, {"drop": True}, {"delay": 0.2}]
)
def test_a_request_to_spaces_is_repeated(service: SpacesService, call: Call, fault: dict[str, Any]) -> None:
    name = f"repeated-{'-'.join(map(str, fault.values())).lower().replace('.', '-')}"
    service.faults.add(Fault(f"/{name}", method="PUT", service="spaces", **fault))
    create(call, name)
    assert service.faults.all() == []
    assert call.session.spaces("nyc3").head_bucket(Bucket=name)


def test_an_account_has_a_limit_of_buckets(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    create(call, "within-the-limit")
    monkeypatch.setattr(spaces_front, "MOST_BUCKETS", 1)
    with pytest.raises(PluginError, match="TooManyBuckets"):
        create(call, "beyond-the-limit")


def test_a_bucket_whose_answer_was_lost_is_refused_the_second_time(service: SpacesService, call: Call) -> None:
    service.faults.add(Fault("/lost", method="PUT", service="spaces", drop=True, after=True))
    with pytest.raises(PluginError, match="BucketAlreadyOwnedByYou"):
        create(call, "lost")
    assert call.session.spaces("nyc3").head_bucket(Bucket="lost")


def test_after_three_repetitions_the_error_is_reported_and_a_bucket_that_is_there_is_kept(
    service: SpacesService, call: Call
) -> None:
    service.faults.add(Fault("/never", method="PUT", service="spaces", status=503, count=None))
    with pytest.raises(PluginError, match="SlowDown"):
        create(call, "never")
    assert [one["method"] for one in service.faults.requests if one["path"] == "/never"] == ["PUT"] * 4
    service.faults.add(Fault("/partly[?]acl*", method="PUT", service="spaces", status=500, count=None))
    with pytest.raises(PartlyMadeError) as failure:
        create(call, "partly")
    assert failure.value.identifier == "partly"


def test_a_bucket_that_cannot_be_looked_at_after_it_was_made_is_kept(service: SpacesService, call: Call) -> None:
    service.faults.add(Fault("/unseen", method="HEAD", service="spaces", status=500, count=None))
    with pytest.raises(PartlyMadeError) as failure:
        create(call, "unseen")
    assert failure.value.identifier == "unseen"
