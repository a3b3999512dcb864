"""Settings: what a stack file may contain, and the errors that a user gets for anything else."""

from __future__ import annotations

import base64
import re
from typing import Any

import pytest

from components import versions
from components.settings import Removal, Settings, SettingsError, Storage, load
from components.settings.shown import shown
from tests.certificates import provided
from tests.unit.engine import ENCRYPTED, REQUIRED, as_config, project_defaults

TOKEN = {"DIGITALOCEAN_TOKEN": "dop_v1_of_a_unit_test"}
PROVIDED = provided()
CHAIN, PRIVATE_KEY = PROVIDED["chain"], PROVIDED["privateKey"]
S3 = {"bucket": "images", "accessKey": "a", "secretKey": "the-secret"}
PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJgnNkZXhM4x1u7yZkA2mcBKR8F5oL4m4yGcmQ1yR0pW me@example.test"


def settings(**changes: Any) -> Settings:
    return load("slipway", "test", as_config({**project_defaults(), **REQUIRED, **changes}), ENCRYPTED, TOKEN)


def errors(environment: dict[str, str] | None = None, **changes: Any) -> list[str]:
    config = as_config({**project_defaults(), **REQUIRED, **changes})
    with pytest.raises(SettingsError) as caught:
        load("slipway", "test", config, ENCRYPTED, TOKEN if environment is None else environment)
    return caught.value.errors


def test_only_a_domain_and_an_admin_network_are_required() -> None:
    found = settings()
    assert found.fqdn == "gitlab.example.test"
    assert found.registry.port == 5555
    assert found.registry.storage is Storage.SPACES
    assert found.removal is Removal.KEEP_DATA
    assert found.gitlab.version == versions.GITLAB


def test_the_project_file_declares_exactly_the_top_level_settings() -> None:
    declared = {key for key in project_defaults() if ":" not in key}
    assert declared == {field.alias for field in Settings.model_fields.values()}


@pytest.mark.parametrize("name", ["SPACES_ACCESS_KEY_ID", "SPACES_SECRET_ACCESS_KEY"])
def test_half_a_spaces_key_is_refused(name: str) -> None:
    [line] = errors({**TOKEN, name: "half"})
    [other] = {"SPACES_ACCESS_KEY_ID", "SPACES_SECRET_ACCESS_KEY"} - {name}
    assert line.startswith(f"{other}: is not set, but {name} is")


def test_a_list_that_was_typed_as_one_text_is_read_as_a_list() -> None:
    for text in ("192.0.2.10/32, 198.51.100.0/24", "192.0.2.10/32,198.51.100.0/24,"):
        assert settings(adminCidrs=text).admin_cidrs == ("192.0.2.10/32", "198.51.100.0/24")
    [line] = errors(adminCidrs="192.0.2.10/32,office")
    assert line.startswith("adminCidrs[1]: office is not a usable network")
    [line] = errors(adminCidrs=" , ")
    assert line.startswith("adminCidrs: is empty")


@pytest.mark.parametrize("project", ["Acme", "my_project", "a.b", "1st", "a" * 31])
def test_a_project_whose_name_cannot_be_part_of_names_in_the_cloud_is_refused(project: str) -> None:
    with pytest.raises(SettingsError, match=f"project: {project} cannot be part of the names of droplets"):
        load(project, "test", {}, [], TOKEN)


def test_a_long_project_leaves_fewer_characters_to_its_stacks() -> None:
    required = {f"{'a' * 30}:{key.partition(':')[2]}": value for key, value in as_config(REQUIRED).items()}
    load("a" * 30, "s" * 14, required, [], TOKEN)
    with pytest.raises(SettingsError, match=r"stack: s{15} cannot be part of .* Use at most 14 lowercase letters"):
        load("a" * 30, "s" * 15, required, [], TOKEN)


def test_an_api_token_in_the_stack_file_must_be_encrypted() -> None:
    config = as_config({**project_defaults(), **REQUIRED}) | {"digitalocean:token": "dop_v1_in_the_stack_file"}
    load("slipway", "test", config, [*ENCRYPTED, "digitalocean:token"], TOKEN)
    with pytest.raises(SettingsError, match="digitalocean:token: is not encrypted") as caught:
        load("slipway", "test", config, ENCRYPTED, TOKEN)
    assert "dop_v1_in" not in str(caught.value)


def test_errors_of_several_keys_are_reported_beside_those_of_others() -> None:
    found = errors(domain="nowhere", region="nyc1", projects=[{"path": "a", "runners": ["b"]}], adminCidrs=["x"])
    assert [line.split(":")[0] for line in found] == [
        "domain",
        "adminCidrs[0]",
        "registry.spacesRegion",
        "projects[0].runners[0]",
    ]


def test_an_invalid_key_is_no_reason_for_errors_of_its_placeholder() -> None:
    assert [line.split(":")[0] for line in errors(registry={"storage": "gcs"}, region="nyc1")] == ["registry.storage"]
    assert [line.split(":")[0] for line in errors(domain="x" * 70)] == ["domain"]


def test_a_default_that_contradicts_a_key_is_an_error_of_that_key_also_without_the_project_file() -> None:
    config = as_config({**REQUIRED, "adminCidrs": ["0.0.0.0/0"]})
    with pytest.raises(SettingsError, match=r"adminCidrs: 0\.0\.0\.0/0 is a large part of the internet"):
        load("slipway", "test", config, [], TOKEN)


def test_keys_of_other_namespaces_are_ignored() -> None:
    config = as_config({**project_defaults(), **REQUIRED}) | {"aws:region": "eu-west-1", "pulumi:tags": "{}"}
    assert load("slipway", "test", config, ENCRYPTED, TOKEN).region == "nyc3"


def test_all_errors_are_reported_at_once() -> None:
    found = errors({}, domain="", adminCidrs=[], registry={"port": 443, "storage": "gcs"})
    assert [line.split(":")[0] for line in found] == [
        "DIGITALOCEAN_TOKEN",
        "domain",
        "adminCidrs",
        "registry.port",
        "registry.storage",
    ]


def test_an_error_says_that_nothing_was_changed_and_what_to_do() -> None:
    with pytest.raises(SettingsError, match=r"1 error in the configuration; nothing was changed\.") as caught:
        settings(domain="")
    assert "pulumi config set domain example.com" in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "path", "hint"),
    [
        ({"regoin": "nyc3"}, "regoin", "Did you mean region?"),
        ({"registry": {"prot": 1}}, "registry.prot", "Did you mean port?"),
        ({"registry": {"zzz": 1}}, "registry.zzz", "Known keys: keepUntagged, port, s3, spacesRegion, storage"),
        ({"gitlab": {"packages": {"keyurl": "x"}}}, "gitlab.packages.keyurl", "Did you mean keyUrl?"),
    ],
)
def test_an_unknown_key_is_rejected_with_the_nearest_known_one(changes: dict[str, Any], path: str, hint: str) -> None:
    [line] = errors(**changes)
    assert line == f"{path}: is not a setting; it would have no effect. {hint}"


@pytest.mark.parametrize("cidr", ["192.0.2.10/24", "everywhere", "300.0.0.0/8"])
def test_an_invalid_admin_network_is_rejected(cidr: str) -> None:
    [line] = errors(adminCidrs=[cidr])
    assert line.startswith(f"adminCidrs[0]: {cidr} is not a usable network")


@pytest.mark.parametrize("domain", ["localhost", "-a.example.com", "exa mple.com", "example..com"])
def test_an_invalid_domain_is_rejected(domain: str) -> None:
    [line] = errors(domain=domain)
    assert line.startswith("domain: is not a domain name")


@pytest.mark.parametrize(
    ("version", "message"),
    [
        ("19.3", "is not a package version"),
        ("19.2.0-ce.0", "is older than 19.2.1"),
        ("18.11.9-ce.0", "is older than 19.2.1"),
    ],
)
def test_a_gitlab_version_that_would_fail_is_rejected(version: str, message: str) -> None:
    [line] = errors(gitlab={"version": version})
    assert line.startswith("gitlab.version: ")
    assert message in line


@pytest.mark.parametrize("size", ["s-1vcpu-8gb", "s-2vcpu-2gb"])
def test_a_droplet_too_small_for_gitlab_is_rejected(size: str) -> None:
    [line] = errors(server={"size": size})
    assert line.startswith(f"server.size: {size} has fewer than 2 vCPUs or less than 4 GB")


def test_a_size_whose_slug_does_not_state_its_memory_is_accepted() -> None:
    assert settings(server={"size": "gd-special"}).server.memory_gb == 8


@pytest.mark.parametrize("port", [22, 80, 443, 5000, 8080])
def test_a_registry_port_that_another_service_uses_is_rejected(port: int) -> None:
    [line] = errors(registry={"port": port})
    assert line.startswith(f"registry.port: {port} is used by another service")


def test_s3_storage_needs_its_section() -> None:
    [line] = errors(registry={"storage": "s3"})
    assert "without the section registry.s3" in line


def test_an_s3_section_that_would_be_ignored_is_rejected() -> None:
    s3 = {"bucket": "images", "accessKey": "a", "secretKey": "b"}
    [line] = errors(registry={"storage": "filesystem", "s3": s3})
    assert "it would be ignored" in line


def test_an_endpoint_without_a_scheme_is_rejected() -> None:
    s3 = {"bucket": "images", "accessKey": "a", "secretKey": "b", "endpoint": "minio.example.test"}
    [line] = errors(registry={"storage": "s3", "s3": s3})
    assert line.startswith("registry.s3.endpoint: is not an https:// URL")


def test_a_region_without_spaces_is_rejected_only_if_spaces_are_used() -> None:
    [line] = errors(region="nyc1")
    assert line.startswith("registry.spacesRegion: nyc1 offers no Spaces")
    assert settings(region="nyc1", registry={"spacesRegion": "nyc3"}).spaces_region == "nyc3"
    assert settings(region="nyc1", registry={"storage": "filesystem"}).region == "nyc1"


def test_a_provided_certificate_needs_chain_and_key() -> None:
    [line] = errors(certificate={"source": "provided", "chain": CHAIN})
    assert line.startswith("certificate: has source provided without both chain and privateKey")


def test_a_provided_certificate_with_source_lets_encrypt_is_rejected() -> None:
    [line] = errors(certificate={"chain": CHAIN, "privateKey": PRIVATE_KEY})
    assert "source is lets-encrypt; they would be ignored" in line


@pytest.mark.parametrize("key", ["caCertificate", "authority"])
def test_a_private_ca_certificate_is_accepted_under_the_current_and_the_former_key(key: str) -> None:
    assert settings(certificate={key: CHAIN}).certificate.ca_certificate == CHAIN


def test_an_error_under_a_former_key_names_the_current_one() -> None:
    [line] = errors(certificate={"authority": "junk"})
    assert line.startswith("certificate.authority: ")
    assert line.endswith(". The key is now called caCertificate")


def test_a_former_key_beside_the_current_one_is_rejected() -> None:
    [line] = errors(certificate={"authority": CHAIN, "caCertificate": CHAIN})
    assert line == (
        "certificate.authority: is the former name of caCertificate, which is set as well; it would be ignored. "
        "Remove it"
    )


def test_only_the_current_key_is_suggested_for_an_unknown_one() -> None:
    [line] = errors(certificate={"zzz": 1})
    assert "caCertificate" in line
    assert "authority" not in line


def test_an_unknown_key_below_a_variable_named_like_a_key_is_rejected() -> None:
    projects = [{"path": "hello", "variables": {"value": {"value": "a-secret-value", "maskd": True}}}]
    [line] = [
        line for line in errors(projects=projects, runners=[{"name": "docker-builder"}]) if "is not a setting" in line
    ]
    assert line == "projects[0].variables.value.maskd: is not a setting; it would have no effect. Did you mean masked?"


def test_an_authorized_key_has_to_be_a_public_key() -> None:
    assert settings(server={"authorizedKeys": [PUBLIC_KEY]}).server.authorized_keys == (PUBLIC_KEY,)
    [line] = errors(server={"authorizedKeys": [PUBLIC_KEY, "-----BEGIN OPENSSH PRIVATE KEY-----"]})
    assert line.startswith("server.authorizedKeys[1]: is not an OpenSSH public key")


def rsa_key(bits: int) -> str:
    """A public key in OpenSSH's format, whose modulus has this many bits."""
    modulus = (1 << (bits - 1) | 1).to_bytes(bits // 8 + 1)
    fields = (b"ssh-rsa", b"\x01\x00\x01", modulus)
    return "ssh-rsa " + base64.b64encode(b"".join(len(one).to_bytes(4) + one for one in fields)).decode()


def test_a_short_rsa_key_of_an_administrator_is_refused() -> None:
    assert settings(server={"authorizedKeys": [rsa_key(2048)]}).server.authorized_keys
    [line] = errors(server={"authorizedKeys": [PUBLIC_KEY, rsa_key(1024)]})
    assert line.startswith("server.authorizedKeys[1]: is an RSA key of 1024 bits; somebody could compute")


@pytest.mark.parametrize("prefix", ["{}.0.0.0/9", "20{}::/20"])
def test_networks_of_administrators_that_are_wide_only_together_need_a_confirmation(prefix: str) -> None:
    several = ["203.0.113.7/32", *(prefix.format(number) for number in range(20, 40, 2))]
    [line] = errors(adminCidrs=several)
    assert line.startswith("adminCidrs: ")
    assert "and 6 more is a large part of the internet" in line or "and 7 more is a large part of the internet" in line
    assert settings(adminCidrs=several, adminsFromAnywhere=True).admins_from_anywhere
    assert settings(adminCidrs=several[:2]).admin_cidrs


def test_neither_errors_nor_the_representation_show_a_secret() -> None:
    s3 = {"bucket": "images", "accessKey": "a", "secretKey": "the-secret", "endpoint": "no-scheme"}
    assert "the-secret" not in str(errors(registry={"storage": "s3", "s3": s3}))
    good = {**s3, "endpoint": "https://minio.example.test"}
    assert "the-secret" not in repr(settings(registry={"storage": "s3", "s3": good}))


def test_the_token_is_accepted_under_both_of_its_names() -> None:
    config = as_config({**project_defaults(), **REQUIRED})
    assert load("slipway", "test", config, ENCRYPTED, {"DIGITALOCEAN_ACCESS_TOKEN": "x"}).domain == "example.test"


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"region": "5"}, "region"),
        ({"removal": "nothing"}, "removal"),
        ({"domain": "[x"}, "domain"),
        ({"domain": "12.5"}, "domain"),
        ({"hostname": "a.b"}, "hostname"),
        ({"hostname": "h" * 63}, "hostname"),
        ({"adminCidrs": [5]}, "adminCidrs[0]"),
        ({"adminCidrs": ["fe80::/10"]}, "adminCidrs"),
        ({"adminCidrs": "[x"}, "adminCidrs"),
        ({"dns": {"ttl": "soon"}}, "dns.ttl"),
        ({"dns": {"ttl": 5}}, "dns.ttl"),
        ({"dns": 5}, "dns"),
        ({"dns": {"zone": "none"}}, "dns.zone"),
        ({"server": {"image": "fedora-40-x64"}}, "server.image"),
        ({"server": {"image": ""}}, "server.image"),
        ({"server": {"size": ""}}, "server.size"),
        ({"server": {"volumeSizeGb": 20000}}, "server.volumeSizeGb"),
        ({"server": {"vpcCidr": "10.0.0.0/8"}}, "server.vpcCidr"),
        ({"server": {"vpcCidr": "8.8.8.0/24"}}, "server.vpcCidr"),
        ({"server": {"vpcCidr": "nowhere"}}, "server.vpcCidr"),
        ({"server": {"vpcCidr": "10.244.8.0/24"}}, "server.vpcCidr"),
        ({"server": {"authorizedKeys": "x"}}, "server.authorizedKeys"),
        ({"certificate": {"contactEmail": "ops"}}, "certificate.contactEmail"),
        ({"certificate": {"acmeDirectory": "https://[x"}}, "certificate.acmeDirectory"),
        ({"certificate": {"source": "provided", "chain": "junk", "privateKey": PRIVATE_KEY}}, "certificate.chain"),
        ({"certificate": {"source": "provided", "chain": CHAIN, "privateKey": "junk"}}, "certificate.privateKey"),
        ({"gitlab": {"version": 19.3}}, "gitlab.version"),
        ({"gitlab": {"packages": {"url": "https://a b"}}}, "gitlab.packages.url"),
        ({"gitlab": {"packages": {"keyFingerprint": "F6"}}}, "gitlab.packages.keyFingerprint"),
        ({"registry": {"port": "x"}}, "registry.port"),
        ({"registry": {"storage": "filesystem", "spacesRegion": "fra1"}}, "registry"),
        ({"registry": {"storage": "s3", "s3": 5}}, "registry.s3"),
        ({"registry": {"storage": "s3", "s3": {**S3, "bucket": "A"}}}, "registry.s3.bucket"),
        ({"registry": {"storage": "s3", "s3": {**S3, "accessKey": ""}}}, "registry.s3.accessKey"),
        ({"registry": {"storage": "s3", "s3": {**S3, "secretKey": "a\nb"}}}, "registry.s3.secretKey"),
        ({"registry": {"storage": "s3", "s3": {**S3, "endpoint": "https://a/b"}}}, "registry.s3.endpoint"),
    ],
)
def test_every_error_names_its_key_and_says_what_to_do(changes: dict[str, Any], path: str) -> None:
    [line] = errors(**changes)
    assert line.startswith(f"{path}: ")
    what, consequence = line.removeprefix(f"{path}: ").split("; ", 1)
    assert what
    assert ". " in consequence
    assert "the-secret" not in line


def test_a_secret_in_plain_text_is_rejected_with_the_command_that_encrypts_it() -> None:
    config = as_config({**project_defaults(), **REQUIRED, "registry": {"storage": "s3", "s3": S3}})
    with pytest.raises(SettingsError) as caught:
        load("slipway", "test", config, [], TOKEN)
    [line] = caught.value.errors
    assert line.startswith("registry.s3.secretKey: is in plain text in the stack file")
    assert "pulumi config set --secret --path registry.s3.secretKey" in line
    assert load("slipway", "test", config, ["slipway:registry"], TOKEN).registry.s3


def test_a_missing_secret_is_requested_with_the_command_that_encrypts_it() -> None:
    [line] = errors(registry={"storage": "s3", "s3": {"bucket": "images", "accessKey": "a"}})
    assert line.endswith("pulumi config set --secret --path registry.s3.secretKey …")


def test_the_command_for_a_missing_key_below_a_list_can_be_pasted() -> None:
    projects = [{"path": "hello", "variables": {"TOKEN": {}}}]
    [line] = errors(projects=projects, runners=[{"name": "docker-builder"}])
    assert line.startswith("projects[0].variables.TOKEN.value: is missing; ")
    assert line.endswith("pulumi config set --secret --path 'projects[0].variables.TOKEN.value' …")


@pytest.mark.parametrize("value", ["maybe", [True]])
def test_a_flag_that_is_neither_true_nor_false_is_rejected(value: Any) -> None:
    [line] = errors(projects=[{"path": "hello", "sample": value}], runners=[{"name": "docker-builder"}])
    assert line == ("projects[0].sample: is neither true nor false; it cannot be read. Write true or false")


def test_a_stage_without_a_script_is_rejected() -> None:
    projects = [{"path": "hello", "extraStages": [{"name": "deploy", "script": []}]}]
    [line] = errors(projects=projects, runners=[{"name": "docker-builder"}])
    assert line.startswith("projects[0].extraStages[0].script: has too few entries; ")
    assert line.endswith("List at least 1")


@pytest.mark.parametrize(
    ("project", "path"),
    [
        ({"description": "d" * 2001}, "projects[0].description"),
        ({"path": "p" * 251}, "projects[0].path"),
        ({"variables": {"LONG": {"value": "v" * 10_001, "masked": False}}}, "projects[0].variables.LONG.value"),
        ({"variables": {"v" * 256: {"value": "v", "masked": False}}}, "projects[0].variables"),
        ({"extraStages": [{"name": "n" * 256, "script": ["a"]}]}, "projects[0].extraStages[0].name"),
        ({"defaultBranch": "b" * 256}, "projects[0].defaultBranch"),
    ],
)
def test_what_is_too_long_for_gitlab_is_rejected(project: dict[str, Any], path: str) -> None:
    [line] = errors(projects=[{"path": "hello", **project}], runners=[{}])
    assert line.startswith(f"{path}: ")
    assert re.search(r"at most|more than|not a branch name", line)


@pytest.mark.parametrize("stack", ["Prod_1.x", "1st", "p" * 38])
def test_a_stack_name_that_digitalocean_would_reject_is_rejected(stack: str) -> None:
    config = as_config({**project_defaults(), **REQUIRED})
    with pytest.raises(SettingsError, match="stack: "):
        load("slipway", stack, config, [], TOKEN)


@pytest.mark.parametrize("value", ["https://me:hunter2@example.com", "x glpat-0123456789abcdef", "dop_v1_0123456789"])
def test_a_message_does_not_repeat_what_looks_like_a_secret(value: str) -> None:
    assert shown(value) == "what looks like a secret"


def test_a_public_key_that_is_not_in_base64_is_refused() -> None:
    [line] = errors(server={"authorizedKeys": [f"ssh-ed25519 {'A' * 69}"]})
    assert line.startswith("server.authorizedKeys[0]: ")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"alerts": {"email": ["ops@a.test", "OPS@a.test"]}}, "alerts.email: has ops@a.test more than once; it would "),
        ({"alerts": {"email": ["o@a.test"], "regions": ["us_east"] * 3}}, "alerts.regions: has us_east more than once"),
        ({"backup": {"times": ["02:30", "14:30", "02:30"]}}, "backup.times: has 02:30 more than once; the second one "),
        ({"runners": [{"tags": ["a", "b", "a"]}]}, "runners[0].tags: has a more than once; GitLab would keep one of "),
    ],
)
def test_an_entry_that_is_repeated_in_a_list_is_refused_by_its_name(changes: dict[str, Any], message: str) -> None:
    [line] = errors(**{"projects": [{"path": "a"}], "runners": [{}], **changes})
    assert line.startswith(message)


def test_every_repeated_entry_is_named_once() -> None:
    project = {"path": "a", "build": {"secrets": ["A", "B", "A", "C", "B", "A"]}}
    found = errors(projects=[project], runners=[{}])
    assert [line.partition(" more ")[0] for line in found] == [f"projects[0].build.secrets: has {one}" for one in "AB"]
