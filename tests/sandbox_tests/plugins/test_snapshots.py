"""Snapshots of droplets, by the provider `digitalocean` against the emulated API."""

from __future__ import annotations

from typing import Any

import pytest

from tests.sandbox.plugins.base.framework import PluginError
from tests.sandbox.plugins.digitalocean.session import Session
from tests.sandbox.plugins.provider_digitalocean import DigitalOcean
from tests.sandbox_tests.support.emulated_cloud import EmulatedCloud
from tests.sandbox_tests.support.pulumi_engine import ResourceDriver


@pytest.fixture
def driver(cloud: EmulatedCloud, monkeypatch: pytest.MonkeyPatch) -> ResourceDriver:
    """The provider, with the account's token."""
    monkeypatch.setenv("SSL_CERT_FILE", str(cloud.ca_certificate))
    return ResourceDriver(DigitalOcean(), Session({"token": cloud.token, "apiEndpoint": cloud.url}))


def get_image(driver: ResourceDriver, name: str) -> dict[str, Any]:
    return DigitalOcean().function("digitalocean:index/getImage:getImage").invoke(driver.call(), {"name": name})


def test_a_snapshot_is_an_image_that_is_found_by_its_name(driver: ResourceDriver) -> None:
    machine, _ = driver.create("Droplet", name="machine", image="debian-13-x64", size="s-1vcpu-1gb", region="nyc3")
    identifier, state = driver.create("DropletSnapshot", dropletId=machine, name="golden")
    assert (state["dropletId"], state["minDiskSize"], state["regions"]) == (machine, 25, ["nyc3"])
    assert driver.read("DropletSnapshot", identifier, state)[1] == state
    found = get_image(driver, "golden")
    assert (str(found["id"]), found["private"], found["distribution"]) == (identifier, True, "Debian")
    with pytest.raises(PluginError, match="no user image found with name silver"):
        get_image(driver, "silver")
    driver.create("DropletSnapshot", dropletId=machine, name="golden")
    with pytest.raises(PluginError, match=r"too many user images .* \(found 2, expected 1\)"):
        get_image(driver, "golden")
    driver.delete("DropletSnapshot", identifier, state)
    assert driver.read("DropletSnapshot", identifier, state) is None
