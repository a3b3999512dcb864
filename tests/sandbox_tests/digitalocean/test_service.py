"""What holds for every resource: the token, pages, errors, the log, faults, restarts, metadata."""

from __future__ import annotations

import secrets
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.sandbox_tests.support.digitalocean_world import DROPLET, World, eventually, public_key


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with World(tmp_path_factory.mktemp("world")) as running:
        yield running


@pytest.fixture
def world(shared: World) -> World:
    return shared.fresh()


@pytest.mark.parametrize("value", ["", "Bearer wrong", "Basic dTpw", "Bearer"])
@pytest.mark.parametrize("path", ["/v2/account", "/v2/nothing"])
def test_without_the_token_nothing_is_told(world: World, value: str, path: str) -> None:
    answer = world.http.get(path, headers={"Authorization": value})
    assert answer.status_code == 401
    assert answer.json()["id"] == "unauthorized"
    assert answer.json()["message"] == "Unable to authenticate you"


def test_every_answer_has_a_request_id_and_tells_of_the_rate_limit(world: World) -> None:
    first, second = world.http.get("/v2/account"), world.http.get("/v2/account")
    assert first.headers["x-request-id"] != second.headers["x-request-id"]
    assert first.headers["ratelimit-limit"] == "5000"
    assert int(first.headers["ratelimit-remaining"]) == int(second.headers["ratelimit-remaining"]) + 1
    assert int(first.headers["ratelimit-reset"]) > time.time()


def test_more_requests_than_the_limit_are_refused(tmp_path: Path) -> None:
    with World(tmp_path, rate_limit=2) as world:
        world.http.get("/v2/account").raise_for_status()
        world.http.get("/v2/account").raise_for_status()
        assert world.refused("GET", "/v2/account")[:2] == (429, "too_many_requests")


def test_lists_come_in_pages_that_link_to_each_other(world: World) -> None:
    for number in range(5):
        world.client.tags.create(body={"name": f"t{number}"})
    first = world.client.tags.list(per_page=2)
    assert ([tag["name"] for tag in first["tags"]], first["meta"]) == (["t0", "t1"], {"total": 5})
    assert set(first["links"]["pages"]) == {"next", "last"}
    second = world.http.get(first["links"]["pages"]["next"]).json()
    assert [tag["name"] for tag in second["tags"]] == ["t2", "t3"]
    assert set(second["links"]["pages"]) == {"first", "prev", "next", "last"}
    last = world.http.get(second["links"]["pages"]["last"]).json()
    assert [tag["name"] for tag in last["tags"]] == ["t4"]
    assert set(last["links"]["pages"]) == {"first", "prev"}
    assert world.client.tags.list()["links"] == {}
    assert world.refused("GET", "/v2/tags?page=0")[0] == 400


def test_errors_have_the_same_shape_everywhere(world: World) -> None:
    assert world.refused("GET", "/v2/droplets/7")[:2] == (404, "not_found")
    assert world.refused("PUT", "/v2/account")[:2] == (405, "method_not_allowed")
    assert world.refused("GET", "/v3/account")[:2] == (404, "not_found")
    broken = world.http.post("/v2/droplets", content=b"{not json")
    assert (broken.status_code, broken.json()["message"]) == (400, "error parsing request body")
    assert world.refused("POST", "/v2/droplets", ["list"])[0] == 400
    assert world.refused("POST", "/v2/droplets", DROPLET | {"ssh_keys": "all"})[0] == 422


def test_what_is_lacking_says_so_and_is_noted(world: World) -> None:
    assert world.refused("GET", "/v2/kubernetes/clusters")[:2] == (501, "not_implemented")
    assert world.refused("GET", "/v2/kubernetes/clusters")[0] == 501
    number = world.droplet()["id"]
    assert world.refused("POST", f"/v2/droplets/{number}/actions", {"type": "snapshot", "name": "s"})[0] == 501
    assert world.refused("POST", "/v2/droplets", DROPLET | {"backups": True})[0] == 501
    gaps = {(gap["method"], gap["path"], gap["detail"]): gap["count"] for gap in world.control.get("/gaps").json()}
    assert gaps == {
        ("GET", "/v2/kubernetes/clusters", "path"): 2,
        ("POST", f"/v2/droplets/{number}/actions", "droplet action snapshot"): 1,
        ("POST", "/v2/droplets", "backups of droplets"): 1,
    }


def test_the_log_has_every_request_and_no_secret(tmp_path: Path) -> None:
    with World(tmp_path) as world:
        secret = f"user-data-{secrets.token_hex(8)}"
        world.droplet(user_data=secret)
        full = [{"bucket": "", "permission": "fullaccess"}]
        key = world.client.spaces_key.create(body={"name": "full", "grants": full})["key"]
        world.http.get(f"/v2/account?token={world.token}")
        log = world.control.get("/requests").json()
        assert ("POST", "/v2/droplets", 202) in {(entry["method"], entry["path"], entry["status"]) for entry in log}
        assert log[-1]["path"] == "/v2/account"
        assert world.control.get("/requests", params={"after": log[-1]["id"]}).json() == []
        seen = [world.control.get(path).text for path in ("/requests", "/resources", "/gaps", "/health")]
        for value in (secret, world.token, key["secret_key"]):
            assert not [text for text in seen if value in text]
        # The token is nowhere in the state, and the state is for its owner only.
        state = tmp_path / "state.sqlite"
        assert state.stat().st_mode & 0o077 == 0
        with sqlite3.connect(state) as database:
            dump = "\n".join(database.iterdump())
        database.close()
        assert world.token not in dump


def test_the_control_interface_lists_what_exists_and_forgets_it_on_reset(world: World) -> None:
    number = world.droplet()["id"]
    world.backend.buckets["images"] = "nyc3"
    found = world.control.get("/resources").json()
    assert [droplet["id"] for droplet in found["droplets"]] == [number]
    assert found["buckets"] == [{"name": "images", "region": "nyc3"}]
    assert "user_data" not in found["droplets"][0]
    assert world.control.get("/health").json() == {"status": "ok", "actions_in_progress": 0}
    world.control.post("/reset").raise_for_status()
    assert not any(world.control.get("/resources").json().values())
    assert world.control.get("/requests").json() == []
    assert world.backend.machines == {}


def test_transitions_take_at_least_as_long_as_is_set(world: World) -> None:
    table = {"droplet.reboot": {"mode": "time", "seconds": 0.3}}
    assert world.control.put("/transitions", json=table).json()["droplet.reboot"]["seconds"] == 0.3
    number = world.droplet()["id"]
    started = time.monotonic()
    world.completed(world.client.droplet_actions.post(number, body={"type": "reboot"})["action"])
    assert time.monotonic() - started >= 0.3
    assert world.control.put("/transitions", json={"*": {"mode": "never"}}).status_code == 422


def test_a_fault_answers_with_its_status_as_often_as_asked(world: World) -> None:
    fault = {"method": "GET", "path": "/v2/droplets*", "status": 503, "count": 2}
    world.control.post("/faults", json=fault).raise_for_status()
    assert [world.http.get("/v2/droplets").status_code for _ in range(3)] == [503, 503, 200]
    assert world.control.get("/faults").json() == []
    world.control.post("/faults", json=fault | {"status": 429, "count": None}).raise_for_status()
    assert world.refused("GET", "/v2/droplets")[:2] == (429, "too_many_requests")
    assert world.http.get("/v2/account").status_code == 200
    world.control.delete("/faults").raise_for_status()
    assert world.http.get("/v2/droplets").status_code == 200
    assert world.control.post("/faults", json={"path": "/", "unknown": 1}).status_code == 422


def test_a_fault_can_delay_and_cut_the_connection(world: World) -> None:
    world.control.post("/faults", json={"path": "/v2/account", "delay": 0.3}).raise_for_status()
    started = time.monotonic()
    world.http.get("/v2/account").raise_for_status()
    assert time.monotonic() - started >= 0.3
    world.control.post("/faults", json={"method": "POST", "path": "/v2/tags", "drop": True}).raise_for_status()
    with pytest.raises(httpx.TransportError):
        world.http.post("/v2/tags", json={"name": "lost"})
    assert world.client.tags.list()["tags"] == []
    dropped = {"method": "POST", "path": "/v2/tags", "drop": True, "after": True}
    world.control.post("/faults", json=dropped).raise_for_status()
    with pytest.raises(httpx.TransportError):
        world.http.post("/v2/tags", json={"name": "kept"})
    assert [tag["name"] for tag in world.client.tags.list()["tags"]] == ["kept"]
    faults = [entry["fault"] for entry in world.control.get("/requests").json() if entry["fault"]]
    assert faults == ["delay", "drop", "drop"]


def test_state_and_unfinished_work_survive_a_restart(tmp_path: Path) -> None:
    with World(tmp_path) as world:
        key = world.client.ssh_keys.create(body={"name": "me", "public_key": public_key()})["ssh_key"]
        world.client.domains.create(body={"name": "example.com"})
        busy = world.droplet()["id"]
        world.hold("droplet.create", "droplet.reboot")
        made = world.client.droplets.create(body=DROPLET | {"ssh_keys": [key["id"]]})["droplet"]
        reboot = world.client.droplet_actions.post(busy, body={"type": "reboot"})["action"]
        world.restart()
        assert world.client.ssh_keys.get(key["id"])["ssh_key"] == key
        assert world.client.droplets.get(made["id"])["droplet"]["status"] == "new"
        assert world.client.actions.get(reboot["id"])["action"]["status"] == "in-progress"
        world.hold()
        droplet = world.active(made["id"])
        assert world.completed(reboot)["status"] == "completed"
        addresses = {net["ip_address"] for net in droplet["networks"]["v4"]}
        assert world.backend.machines[made["id"]].public_ipv4 in addresses
        others = world.client.droplets.get(busy)["droplet"]["networks"]["v4"]
        assert not addresses & {net["ip_address"] for net in others}
        assert f"reboot {busy}" in world.backend.calls


@contextmanager
def process(folder: Path) -> Iterator[tuple[subprocess.Popen[str], httpx.Client]]:
    """The emulator as a process of its own, and a client with its token."""
    files = ["--token-file", str(folder / "token"), "--state", str(folder / "state.sqlite")]
    command = [sys.executable, "-m", "tests.sandbox.digitalocean", *files, "--delay", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        name, url = running.stdout.readline().split()
        assert name == "API"
        headers = {"Authorization": f"Bearer {(folder / 'token').read_text().strip()}"}
        try:
            with httpx.Client(base_url=url, headers=headers) as client:
                yield running, client
        finally:
            running.kill()


def test_it_runs_by_itself_and_a_killed_process_loses_nothing(tmp_path: Path) -> None:
    with process(tmp_path) as (running, client):
        assert (tmp_path / "token").stat().st_mode & 0o077 == 0
        client.post("/v2/tags", json={"name": "kept"}).raise_for_status()
        running.kill()
    with process(tmp_path) as (running, client):
        assert [tag["name"] for tag in client.get("/v2/tags").json()["tags"]] == ["kept"]
        running.terminate()
        assert running.wait(10) == 0


def test_a_machine_is_told_about_itself_and_nobody_else_is(world: World) -> None:
    key = world.client.ssh_keys.create(body={"name": "me", "public_key": public_key()})["ssh_key"]
    droplet = world.droplet(user_data="#cloud-config\n", ssh_keys=[key["id"]], tags=["web"])
    addresses = {net["type"]: net["ip_address"] for net in droplet["networks"]["v4"]}
    peer = {"x-peer": addresses["public"]}
    told = world.metadata.get("/metadata/v1.json", headers=peer).json()
    assert (told["droplet_id"], told["hostname"], told["region"]) == (droplet["id"], "web-1", "nyc3")
    assert (told["user_data"], told["public_keys"], told["tags"]) == ("#cloud-config\n", [public_key()], ["web"])
    assert told["interfaces"]["private"][0]["ipv4"]["ip_address"] == addresses["private"]
    assert told["interfaces"]["public"][0]["anchor_ipv4"]["ip_address"].startswith("10.10.")
    assert told["reserved_ip"] == {"ipv4": {"active": False}}
    assert told["dns"] == {"nameservers": ["100.64.0.1"]}
    assert world.metadata.get("/metadata/v1.json", headers={"x-peer": "192.0.2.10"}).status_code == 404


def test_metadata_is_a_tree_of_plain_texts(world: World) -> None:
    droplet = world.droplet()
    answer = world.client.reserved_ips.create(body={"droplet_id": droplet["id"]})
    world.completed(answer["links"]["actions"][0])
    peer = {"x-peer": world.backend.machines[droplet["id"]].anchor_ipv4}

    def told(path: str) -> str:
        reply = world.metadata.get(f"/metadata/v1/{path}", headers=peer)
        return reply.text if reply.status_code == 200 else str(reply.status_code)

    assert {"id", "hostname", "user-data", "public-keys", "interfaces/", "region"} <= set(told("").split())
    assert told("id") == str(droplet["id"])
    assert told("interfaces/") == "public/\nprivate/"
    assert told("interfaces/public/0/ipv4/address") == world.backend.machines[droplet["id"]].public_ipv4
    assert told("reserved_ip/ipv4/active") == "true"
    assert told("reserved_ip/ipv4/ip_address") == answer["reserved_ip"]["ip"]
    assert told("nothing") == "404"


def test_the_emulator_is_ready_again_after_many_actions_at_once(world: World) -> None:
    made = [world.client.droplets.create(body=DROPLET | {"name": f"web-{n}"})["droplet"]["id"] for n in range(8)]
    for number in made:
        world.active(number)
    for number in made:
        world.client.droplets.destroy(number)
    eventually(lambda: world.client.droplets.list()["meta"]["total"] == 0)
    assert world.control.get("/health").json() == {"status": "ok", "actions_in_progress": 0}
