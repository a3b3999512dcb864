"""The program as a whole: what it registers, and what it never does."""

from __future__ import annotations

import asyncio
import datetime
import re
from collections.abc import Coroutine
from itertools import pairwise
from typing import Any, cast

import pulumi
import pytest
from google.protobuf import json_format
from pulumi.runtime.mocks import MockResourceArgs

from components import versions
from components.gitlab import TOKEN_PERIOD_DAYS, token_period
from components.settings import SettingsError
from tests.certificates import provided
from tests.unit.engine import ENVELOPE, RecordingEngine, run_program

PROVIDED = provided()
#: One line of the key, which is unlike any other.
PRIVATE_KEY = PROVIDED["privateKey"].splitlines()[1]
S3 = {"bucket": "images", "accessKey": "the-access-key", "secretKey": "the-secret-key"}


@pytest.fixture(scope="module")
def engine() -> RecordingEngine:
    """The program with the required settings only."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DIGITALOCEAN_TOKEN", "dop_v1_of_a_unit_test")
        return run_program()


def test_every_resource_is_named_after_its_parent(engine: RecordingEngine) -> None:
    for one in engine.registrations:
        if one.parent and one.parent != "slipway-test":
            assert one.name.startswith(f"{one.parent}-"), one.name


def test_every_component_registers_its_outputs(engine: RecordingEngine) -> None:
    components = {one.name for one in engine.registrations if one.type.startswith("slipway:")}
    assert components == {
        "admin-key",
        "server-host-keys",
        "network",
        "server",
        "dns",
        "gitlab",
        "registry",
        "registry-beginning",
        "registry-bucket",
        "public-access",
        *(f"{step}-rendered" for step in ("gitlab-configuration", "gitlab-api-token")),
        *(f"{step}-rendered" for step in ("registry-beginning-settings", "registry-storage", "registry-login")),
    }
    assert components <= engine.outputs.keys()


def test_no_resource_relies_on_a_default_provider(engine: RecordingEngine) -> None:
    custom = [one for one in engine.registrations if one.request.custom and not one.type.startswith("pulumi:")]
    assert {one.type.split(":")[0] for one in custom} == {"command", "digitalocean", "random", "tls"}
    assert [one.name for one in custom if not one.request.provider] == []


def test_the_bucket_is_created_with_its_own_key_and_everything_else_with_the_token(engine: RecordingEngine) -> None:
    def provider(one: str) -> str:
        return engine.named(one).request.provider.split("::")[3]

    assert provider("registry-bucket-bucket") == "registry-bucket-maker"
    assert provider("registry-bucket-key") == "digitalocean"
    assert provider("server-droplet") == "digitalocean"


def test_with_a_spaces_key_of_the_user_there_is_no_full_access_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPACES_ACCESS_KEY_ID", "DO00")
    monkeypatch.setenv("SPACES_SECRET_ACCESS_KEY", "the-spaces-secret")
    engine = run_program()
    assert [one.name for one in engine.of_type(":SpacesKey")] == ["registry-bucket-key"]
    assert engine.named("registry-bucket-bucket").request.provider.split("::")[3] == "registry-bucket-maker"
    # The provider reads the environment itself, so the key is not in the state.
    assert not {"spacesAccessId", "spacesSecretKey"} & engine.named("registry-bucket-maker").inputs.keys()
    assert "the-spaces-secret" not in str([one.inputs for one in engine.registrations])


def test_the_provider_uses_a_new_spaces_key_only_when_spaces_knows_it(
    engine: RecordingEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr("components.spaces.asyncio.sleep", sleep)
    bound = engine.named("registry-bucket-maker").request.hooks
    assert [*bound.before_create] == [*bound.before_update]
    [hook] = bound.before_create
    args = pulumi.ResourceHookArgs(urn="", id="", name="registry-bucket-maker", type="")
    asyncio.run(cast(Coroutine[Any, Any, None], engine.hooks[hook](args)))
    assert slept == [10]


def test_nothing_but_lists_comes_after_a_creation_because_the_engine_saves_no_state_meanwhile(
    engine: RecordingEngine,
) -> None:
    after = [(one.name, hook) for one in engine.registrations for hook in one.request.hooks.after_create]
    assert after
    assert [hook for name, hook in after if hook != f"{name}-after-create"] == []


def test_the_token_is_in_no_input(engine: RecordingEngine) -> None:
    assert "token" not in engine.named("digitalocean").inputs
    assert "dop_v1_of_a_unit_test" not in str([one.inputs for one in engine.registrations])


def test_resources_inside_a_machine_are_deleted_with_it(engine: RecordingEngine) -> None:
    inside = engine.of_type(":Command") + engine.of_type(":VolumeAttachment") + engine.of_type(":ReservedIpAssignment")
    assert len(inside) == 10
    assert {one.deleted_with for one in inside} == {"server-droplet"}


def test_volume_and_address_outlive_a_droplet_that_is_replaced(engine: RecordingEngine) -> None:
    droplet = engine.named("server-droplet")
    assert {"server-data", "server-address"} <= droplet.depends_on
    assert droplet.request.deleteBeforeReplace
    assert droplet.inputs["gracefulShutdown"] is True
    assert engine.named("server-data").deleted_with == ""


def test_a_droplet_never_starts_without_its_firewall(engine: RecordingEngine) -> None:
    base = engine.named("network-server-base-firewall")
    assert base.name in engine.named("server-droplet").depends_on
    assert engine.named("server-droplet").inputs["tags"] == base.inputs["tags"]


def open_ports(engine: RecordingEngine, firewall: str) -> dict[str, list[str]]:
    """The ports that a firewall opens, and the networks that may use them."""
    return {rule["portRange"]: rule["sourceAddresses"] for rule in engine.named(firewall).inputs["inboundRules"]}


def test_only_ssh_is_limited_to_the_administrators(engine: RecordingEngine) -> None:
    everybody = ["0.0.0.0/0", "::/0"]
    assert open_ports(engine, "network-server-base-firewall") == {"22": ["192.0.2.10/32"], "80": everybody}
    assert open_ports(engine, "public-access-firewall") == {"443": everybody}
    assert open_ports(engine, "public-access-registry-5555") == {"5555": everybody}


def test_the_public_ports_open_once_sign_up_is_off(engine: RecordingEngine) -> None:
    for name in ("public-access-firewall", "public-access-registry-5555"):
        assert "gitlab-api-token" in engine.named(name).depends_on
    assert "signup_enabled: false" in engine.script("gitlab-api-token")
    assert not set(open_ports(engine, "network-server-base-firewall")) & {"443", "5555"}


def test_the_public_ports_of_a_new_droplet_are_closed(engine: RecordingEngine) -> None:
    for name in ("public-access-firewall", "public-access-registry-5555"):
        access = engine.named(name).inputs
        assert access["dropletIds"] == [4711]
        assert "tags" not in access


def test_another_port_of_the_registry_is_another_firewall_which_exists_before_the_former_one_is_changed() -> None:
    engine = run_program(registry={"port": 5050})
    assert "public-access-registry-5050" in engine.named("public-access-firewall").depends_on
    assert "public-access-registry-5555" not in [one.name for one in engine.registrations]


def test_no_step_on_the_server_needs_a_public_port_before_it_opens(engine: RecordingEngine) -> None:
    for name in ("gitlab-configuration", "gitlab-api-token", "registry-storage", "registry-login"):
        lines = engine.script(name).replace("\\\n", "").splitlines()
        calls = [line for line in lines if re.search(r'curl .*"(https://\$FQDN|\$url|\$realm)', line)]
        assert calls, name
        assert [call for call in calls if "--resolve" not in call] == [], name


def test_user_data_holds_the_first_contact_key_and_no_other_secret(engine: RecordingEngine) -> None:
    user_data = engine.named("server-droplet").inputs["userData"]
    assert "PRIVATE server-host-keys-first-contact" in user_data
    for secret in ("PRIVATE server-host-keys-lasting", "PRIVATE admin-key", "password-", "secret-", "glpat-"):
        assert secret not in user_data


@pytest.mark.parametrize(
    "change",
    [
        {"registry": {"port": 5050}},
        {"registry": {"storage": "filesystem"}},
        {"adminCidrs": ["198.51.100.0/24"]},
        {"gitlab": {"version": "19.3.1-ce.0"}},
        {"server": {"volumeSizeGb": 100}},
        {"hostname": "git"},
        {"certificate": PROVIDED},
        {"removal": "everything"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_settings_that_can_be_applied_in_place_do_not_replace_the_droplet(
    engine: RecordingEngine, change: dict[str, Any]
) -> None:
    replacing = ("image", "region", "sshKeys", "userData", "monitoring", "dropletAgent", "vpcUuid", "publicNetworking")
    before, after = engine.named("server-droplet").inputs, run_program(**change).named("server-droplet").inputs
    assert {key: before.get(key) for key in replacing} == {key: after.get(key) for key in replacing}


def test_only_the_first_connection_is_pinned_to_the_first_contact_key(
    engine: RecordingEngine,
) -> None:
    pins = {one.name: one.inputs["connection"]["hostKey"] for one in engine.of_type(":Command")}
    assert pins.pop("server-host-key") == "ssh-ed25519 server-host-keys-first-contact"
    assert set(pins.values()) == {"ssh-ed25519 server-host-keys-lasting"}


def test_a_command_line_has_a_time_limit_and_no_values(engine: RecordingEngine) -> None:
    line = (
        r"sudo flock --close --wait \d+ --conflict-exit-code 75 /run/slipway\.lock timeout --kill-after=30 (\d+) "
        r"bash -s -- (\S+) (\w+) # status 75: an earlier step still runs there"
    )
    for one in engine.of_type(":Command"):
        found = re.fullmatch(line, one.inputs["create"])
        assert found
        assert found[2] == one.name
        assert found[3] == ("once" if "stdin" in one.request.ignoreChanges else "0badcafe")
        assert f"LIMIT_SECONDS={found[1]}\n" in one.inputs["stdin"]
        assert one.inputs["logging"] == "stderr"
        assert {"stdout", "stderr"} <= set(one.request.additionalSecretOutputs)
        assert not one.inputs.get("environment")
        assert not one.inputs.get("delete")


def test_another_input_is_another_attempt_and_the_same_one_is_not(engine: RecordingEngine) -> None:
    same, other = run_program(), run_program(gitlab={"version": "19.2.1-ce.0"})
    keepers = [one.named("gitlab-package-attempt").inputs["keepers"] for one in (engine, same, other)]
    assert keepers[0] == keepers[1] != keepers[2]
    assert ENVELOPE in sent(engine, "gitlab-package-attempt")["keepers"]["input"]


def test_a_value_that_only_makes_a_script_run_again_is_sent_as_a_comment(engine: RecordingEngine) -> None:
    for name, line in {
        "gitlab-configuration": f'# Runs again with another GitLab version: "{versions.GITLAB}"',
        "registry-login": r'# Runs again with another configuration of the registry: "stdout of registry-storage\n"',
    }.items():
        assert line in engine.script(name).splitlines()
        # Another trigger would delete the step and create it again.
        assert engine.named(name).inputs["triggers"] == ["4711"]


def sent(engine: RecordingEngine, name: str) -> Any:
    """Inputs of a resource as they were sent, secrets in their envelopes."""
    return json_format.MessageToDict(engine.named(name).request.object)


def test_every_secret_is_sent_as_a_secret(engine: RecordingEngine) -> None:
    for name in ("server-host-key", "gitlab-configuration", "gitlab-api-token", "registry-storage", "registry-login"):
        assert ENVELOPE in sent(engine, name)["stdin"], name
    assert ENVELOPE in sent(engine, "server-droplet")["userData"]


def test_secrets_of_the_stack_file_are_sent_as_secrets() -> None:
    engine = run_program(registry={"storage": "s3", "s3": S3}, certificate=PROVIDED)
    assert ENVELOPE in sent(engine, "registry-storage")["stdin"]
    assert ENVELOPE in sent(engine, "gitlab-configuration")["stdin"]


def test_exported_passwords_tokens_and_keys_are_secret(engine: RecordingEngine) -> None:
    exports = engine.sent_outputs["slipway-test"]
    secret = {name for name, value in exports.items() if isinstance(value, dict) and ENVELOPE in value}
    assert secret == {"gitlab_admin_password", "gitlab_api_token", "registry_storage", "server_ssh_private_key"}


def test_each_step_waits_for_the_step_that_it_builds_on(engine: RecordingEngine) -> None:
    chain = ["server-host-key", "server-preparation", "gitlab-package", "gitlab-configuration"]
    for before, after in pairwise(chain):
        assert before in engine.named(after).depends_on
    assert "gitlab-configuration" in engine.named("gitlab-api-token").depends_on
    assert "gitlab-configuration" in engine.named("registry-storage").depends_on
    assert {"registry-storage", "gitlab-api-token"} <= engine.named("registry-login").depends_on
    assert "registry-beginning-settings" in engine.named("gitlab-configuration").depends_on
    assert {"server-data-attachment"} <= engine.named("server-address-assignment").depends_on


def test_first_contact_is_made_while_volume_and_address_are_on_their_way(engine: RecordingEngine) -> None:
    contact, preparation = engine.named("server-host-key"), engine.named("server-preparation")
    late = {"server-data-attachment", "server-address-assignment"}
    assert late.isdisjoint(contact.depends_on)
    assert contact.inputs["connection"]["host"] == "203.0.113.10"
    assert late | {"server-host-key"} <= preparation.depends_on
    assert preparation.inputs["connection"]["host"] == "198.51.100.7"


def test_first_contact_is_never_repeated_on_the_same_droplet(engine: RecordingEngine) -> None:
    node = engine.named("server-host-key")
    assert {"create", "stdin", "connection"} <= set(node.request.ignoreChanges)
    assert node.inputs["triggers"] == ["4711"]
    assert not engine.named("server-preparation").request.ignoreChanges


def test_the_package_is_pinned_and_held(engine: RecordingEngine) -> None:
    script = engine.script("gitlab-package")
    assert f"GITLAB_VERSION={versions.GITLAB}\n" in script
    assert "apt-mark hold gitlab-ce" in script


def test_the_first_reconfigure_waits_for_the_dns_record(engine: RecordingEngine) -> None:
    assert "dns-a" in engine.named("gitlab-configuration").depends_on
    assert "CERTIFICATE_SOURCE=lets-encrypt" in engine.script("gitlab-configuration")
    assert "CERTIFICATE_SOURCE=provided" in run_program(certificate=PROVIDED).script("gitlab-configuration")


def test_only_kept_data_is_protected_and_retained(engine: RecordingEngine) -> None:
    kept = {one.name for one in engine.registrations if one.request.protect and one.request.retainOnDelete}
    assert kept == {
        *("server-data", "registry-bucket-bucket", "dns-domain"),
        # What those who use the installation know it by.
        *("server-address", "server-host-keys-lasting", "admin-key-pair", "gitlab-admin-password"),
    }
    assert {one.name for one in engine.registrations if one.request.protect} == kept
    assert engine.named("registry-bucket-bucket").inputs["forceDestroy"] is False


def test_with_everything_removed_nothing_is_protected() -> None:
    engine = run_program(removal="everything")
    assert not [one.name for one in engine.registrations if one.request.protect]
    # The first VPC of a region is its default, which the API does not delete.
    assert [one.name for one in engine.registrations if one.request.retainOnDelete] == ["network-vpc"]
    assert engine.named("registry-bucket-bucket").inputs["forceDestroy"] is True


def test_an_existing_domain_is_looked_up_and_not_created() -> None:
    engine = run_program(dns={"zone": "existing"})
    assert not engine.of_type(":Domain")
    assert "digitalocean:index/getDomain:getDomain" in [token for token, _ in engine.calls]
    assert engine.named("dns-a").inputs["domain"] == "example.test"


def test_the_caa_record_names_lets_encrypt_only_where_it_issues(engine: RecordingEngine) -> None:
    caa = engine.named("dns-caa").inputs
    assert (caa["tag"], caa["value"], caa["flags"]) == ("issue", "letsencrypt.org.", 0)
    for certificate in (PROVIDED, {"acmeDirectory": "https://ca.example.test/directory"}):
        names = {one.name for one in run_program(certificate=certificate).registrations}
        assert "dns-caa" not in names


def test_the_version_that_counts_as_deployed_is_the_one_that_the_machine_reports(engine: RecordingEngine) -> None:
    class Behind(RecordingEngine):
        def new_resource(self, args: MockResourceArgs) -> tuple[str | None, dict[str, Any]]:
            number, outputs = super().new_resource(args)
            return number, {**outputs, "stdout": "19.2.1-ce.0\n"} if args.name == "gitlab-package" else outputs

    assert run_program(engine=Behind()).exports["deployed"]["gitlab_version"] == "19.2.1-ce.0"
    assert engine.exports["deployed"]["gitlab_version"] == versions.GITLAB


def test_the_expiry_of_the_api_token_is_an_output(engine: RecordingEngine) -> None:
    expires = datetime.date.fromisoformat(engine.exports["gitlab_api_token_expires"])
    assert expires > datetime.datetime.now(tz=datetime.UTC).date()
    assert f"TOKEN_EXPIRES_AT={expires}" in engine.script("gitlab-api-token")


def test_gitlab_rb_names_certificate_files_only_with_a_provided_certificate(engine: RecordingEngine) -> None:
    assert "letsencrypt['enable'] = true" in _text(engine, "gitlab-configuration")
    assert "ssl_certificate" not in engine.script("gitlab-configuration")
    other = run_program(certificate=PROVIDED)
    assert "letsencrypt['enable'] = false" in _text(other, "gitlab-configuration")
    assert PRIVATE_KEY in other.script("gitlab-configuration")
    assert PRIVATE_KEY not in str([one.inputs for one in engine.registrations])


def test_a_provided_certificate_redirects_http_as_lets_encrypt_does(engine: RecordingEngine) -> None:
    line = "gitlab_rails['nginx']['redirect_http_to_https'] = true"
    assert line in _text(run_program(certificate=PROVIDED), "gitlab-configuration")
    assert line not in _text(engine, "gitlab-configuration")


def test_a_private_acme_server_replaces_both_endpoints() -> None:
    text = _text(run_program(certificate={"acmeDirectory": "https://ca.example.test/dir"}), "gitlab-configuration")
    assert text.count("= 'https://ca.example.test/dir'") == 2


@pytest.mark.parametrize(("size", "workers"), [("s-2vcpu-4gb", "= 0"), ("s-4vcpu-8gb", "= 2"), ("s-8vcpu-16gb", None)])
def test_gitlab_is_tuned_to_the_memory_of_the_droplet(size: str, workers: str | None) -> None:
    text = _text(run_program(server={"size": size}), "gitlab-configuration")
    found = re.search(r"puma\['worker_processes'\] (= \d)", text)
    assert (found[1] if found else None) == workers


def test_exports_give_the_addresses_and_the_login_command(engine: RecordingEngine) -> None:
    assert engine.exports["gitlab_url"] == "https://gitlab.example.test"
    assert engine.exports["registry"] == "gitlab.example.test:5555"
    assert engine.exports["docker_login"] == "docker login --username root gitlab.example.test:5555"
    assert engine.exports["server_address"] == "198.51.100.7"


def test_nothing_is_registered_when_a_setting_is_refused() -> None:
    engine = RecordingEngine()
    with pytest.raises(SettingsError):
        run_program(engine=engine, domain="")
    # The provider alone: without it the account could not be asked.
    assert [one.name for one in engine.registrations if not one.is_provider] == ["slipway-test"]


def test_the_api_token_is_renewed_once_per_period_long_before_it_expires() -> None:
    first = datetime.date.fromordinal(TOKEN_PERIOD_DAYS * 8200)
    last = first + datetime.timedelta(days=TOKEN_PERIOD_DAYS - 1)
    assert token_period(first) == token_period(last)
    renewed, _ = token_period(last + datetime.timedelta(days=1))
    assert renewed == token_period(first)[0] + 1
    _, expires = token_period(first)
    assert (expires - last).days > TOKEN_PERIOD_DAYS
    assert (expires - first).days <= 365


def _text(engine: RecordingEngine, name: str) -> str:
    """A script with the shell's quoting of single quotes removed."""
    return engine.script(name).replace("""'"'"'""", "'")
