"""Settings of machines: their images and sizes, the private network, and the mirror that runners pull through."""

from __future__ import annotations

import pytest

from tests.unit.test_settings import errors, settings


@pytest.mark.parametrize("image", ["ubuntu-24-04-x64", "debian-12-x64", "debian-13-x64"])
def test_server_and_runners_take_the_images_that_gitlab_has_packages_for(image: str) -> None:
    found = settings(server={"image": image}, projects=[{"path": "hello"}], runners=[{"image": image}])
    assert found.server.image == found.runners[0].image == image


@pytest.mark.parametrize("image", ["ubuntu-20-04-x64", "ubuntu-16-04-x64", "windows-2022", "fedora-40-x64", "", 0])
def test_server_and_runners_refuse_every_other_image(image: object) -> None:
    found = errors(server={"image": image}, projects=[{"path": "hello"}], runners=[{"image": image}])
    assert sorted(line.split(":")[0] for line in found) == ["runners[0].image", "server.image"]


@pytest.mark.parametrize("network", ["10.20.0.0/16", "172.31.64.0/24", "192.168.7.16/28"])
def test_a_private_network_may_be_in_each_of_the_three_private_ranges(network: str) -> None:
    assert str(settings(server={"vpcCidr": network}).server.vpc_cidr) == network


@pytest.mark.parametrize("network", ["169.254.0.0/16", "127.0.0.0/16", "172.32.0.0/16", "192.0.2.0/24", "10.0.0.0/29"])
def test_a_private_network_may_be_nowhere_else(network: str) -> None:
    [line] = errors(server={"vpcCidr": network})
    assert line.startswith("server.vpcCidr: ")


def test_an_address_within_a_private_network_is_refused_with_the_network_that_is_meant() -> None:
    [line] = errors(server={"vpcCidr": "10.20.0.5/24"})
    assert line.endswith("Use 10.20.0.0/24")


@pytest.mark.parametrize("builder", ["docker", "buildah"])
@pytest.mark.parametrize("mirror", [None, "https://mirror.gcr.io", "https://mirror.gcr.io/", "https://m.example:5000"])
def test_a_mirror_is_a_host_and_a_port(builder: str, mirror: str | None) -> None:
    found = settings(projects=[{"path": "hello"}], runners=[{"builder": builder, "registryMirror": mirror}])
    assert found.runners[0].registry_mirror == (mirror.rstrip("/") if mirror else None)


@pytest.mark.parametrize("builder", ["docker", "buildah"])
@pytest.mark.parametrize("rest", ["reader:example@m.example", "reader@m.example", "m.example/hub", "m.example?a=b", ""])
def test_a_mirror_with_user_info_a_path_or_a_query_is_refused(builder: str, rest: str) -> None:
    mirror = f"https://{rest}"
    [line] = errors(projects=[{"path": "hello"}], runners=[{"builder": builder, "registryMirror": mirror}])
    assert line.startswith("runners[0].registryMirror: ")
    assert "reader:example" not in line


@pytest.mark.parametrize("size", ["", "big", "S-4VCPU-8GB", "s 4", 0])
def test_server_and_runners_refuse_what_is_not_a_size(size: object) -> None:
    found = errors(server={"size": size}, projects=[{"path": "hello"}], runners=[{"size": size}])
    assert sorted(line.split(":")[0] for line in found) == ["runners[0].size", "server.size"]
