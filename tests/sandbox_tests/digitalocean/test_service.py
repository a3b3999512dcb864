"""What holds for every resource: the token, pages, errors, the log, faults, restarts, metadata."""

from __future__ import annotations

import asyncio
import secrets
import socket
import sqlite3
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
import trustme
from starlette.applications import Starlette

from tests.sandbox.digitalocean import app
from tests.sandbox.digitalocean.app import RateLimit
from tests.sandbox.digitalocean.server import Tls, listen, serving
from tests.sandbox.digitalocean.state.cloud import Config
from tests.sandbox_tests.support.emulated_cloud import DROPLET, LOOPBACK, EmulatedCloud, public_key
from tests.sandbox_tests.support.waiting import eventually


@pytest.mark.parametrize("value", ["", "Bearer wrong", "Basic dTpw", "Bearer"])
@pytest.mark.parametrize("path", ["/v2/account", "/v2/nothing"])
def test_without_the_token_every_request_is_refused(cloud: EmulatedCloud, value: str, path: str) -> None:
    answer = cloud.http.get(path, headers={"Authorization": value})
    assert answer.status_code == 401
    assert answer.json()["id"] == "unauthorized"
    assert answer.json()["message"] == "Unable to authenticate you"


def test_every_answer_has_a_request_id_and_the_rate_limit(cloud: EmulatedCloud) -> None:
    first, second = cloud.http.get("/v2/account"), cloud.http.get("/v2/account")
    assert first.headers["x-request-id"] != second.headers["x-request-id"]
    assert first.headers["ratelimit-limit"] == "5000"
    assert int(first.headers["ratelimit-remaining"]) == int(second.headers["ratelimit-remaining"]) + 1
    assert int(first.headers["ratelimit-reset"]) > time.time()


def test_more_requests_than_the_limit_are_refused(tmp_path: Path) -> None:
    with EmulatedCloud(tmp_path, rate_limit=2) as cloud:
        cloud.http.get("/v2/account").raise_for_status()
        cloud.http.get("/v2/account").raise_for_status()
        assert cloud.refused("GET", "/v2/account")[:2] == (429, "too_many_requests")


def test_more_requests_in_a_minute_than_the_limit_are_refused_with_the_time_to_wait(tmp_path: Path) -> None:
    with EmulatedCloud(tmp_path, rate_limit=4, burst_limit=2) as cloud:
        for _ in range(2):
            assert "retry-after" not in cloud.http.get("/v2/account").raise_for_status().headers
        answer = cloud.http.get("/v2/account")
        assert (answer.status_code, answer.json()["message"]) == (429, "API Rate limit exceeded.")
        assert 0 < int(answer.headers["retry-after"]) <= 60
        assert (answer.headers["ratelimit-limit"], answer.headers["ratelimit-remaining"]) == ("4", "2")
    # The limit of the hour is reached as well: when there will be room again is in `ratelimit-reset`.
    with EmulatedCloud(tmp_path, rate_limit=2, burst_limit=2) as cloud:
        for _ in range(2):
            cloud.http.get("/v2/account").raise_for_status()
        answer = cloud.http.get("/v2/account")
        assert (answer.status_code, answer.headers["ratelimit-remaining"]) == (429, "0")
        assert "retry-after" not in answer.headers


def test_the_limits_are_those_that_are_published() -> None:
    published = Config(token="")
    assert (published.rate_limit, published.burst_limit) == (5000, 250)


def test_an_hour_of_requests_lasts_an_hour_also_when_the_clock_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    limit = RateLimit(1, 9)
    assert (limit.take(), limit.take()) == (True, False)
    now, clock = time.monotonic(), SimpleNamespace(time=lambda: 0.0, monotonic=time.monotonic)
    monkeypatch.setattr(app, "time", clock)
    assert limit.take() is False
    clock.monotonic = lambda: now + 3600
    assert limit.take() is True


def test_lists_are_paged_with_links(cloud: EmulatedCloud) -> None:
    for number in range(5):
        cloud.client.tags.create(body={"name": f"t{number}"})
    first = cloud.client.tags.list(per_page=2)
    assert ([tag["name"] for tag in first["tags"]], first["meta"]) == (["t0", "t1"], {"total": 5})
    assert set(first["links"]["pages"]) == {"next", "last"}
    second = cloud.http.get(first["links"]["pages"]["next"]).json()
    assert [tag["name"] for tag in second["tags"]] == ["t2", "t3"]
    assert set(second["links"]["pages"]) == {"first", "prev", "next", "last"}
    last = cloud.http.get(second["links"]["pages"]["last"]).json()
    assert [tag["name"] for tag in last["tags"]] == ["t4"]
    assert set(last["links"]["pages"]) == {"first", "prev"}
    assert cloud.client.tags.list()["links"] == {}
    assert cloud.refused("GET", "/v2/tags?page=0")[0] == 400


def test_errors_have_the_same_shape_everywhere(cloud: EmulatedCloud) -> None:
    assert cloud.refused("GET", "/v2/droplets/7")[:2] == (404, "not_found")
    assert cloud.refused("PUT", "/v2/account")[:2] == (405, "method_not_allowed")
    assert cloud.refused("GET", "/v3/account")[:2] == (404, "not_found")
    broken = cloud.http.post("/v2/droplets", content=b"{not json")
    assert (broken.status_code, broken.json()["message"]) == (400, "error parsing request body")
    assert cloud.refused("POST", "/v2/droplets", ["list"])[0] == 400
    assert cloud.refused("POST", "/v2/droplets", DROPLET | {"ssh_keys": "all"})[0] == 422


def test_a_route_that_is_not_emulated_answers_501_and_is_recorded(cloud: EmulatedCloud) -> None:
    assert cloud.refused("GET", "/v2/load_balancers")[:2] == (501, "not_implemented")
    assert cloud.refused("GET", "/v2/load_balancers")[0] == 501
    number = cloud.droplet()["id"]
    assert cloud.refused("POST", f"/v2/droplets/{number}/actions", {"type": "password_reset"})[0] == 501
    assert cloud.refused("POST", "/v2/droplets", DROPLET | {"backups": True})[0] == 501
    gaps = {(gap["method"], gap["path"], gap["detail"]): gap["count"] for gap in cloud.control.get("/gaps").json()}
    assert gaps == {
        ("GET", "/v2/load_balancers", "path"): 2,
        ("POST", f"/v2/droplets/{number}/actions", "droplet action password_reset"): 1,
        ("POST", "/v2/droplets", "backups of droplets"): 1,
    }


def test_the_log_has_every_request_and_no_secret(tmp_path: Path) -> None:
    with EmulatedCloud(tmp_path) as cloud:
        secret = f"user-data-{secrets.token_hex(8)}"
        cloud.droplet(user_data=secret)
        full = [{"bucket": "", "permission": "fullaccess"}]
        key = cloud.client.spaces_key.create(body={"name": "full", "grants": full})["key"]
        cloud.http.get(f"/v2/account?token={cloud.token}")
        log = cloud.control.get("/requests").json()
        assert ("POST", "/v2/droplets", 202) in {(entry["method"], entry["path"], entry["status"]) for entry in log}
        assert log[-1]["path"] == "/v2/account"
        assert cloud.control.get("/requests", params={"after": log[-1]["id"]}).json() == []
        seen = [cloud.control.get(path).text for path in ("/requests", "/resources", "/gaps", "/health")]
        for value in (secret, cloud.token, key["secret_key"]):
            assert not [text for text in seen if value in text]
        # The token is nowhere in the state, and the state is for its owner only.
        state = tmp_path / "state.sqlite"
        assert state.stat().st_mode & 0o077 == 0
        with sqlite3.connect(state) as database:
            dump = "\n".join(database.iterdump())
        database.close()
        assert cloud.token not in dump


def test_the_control_interface_lists_what_exists_and_forgets_it_on_reset(cloud: EmulatedCloud) -> None:
    number = cloud.droplet()["id"]
    cloud.backend.buckets["images"] = "nyc3"
    found = cloud.control.get("/resources").json()
    assert [droplet["id"] for droplet in found["droplets"]] == [number]
    assert found["buckets"] == [{"name": "images", "region": "nyc3"}]
    assert "user_data" not in found["droplets"][0]
    assert cloud.control.get("/health").json() == {"status": "ok", "actions_in_progress": 0}
    cloud.control.post("/reset").raise_for_status()
    assert not any(cloud.control.get("/resources").json().values())
    assert cloud.control.get("/requests").json() == []
    assert cloud.backend.machines == {}


def test_transitions_take_at_least_the_configured_time(cloud: EmulatedCloud) -> None:
    table = {"droplet.reboot": {"mode": "time", "seconds": 0.3}}
    assert cloud.control.put("/transitions", json=table).json()["droplet.reboot"]["seconds"] == 0.3
    number = cloud.droplet()["id"]
    started = time.monotonic()
    cloud.completed(cloud.client.droplet_actions.post(number, body={"type": "reboot"})["action"])
    assert time.monotonic() - started >= 0.3
    assert cloud.control.put("/transitions", json={"*": {"mode": "never"}}).status_code == 422


def test_a_fault_answers_with_its_status_the_requested_number_of_times(cloud: EmulatedCloud) -> None:
    fault = {"method": "GET", "path": "/v2/droplets*", "status": 503, "count": 2}
    cloud.add_fault(fault)
    assert [cloud.http.get("/v2/droplets").status_code for _ in range(3)] == [503, 503, 200]
    assert cloud.control.get("/faults").json() == []
    cloud.add_fault(fault | {"status": 429, "count": None})
    assert cloud.refused("GET", "/v2/droplets")[:2] == (429, "too_many_requests")
    assert cloud.http.get("/v2/account").status_code == 200
    cloud.control.delete("/faults").raise_for_status()
    assert cloud.http.get("/v2/droplets").status_code == 200
    for wrong in ({"unknown": 1}, {"status": 200}, {"delay": -1}, {"path": ""}):
        assert cloud.control.post("/faults", json={"path": "/", **wrong}).status_code == 422


def test_a_fault_can_say_when_to_ask_again_and_answer_with_a_page(cloud: EmulatedCloud) -> None:
    for status in (429, 503):
        cloud.add_fault({"path": "/v2/account", "status": status, "retry_after": 7})
        answer = cloud.http.get("/v2/account")
        assert (answer.status_code, answer.headers["retry-after"]) == (status, "7")
        assert answer.json()["message"] == "injected fault"
    cloud.add_fault({"path": "/v2/account", "status": 502, "page": True})
    answer = cloud.http.get("/v2/account")
    assert (answer.status_code, answer.headers["content-type"]) == (502, "text/html; charset=utf-8")
    assert "<center><h1>502 Bad Gateway</h1></center>" in answer.text


def test_a_fault_can_hit_after_the_request_was_carried_out(cloud: EmulatedCloud) -> None:
    cloud.add_fault({"method": "POST", "path": "/v2/tags", "status": 503, "after": True})
    assert cloud.http.post("/v2/tags", json={"name": "made"}).status_code == 503
    assert [tag["name"] for tag in cloud.client.tags.list()["tags"]] == ["made"]
    cloud.add_fault({"method": "POST", "path": "/v2/tags", "delay": 30, "after": True})
    with pytest.raises(httpx.ReadTimeout):
        cloud.http.post("/v2/tags", json={"name": "late"}, timeout=0.5)
    assert [tag["name"] for tag in cloud.client.tags.list()["tags"]] == ["made", "late"]


def test_a_fault_can_hit_a_query(cloud: EmulatedCloud) -> None:
    cloud.add_fault({"path": "/v2/tags[?]page=2*", "status": 500})
    assert [cloud.http.get(f"/v2/tags?page={page}").status_code for page in (1, 2, 2)] == [200, 500, 200]


def test_a_fault_can_delay_and_cut_the_connection(cloud: EmulatedCloud) -> None:
    cloud.add_fault({"path": "/v2/account", "delay": 0.3})
    started = time.monotonic()
    cloud.http.get("/v2/account").raise_for_status()
    assert time.monotonic() - started >= 0.3
    cloud.add_fault({"method": "POST", "path": "/v2/tags", "drop": True})
    with pytest.raises(httpx.TransportError):
        cloud.http.post("/v2/tags", json={"name": "lost"})
    assert cloud.client.tags.list()["tags"] == []
    dropped = {"method": "POST", "path": "/v2/tags", "drop": True, "after": True}
    cloud.add_fault(dropped)
    with pytest.raises(httpx.TransportError):
        cloud.http.post("/v2/tags", json={"name": "kept"})
    assert [tag["name"] for tag in cloud.client.tags.list()["tags"]] == ["kept"]
    faults = [entry["fault"] for entry in cloud.control.get("/requests").json() if entry["fault"]]
    assert faults == ["delay", "drop", "drop"]


def test_state_and_unfinished_work_survive_a_restart(tmp_path: Path) -> None:
    with EmulatedCloud(tmp_path) as cloud:
        key = cloud.client.ssh_keys.create(body={"name": "me", "public_key": public_key()})["ssh_key"]
        cloud.client.domains.create(body={"name": "example.com"})
        busy = cloud.droplet()["id"]
        cloud.hold("droplet.create", "droplet.reboot")
        made = cloud.client.droplets.create(body=DROPLET | {"ssh_keys": [key["id"]]})["droplet"]
        reboot = cloud.client.droplet_actions.post(busy, body={"type": "reboot"})["action"]
        cloud.restart()
        assert cloud.client.ssh_keys.get(key["id"])["ssh_key"] == key
        assert cloud.client.droplets.get(made["id"])["droplet"]["status"] == "new"
        assert cloud.client.actions.get(reboot["id"])["action"]["status"] == "in-progress"
        cloud.hold()
        droplet = cloud.active(made["id"])
        assert cloud.completed(reboot)["status"] == "completed"
        addresses = {net["ip_address"] for net in droplet["networks"]["v4"]}
        assert cloud.backend.machines[made["id"]].public_ipv4 in addresses
        others = cloud.client.droplets.get(busy)["droplet"]["networks"]["v4"]
        assert not addresses & {net["ip_address"] for net in others}
        assert f"reboot {busy}" in cloud.backend.calls


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


def test_it_runs_standalone_and_a_killed_process_loses_nothing(tmp_path: Path) -> None:
    with process(tmp_path) as (running, client):
        assert (tmp_path / "token").stat().st_mode & 0o077 == 0
        client.post("/v2/tags", json={"name": "kept"}).raise_for_status()
        running.kill()
    with process(tmp_path) as (running, client):
        assert [tag["name"] for tag in client.get("/v2/tags").json()["tags"]] == ["kept"]
        running.terminate()
        assert running.wait(10) == 0


def test_a_machine_gets_its_own_metadata_and_nobody_elses(cloud: EmulatedCloud) -> None:
    key = cloud.client.ssh_keys.create(body={"name": "me", "public_key": public_key()})["ssh_key"]
    droplet = cloud.droplet(user_data="#cloud-config\n", ssh_keys=[key["id"]], tags=["web"])
    addresses = {net["type"]: net["ip_address"] for net in droplet["networks"]["v4"]}
    peer = {"x-peer": addresses["public"]}
    told = cloud.metadata.get("/metadata/v1.json", headers=peer).json()
    assert (told["droplet_id"], told["hostname"], told["region"]) == (droplet["id"], "web-1", "nyc3")
    assert (told["user_data"], told["public_keys"], told["tags"]) == ("#cloud-config\n", [public_key()], ["web"])
    assert told["interfaces"]["private"][0]["ipv4"]["ip_address"] == addresses["private"]
    assert told["interfaces"]["public"][0]["anchor_ipv4"]["ip_address"].startswith("10.10.")
    assert told["reserved_ip"] == {"ipv4": {"active": False}}
    assert told["dns"] == {"nameservers": ["100.64.0.1"]}
    assert cloud.metadata.get("/metadata/v1.json", headers={"x-peer": "192.0.2.10"}).status_code == 404


def test_metadata_is_a_tree_of_plain_text(cloud: EmulatedCloud) -> None:
    droplet = cloud.droplet()
    answer = cloud.client.reserved_ips.create(body={"droplet_id": droplet["id"]})
    cloud.completed(answer["links"]["actions"][0])
    peer = {"x-peer": cloud.backend.machines[droplet["id"]].anchor_ipv4}

    def told(path: str) -> str:
        reply = cloud.metadata.get(f"/metadata/v1/{path}", headers=peer)
        return reply.text if reply.status_code == 200 else str(reply.status_code)

    assert {"id", "hostname", "user-data", "public-keys", "interfaces/", "region"} <= set(told("").split())
    assert told("id") == str(droplet["id"])
    assert told("interfaces/") == "public/\nprivate/"
    assert told("interfaces/public/0/ipv4/address") == cloud.backend.machines[droplet["id"]].public_ipv4
    assert told("reserved_ip/ipv4/active") == "true"
    assert told("reserved_ip/ipv4/ip_address") == answer["reserved_ip"]["ip"]
    assert told("nothing") == "404"


def test_the_emulator_is_ready_again_after_many_actions_at_once(cloud: EmulatedCloud) -> None:
    made = [cloud.client.droplets.create(body=DROPLET | {"name": f"web-{n}"})["droplet"]["id"] for n in range(8)]
    for number in made:
        cloud.active(number)
    for number in made:
        cloud.client.droplets.destroy(number)
    eventually(lambda: cloud.client.droplets.list()["meta"]["total"] == 0)
    assert cloud.control.get("/health").json() == {"status": "ok", "actions_in_progress": 0}


@pytest.mark.parametrize("header", ["", "Connection: close\r\n"])
async def test_a_server_that_stops_closes_connections_whose_client_does_not_answer(tmp_path: Path, header: str) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert(LOOPBACK)
    tls = Tls(tmp_path / "test.crt", tmp_path / "test.key")
    certificate.cert_chain_pems[0].write_to_path(tls.certificate)
    certificate.private_key_pem.write_to_path(tls.key)
    trust = ssl.create_default_context()
    authority.configure_trust(trust)

    def connect(port: int) -> ssl.SSLSocket:
        client = trust.wrap_socket(socket.create_connection((LOOPBACK, port)), server_hostname=LOOPBACK)
        client.sendall(f"GET / HTTP/1.1\r\nHost: test\r\n{header}\r\n".encode())
        assert client.recv(12) == b"HTTP/1.1 404"
        return client

    listener = listen(LOOPBACK, 0)
    async with serving(Starlette(), listener, tls):
        client = await asyncio.to_thread(connect, listener.getsockname()[1])
    # Data to a connection that the server still has would be accepted.
    closed = (BrokenPipeError, ConnectionResetError, ssl.SSLEOFError)
    with client, pytest.raises(closed):  # noqa: PT012 - the first may still pass
        for _ in range(2):
            client.sendall(b"GET / HTTP/1.1\r\n")
            await asyncio.sleep(0)
