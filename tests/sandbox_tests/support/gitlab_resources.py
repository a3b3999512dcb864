"""Resources of the provider `gitlab`, each driven alone on a GitLab stand-in."""

from __future__ import annotations

from itertools import count
from typing import Any

from tests.sandbox.plugins.base.properties import Properties
from tests.sandbox.plugins.gitlab.session import Session
from tests.sandbox.plugins.provider_gitlab import GitLab
from tests.sandbox_tests.support.gitlab_instance import Instance
from tests.sandbox_tests.support.pulumi_engine import ResourceDriver

_NUMBERS = count(1)


def driver_of(instance: Instance, **config: Any) -> ResourceDriver:
    """A driver with a token of the administrator, unless the configuration has another."""
    return ResourceDriver(GitLab(), Session({"token": instance.token, "baseUrl": f"{instance.url}/api/v4/", **config}))


def invoke(driver: ResourceDriver, name: str, **inputs: Any) -> Properties:
    """Call a function of the provider."""
    return GitLab().function(f"gitlab:index/{name}:{name}").invoke(driver.call(), inputs)


def create_project(driver: ResourceDriver, **inputs: Any) -> tuple[str, Properties]:
    """A project with a name of its own."""
    common: Properties = {"name": f"project-{next(_NUMBERS)}", "initializeWithReadme": True}
    return driver.create("Project", **(common | inputs))


def assert_settled(driver: ResourceDriver, kind: str, identifier: str, state: Properties) -> None:
    """Reading the resource shows no difference from the inputs, and returns no secret."""
    found = driver.read(kind, identifier, state)
    assert found is not None
    assert found[0] == identifier
    resource = driver.resource(kind)
    inputs = {name: value for name, value in state.items() if name in resource.inputs}
    assert dict(resource.differences(inputs, resource.refreshed_inputs(inputs, found[1]))) == {}
    assert resource.secret_outputs & found[1].keys() <= {"runnersToken"}


def create_and_delete(driver: ResourceDriver, kind: str, **inputs: Any) -> tuple[str, Properties]:
    """Create a resource, read it back unchanged, and delete it twice: the second time is no error."""
    identifier, state = driver.create(kind, **inputs)
    assert_settled(driver, kind, identifier, state)
    driver.delete(kind, identifier, state)
    assert driver.read(kind, identifier, state) is None
    driver.delete(kind, identifier, state)
    return identifier, state
