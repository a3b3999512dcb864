"""The lifecycle of one stack: previewed, created, unchanged, changed, broken, repaired, destroyed.

The tests run in order and build on each other: each leaves the stack in the state that the next one needs.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pydo
import pytest

from tests.certificates import provided, root
from tests.e2e.control import Control
from tests.e2e.images import assert_space_comes_back, given_bucket, kept_image, pulled
from tests.e2e.leaks import PLANTED, ProcessSampler, leaked, secret_values, world_readable_files_with
from tests.e2e.stack import SANDBOX, Stack
from tools import verify
from tools.clients import CheckError, Outputs, run, try_run
from tools.metrics import metrics_are_collected
from tools.pipelines import until

#: Neither the smallest volume nor a size of its own.
SERVER: dict[str, Any] = {"image": "debian-13-x64", "volumeSizeGb": 11}
#: Prints when the machine booted: the start time of its first process.
_BOOT_TIME = "cut -d' ' -f22 /proc/1/stat"


@pytest.fixture(scope="module")
def foreign(control: Control) -> dict[str, Any]:
    """The resources in the cloud before the first test, for example those of another stack."""
    return control.resources()


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, foreign: dict[str, Any]) -> Iterator[Stack]:
    """An empty stack with the settings of the sandbox and a domain of its own; destroyed at the end."""
    assert "e2e" not in str(foreign)
    folder = tmp_path_factory.mktemp("stack")
    made = Stack.create("e2e", folder, SANDBOX, domain="e2e.test", projects=[], runners=[])
    yield made
    made.remove()


def assert_verified(outputs: Outputs) -> None:
    """Every check of `make verify` passes."""
    results = verify.measure(outputs, verify.checks_of(outputs, all_ports=True))
    assert [f"{one.name}: {one.measured}" for one in results if not one.holds] == []


def remote(outputs: Outputs, command: str) -> str:
    """Run a command as root on the server and return its standard output."""
    return outputs.ssh(f"sudo bash -c {shlex.quote(command)}")


@pytest.fixture(scope="module")
def previewed(stack: Stack, control: Control) -> set[str]:
    """URNs that the preview of the empty stack creates; the preview itself writes nothing."""
    before = len(control.requests())
    steps = stack.preview()["steps"]
    assert control.writes_since(before) == []
    assert {step["op"] for step in steps} == {"create"}
    return {step["urn"] for step in steps}


@pytest.fixture(scope="module")
def processes() -> ProcessSampler:
    """The processes seen during the first `pulumi up`."""
    return ProcessSampler()


def test_previewing_an_empty_stack_only_reads_and_shows_only_creations(previewed: set[str]) -> None:
    assert len(previewed) > 35


def test_preview_reports_all_configuration_errors_at_once_without_a_traceback(stack: Stack, control: Control) -> None:
    before = len(control.requests())
    stack.set(
        registry={"port": 443, "storrage": "spaces"}, adminCidrs=["nowhere", "192.0.2.10/24"], dns={"ttl": "\u202e5"}
    )
    done = stack.attempt("preview")
    stack.set(registry=None, adminCidrs=["192.0.2.10/32"], dns=None)
    output = done.stdout + done.stderr
    assert done.returncode != 0
    assert "5 errors in the configuration; nothing was changed." in output
    for path in ("registry.port: 443", "registry.storrage: is not a setting", "adminCidrs[0]: nowhere", "dns.ttl: "):
        assert f"  - {path}" in output
    assert "  - adminCidrs[1]: 192.0.2.10/24 is not a usable network" in output
    assert "Traceback" not in output
    assert control.writes_since(before) == []


def test_preview_reports_what_the_account_does_not_offer_with_the_errors_in_the_stack_file(
    stack: Stack, control: Control
) -> None:
    scopes = [f"{kind}:read" for kind in ("account", "regions", "image", "droplet", "domain", "reserved_ip")]
    control.change_account(email_verified=False, droplet_limit=0, scopes=[*scopes, "vpc:read"])
    stack.set(domain="nowhere", hostname="Git")
    done = stack.attempt("preview")
    control.change_account(droplet_limit=1)
    stack.set(domain="e2e.test", hostname=None, server={"size": "c-2", "image": "ubuntu-24-04-x64"})
    other = stack.attempt("preview")
    control.change_account()
    stack.set(server=SERVER)
    for output, paths in (
        (done.stdout + done.stderr, ("domain: ", "hostname: ", "is not verified", "may not read the sizes (403)")),
        (other.stdout + other.stderr, ("server.image: ubuntu-24-04-x64 is not an image",)),
    ):
        assert "nothing was changed" in output
        assert "Traceback" not in output
        assert [path for path in paths if path not in output] == []


def test_up_creates_exactly_what_the_preview_showed_and_passes_every_check(
    stack: Stack, previewed: set[str], processes: ProcessSampler
) -> None:
    with processes.running():
        stack.up()
    # The engine's own provider reads the stack's previous outputs; a preview does not list it.
    assert {urn for urn in stack.resources() if "pulumi:providers:pulumi::" not in urn} == previewed
    assert_verified(stack.outputs())


def test_a_second_up_changes_nothing_and_writes_nothing(stack: Stack, control: Control) -> None:
    before = len(control.requests())
    stack.up("--expect-no-changes")
    assert control.writes_since(before) == []


def test_a_refresh_finds_no_drift(stack: Stack) -> None:
    stack.run("refresh", "--yes", "--skip-preview", "--expect-no-changes")


def test_no_secret_is_in_state_process_list_journal_logs_or_user_data(stack: Stack, processes: ProcessSampler) -> None:
    outputs = stack.outputs()
    values = secret_values(outputs)
    droplets = pydo.Client(token=os.environ["DIGITALOCEAN_TOKEN"]).droplets.list()["droplets"]
    assert "slipway-e2e" in [droplet["name"] for droplet in droplets]
    places = {
        "state": stack.run("stack", "export", settings_file=False),
        "processes during the first up": processes.text,
        "journal": remote(outputs, "journalctl --no-pager"),
        "cloud-init logs": remote(outputs, "cat /var/log/cloud-init*.log"),
        "user_data": remote(outputs, "curl -sS http://169.254.169.254/metadata/v1/user-data"),
        "droplets in the API": json.dumps(droplets),
        "processes on the server": remote(outputs, "ps -eww -o args="),
    }
    assert [place for place, text in places.items() if not text.strip()] == []
    assert "#cloud-config" in places["user_data"]
    assert "gitlab-ctl reconfigure" in processes.text
    assert "glpat-" not in processes.text
    assert {place: leaked(text, values) for place, text in places.items() if leaked(text, values)} == {}


def test_no_world_readable_file_contains_a_secret(stack: Stack) -> None:
    outputs = stack.outputs()
    for name, value in secret_values(outputs).items():
        assert world_readable_files_with(outputs, value) == [PLANTED], name


def test_the_server_presents_no_host_key_but_the_one_it_was_given_after_first_contact(stack: Stack) -> None:
    outputs = stack.outputs()
    scanned = run("ssh-keyscan", "-t", "ecdsa,ed25519,rsa", outputs.address)
    presented = {line.split(maxsplit=1)[1] for line in scanned.splitlines() if not line.startswith("#")}
    assert presented == {" ".join(str(outputs.values["server_ssh_host_key"]).split()[:2])}


def test_ssh_refuses_passwords_and_root(stack: Stack) -> None:
    outputs = stack.outputs()
    with outputs.ssh_files() as options:
        root = try_run("ssh", *options, f"root@{outputs.address}", "true")
        password = try_run("ssh", "-o", "PreferredAuthentications=password", *options, f"slipway@{outputs.address}")
    assert "Permission denied (publickey)" in root.stderr
    assert "Permission denied (publickey)" in password.stderr


def test_a_server_with_an_unexpected_host_key_is_refused(stack: Stack) -> None:
    outputs = stack.outputs()
    key = "/etc/ssh/ssh_host_ed25519_key"
    with other_host_key(outputs, key):
        stack.set(server={**SERVER, "authorizedKeys": [PUBLIC_KEY]})
        done = stack.attempt("up", "--yes", "--skip-preview")
        with pytest.raises(CheckError, match="Host key verification failed"):
            outputs.ssh("true")
    output = done.stdout + done.stderr
    assert done.returncode != 0
    assert "host key" in output.lower()
    assert leaked(output, secret_values(outputs)) == []


def test_adding_an_authorized_key_updates_the_server_in_place(stack: Stack) -> None:
    assert stack.changes() == {"server-preparation": "update"}
    stack.up()
    assert PUBLIC_KEY in remote(stack.outputs(), "cat /home/slipway/.ssh/authorized_keys")


def test_metrics_are_collected_on_the_server_alone_until_the_setting_is_removed(stack: Stack) -> None:
    packages = {"keyFingerprint": "unpinned"}
    stack.set(gitlab={"packages": packages, "metrics": True})
    stack.up()
    outputs = stack.outputs()
    assert metrics_are_collected(outputs) == "Prometheus has reached 5 of 5 targets"
    listening = remote(outputs, "ss --listening --tcp --numeric --no-header | awk '{print $4}'").split()
    ports = {port: address for address, _, port in (one.rpartition(":") for one in listening)}
    assert {ports[port] for port in ("9090", "9100", "9121", "9168", "9187")} == {"127.0.0.1"}
    stack.set(gitlab={"packages": packages})
    stack.up()
    assert "prometheus" not in remote(stack.outputs(), "gitlab-ctl status")


def sql(outputs: Outputs, statement: str) -> str:
    """Run a statement in the server's own PostgreSQL; nothing while it does not answer."""
    return remote(outputs, f"gitlab-psql -tAc {shlex.quote(statement)} 2> /dev/null || true").strip()


def test_the_bundled_postgresql_has_no_port_roles_by_account_and_survives_its_own_death(stack: Stack) -> None:
    outputs = stack.outputs()
    assert sql(outputs, "SELECT current_user, version()").startswith("gitlab-psql|PostgreSQL 17.")
    databases = sql(outputs, "SELECT datname, datdba::regrole FROM pg_database WHERE NOT datistemplate").split()
    owners = dict(line.split("|") for line in databases)
    assert owners["gitlabhq_production"] == "gitlab"
    assert {owner for name, owner in owners.items() if name.startswith("registry")} == {"registry"}
    client = "/opt/gitlab/embedded/bin/psql -h /var/opt/gitlab/postgresql -d gitlabhq_production -U gitlab"
    assert remote(outputs, f"runuser -u git -- {client} -tAc 'SELECT current_user'") == "gitlab\n"
    refused = remote(outputs, f"runuser -u gitlab-psql -- {client} -c 'SELECT 1' 2>&1 || true")
    assert "Peer authentication failed" in refused
    assert ":5432" not in remote(outputs, "ss --listening --tcp --numeric --no-header")
    users = sql(outputs, "SELECT count(*) FROM users")
    remote(outputs, "pkill -KILL -u gitlab-psql -x postgres")
    until(lambda: sql(outputs, "SELECT count(*) FROM users") == users, "the database is back")
    assert outputs.gitlab().users.list(search="root")


def test_hostname_registry_port_and_admin_networks_change_in_place(stack: Stack) -> None:
    stack.set(hostname="git", adminCidrs=["192.0.2.0/24"], registry={"port": 5050})
    changes = stack.changes()
    assert "server-droplet" not in changes
    # The new port has its firewall before the former one loses its own.
    assert {name for name, change in changes.items() if change == "create"} == {"public-access-registry-5050"}
    assert {name for name, change in changes.items() if change == "delete"} == {"public-access-registry-5555"}
    stack.up()
    outputs = stack.outputs()
    assert outputs.registry == "git.e2e.test:5050"
    assert_verified(outputs)
    rules = remote(outputs, "ufw status")
    assert "5050/tcp" in rules
    assert "5555/tcp" not in rules
    stack.set(hostname=None, registry=None)
    stack.up()
    assert stack.outputs().registry == "gitlab.e2e.test:5555"


def test_a_provided_certificate_and_its_renewal_are_served_on_both_ports(stack: Stack) -> None:
    for _ in range(2):
        certificate = provided("gitlab.e2e.test")
        key = certificate.pop("privateKey")
        stack.set(certificate={**certificate, "caCertificate": root()})
        stack.set_secret("certificate.privateKey", key)
        stack.up()
        for port in (443, 5555):
            assert certificate["chain"].startswith(ssl.get_server_certificate(("gitlab.e2e.test", port)).strip()), port
    redirect = try_run(
        "curl", "-sS", "-o", "/dev/null", "-w", "%{redirect_url}", "http://gitlab.e2e.test/users/sign_in"
    )
    assert redirect.stdout == "https://gitlab.e2e.test:443/users/sign_in"
    stack.set(certificate=None)
    stack.up()
    assert_verified(stack.outputs())


def test_moving_the_registry_to_the_filesystem_changes_nothing_but_its_storage(stack: Stack) -> None:
    stack.set(registry={"storage": "filesystem", **QUICKLY})
    changes = stack.changes()
    # The first of the three does nothing on a server that has been ready.
    assert changes.pop("registry-beginning-settings") == "update"
    assert changes.pop("registry-storage") == "update"
    assert changes.pop("registry-login") == "update"
    assert set(changes.values()) <= {"delete", "update"}
    assert all(name.startswith(("registry-bucket", "slipway-e2e")) for name in changes)
    stack.up()
    assert_verified(stack.outputs())
    assert_space_comes_back(stack.outputs())


def test_the_registry_moves_to_an_existing_bucket_and_back_and_refuses_a_wrong_key(stack: Stack) -> None:
    with given_bucket() as s3, kept_image(stack.outputs()) as (image, digest):
        secret = s3.pop("secretKey")
        stack.set(registry={"storage": "s3", "s3": s3, **QUICKLY})
        stack.set_secret("registry.s3.secretKey", secret)
        assert {"create", "replace", "delete"}.isdisjoint(stack.changes().values())
        stack.up()
        assert_verified(stack.outputs())
        assert_space_comes_back(stack.outputs())
        with pytest.raises(CheckError, match=r"not found|unknown"):
            pulled(stack.outputs(), image)

        assert leaked(stack.run("stack", "export", settings_file=False), {"given secret key": secret}) == []

        stack.set_secret("registry.s3.secretKey", "wrong")
        done = stack.attempt("up", "--yes", "--skip-preview")
        assert done.returncode != 0
        assert "the registry's key may not list bucket" in done.stdout + done.stderr
        assert_verified(Outputs({**stack.outputs().values, "registry_storage": _storage({**s3, "secretKey": secret})}))

        stack.set(registry={"storage": "filesystem"})
        stack.up()
        assert pulled(stack.outputs(), image) == digest


def test_an_up_that_was_killed_is_completed_by_the_next_one(stack: Stack) -> None:
    stack.set(registry={"storage": "spaces", **QUICKLY})
    engine = stack.start("up", "--yes", "--skip-preview")
    assert engine.stdout
    updating = next((line for line in engine.stdout if "registry-storage" in line and "updating" in line), None)
    stack.kill(engine)
    assert updating is not None
    assert engine.returncode == -signal.SIGKILL
    stack.up()
    assert_verified(stack.outputs())
    assert_space_comes_back(stack.outputs())


def test_a_reboot_changes_nothing(stack: Stack) -> None:
    outputs = stack.outputs()
    boot = remote(outputs, _BOOT_TIME)
    with pytest.raises(CheckError):
        remote(outputs, "systemctl reboot; sleep 60")
    until(lambda: _rebooted(outputs, boot), "the server is up again")
    assert_verified(outputs)
    stack.up("--expect-no-changes")


def test_a_foreign_record_of_the_name_is_refused_at_preview(stack: Stack) -> None:
    domains = pydo.Client(token=os.environ["DIGITALOCEAN_TOKEN"]).domains
    body = {"type": "AAAA", "name": "gitlab", "data": "2001:db8::44", "ttl": 300}
    record = domains.create_record("e2e.test", body=body)["domain_record"]["id"]
    done = stack.attempt("preview")
    domains.delete_record("e2e.test", record)
    assert done.returncode != 0
    assert f"has the record gitlab AAAA 2001:db8::44 (ID {record})" in done.stdout + done.stderr
    stack.preview()


def test_a_resized_server_was_shut_down_in_order_and_is_otherwise_unchanged(stack: Stack) -> None:
    stack.set(server={**SERVER, "authorizedKeys": [PUBLIC_KEY], "size": "s-8vcpu-16gb"})
    assert stack.changes()["server-droplet"] == "update"
    stack.up()
    outputs = stack.outputs()
    assert "Stopped gitlab-runsvdir" in remote(outputs, "journalctl --no-pager --boot=-1 --unit=gitlab-runsvdir")
    assert_verified(outputs)
    assert outputs.values["monthly_cost"]["items"]["server, s-8vcpu-16gb"] == 96.0


def test_a_smaller_volume_and_a_smaller_disk_are_refused_before_anything_is_touched(
    stack: Stack, control: Control
) -> None:
    present = {**SERVER, "authorizedKeys": [PUBLIC_KEY], "size": "s-8vcpu-16gb"}
    before = len(control.requests())
    stack.set(server={**present, "volumeSizeGb": 10, "size": "c-4"})
    for words in (["preview"], ["up", "--yes", "--skip-preview"]):
        done = stack.attempt(*words)
        assert done.returncode != 0
        assert "server.volumeSizeGb: 10 cannot follow 11; volumes do not shrink" in done.stdout
        assert "server.size: c-4 has a disk of 50 GB, and slipway-e2e has one of 160 GB" in done.stdout
    assert control.writes_since(before) == []
    stack.set(server=present)
    assert stack.changes() == {}


def test_another_network_replaces_the_droplet_and_keeps_address_host_key_secrets_data_and_images(stack: Stack) -> None:
    before = stack.outputs()
    command = "sha256sum /etc/gitlab/gitlab-secrets.json; cat /etc/machine-id"
    secrets, machine = remote(before, command).splitlines()
    stack.set(server={**SERVER, "authorizedKeys": [PUBLIC_KEY], "size": "s-8vcpu-16gb", "vpcCidr": "10.140.0.0/20"})
    changes = stack.changes()
    assert "replace" in changes["server-droplet"]
    assert {"server-data", "server-address", "server-host-keys-lasting", "registry-bucket-bucket"}.isdisjoint(changes)
    with kept_image(before) as (image, digest):
        stack.up()
        stack.up("--expect-no-changes")
        after = stack.outputs()
        assert after.values == before.values
        assert_verified(after)
        assert pulled(after, image) == digest
    now = remote(after, command).splitlines()
    assert now[0] == secrets
    assert now[1] != machine
    assert "10.140." in remote(after, "ip -4 -brief address")


def test_destroy_leaves_nothing(stack: Stack, control: Control, foreign: dict[str, Any]) -> None:
    stack.run("destroy", "--yes", "--skip-preview")
    assert control.resources() == foreign
    # The first VPC of a region cannot be deleted; it costs nothing.
    vpcs = pydo.Client(token=os.environ["DIGITALOCEAN_TOKEN"]).vpcs.list()["vpcs"]
    assert all(vpc["default"] for vpc in vpcs if "e2e" in vpc["name"])


#: Lets the garbage collector work within the time of a test.
QUICKLY = {"keepUntagged": "5s"}
PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJgnNkZXhM4x1u7yZkA2mcBKR8F5oL4m4yGcmQ1yR0pW second"


@contextmanager
def other_host_key(outputs: Outputs, key: str) -> Iterator[None]:
    """Give the server another host key for the duration of the block."""
    make = f"ssh-keygen -q -t ed25519 -N '' -C impostor -f {key}.new && mv {key}.new {key} && cat {key}.new.pub"
    impostor = remote(outputs, f"mv {key} {key}.right; {make}; rm {key}.new.pub; systemctl restart ssh").strip()
    try:
        yield
    finally:
        trusting = Outputs({**outputs.values, "server_ssh_host_key": impostor})
        remote(trusting, f"mv {key}.right {key}; systemctl restart ssh")


def _storage(s3: dict[str, Any]) -> dict[str, Any]:
    renamed = {"accessKey": "access_key", "secretKey": "secret_key"}
    return {renamed.get(key, key): value for key, value in s3.items()}


def _rebooted(outputs: Outputs, boot: str) -> bool:
    try:
        now = remote(outputs, _BOOT_TIME)
        # If the connection breaks during shutdown, the output may be empty.
        return now.strip().isdigit() and now != boot and _serves(outputs)
    except (CheckError, subprocess.TimeoutExpired):
        return False


def _serves(outputs: Outputs) -> bool:
    """Whether both the registry and GitLab respond; they start one after the other."""
    expected = ((f"https://{outputs.registry}/v2/", "401"), (f"{outputs.url}/users/sign_in", "200"))
    answers = [try_run("curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", url) for url, _ in expected]
    return [answer.stdout for answer in answers] == [status for _, status in expected]
