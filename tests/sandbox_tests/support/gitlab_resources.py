"""A resource driver on an instance of the GitLab stand-in, for the tests of the `gitlab` plugin."""

from __future__ import annotations

from itertools import count
from typing import Any

import httpx

from tests.sandbox.plugins.base.properties import Properties
from tests.sandbox.plugins.gitlab.session import Session
from tests.sandbox.plugins.provider_gitlab import GitLab
from tests.sandbox_tests.support.gitlab_instance import Instance
from tests.sandbox_tests.support.pulumi_engine import ResourceDriver

_NUMBERS = count(1)


def driver_of(instance: Instance, **config: Any) -> ResourceDriver:
    """A resource driver with a token of the administrator, if the configuration says nothing else."""
    return ResourceDriver(GitLab(), Session({"token": instance.token, "baseUrl": f"{instance.url}/api/v4/", **config}))


def ask(instance: Instance, method: str, path: str, body: Any = None) -> Any:
    """Ask GitLab past the plugin."""
    headers = {"authorization": f"Bearer {instance.token}"}
    answer = httpx.request(method, f"{instance.url}/api/v4{path}", headers=headers, json=body)
    answer.raise_for_status()
    return answer.json() if answer.content else None


def ask_function(driver: ResourceDriver, name: str, **inputs: Any) -> Properties:
    """The answer of a function of the provider."""
    return GitLab().function(f"gitlab:index/{name}:{name}").invoke(driver.call(), inputs)


def make(driver: ResourceDriver, **inputs: Any) -> tuple[str, Properties]:
    """A project with a name of its own."""
    common: Properties = {"name": f"project-{next(_NUMBERS)}", "initializeWithReadme": True}
    return driver.create("Project", **(common | inputs))


def settles(driver: ResourceDriver, kind: str, identifier: str, state: Properties) -> None:
    """What is read later is no difference from what the program gave, and has no secret in it."""
    found = driver.read(kind, identifier, state)
    assert found is not None
    assert found[0] == identifier
    resource = driver.resource(kind)
    inputs = {name: value for name, value in state.items() if name in resource.inputs}
    assert dict(resource.differences(inputs, resource.refreshed_inputs(inputs, found[1]))) == {}
    assert resource.secret_outputs & found[1].keys() <= {"runnersToken"}


def comes_and_goes(driver: ResourceDriver, kind: str, **inputs: Any) -> tuple[str, Properties]:
    """It is made, read back the same, removed, and is gone; to remove it again is no error."""
    identifier, state = driver.create(kind, **inputs)
    settles(driver, kind, identifier, state)
    driver.delete(kind, identifier, state)
    assert driver.read(kind, identifier, state) is None
    driver.delete(kind, identifier, state)
    return identifier, state
