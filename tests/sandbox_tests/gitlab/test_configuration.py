"""gitlab.rb of the stand-in, evaluated by real Ruby: what is taken, translated and refused."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.sandbox.gitlab.build import PACKAGE

COOKBOOKS = PACKAGE / "opt/gitlab/embedded/cookbooks"
CONFIGURATION = Path(__file__).parent / "configuration.rb"
DISTRIBUTION = Path(__file__).parent / "distribution.rb"
URL = "external_url 'https://gitlab.example.com'\n"


class RefusedError(Exception):
    """The configuration was refused, with these words."""


def ruby(script: Path, file: Path) -> dict[str, Any]:
    run = subprocess.run(["ruby", "-w", script, COOKBOOKS, file], capture_output=True, text=True, check=False)
    if run.returncode == 3:
        raise RefusedError(run.stderr)
    assert run.returncode == 0, run.stderr
    found: dict[str, Any] = json.loads(run.stdout)
    return found | {"stderr": run.stderr}


@pytest.fixture
def gitlab_rb(tmp_path: Path) -> Path:
    return tmp_path / "gitlab.rb"


def evaluate(path: Path, text: str) -> dict[str, Any]:
    path.write_text(text)
    return ruby(CONFIGURATION, path)


def test_the_url_decides_names_and_certificates(gitlab_rb: Path) -> None:
    found = evaluate(gitlab_rb, URL + "registry_external_url 'https://gitlab.example.com:5555'\n")
    assert found["external"] == "https://gitlab.example.com"
    assert found["registry"] == "https://gitlab.example.com:5555"
    assert found["certificate"] == [
        "/etc/gitlab/ssl/gitlab.example.com.crt",
        "/etc/gitlab/ssl/gitlab.example.com.key",
    ]
    assert found["registry_certificate"] == found["certificate"]
    assert found["letsencrypt"] is True
    assert found["names"] == ["gitlab.example.com"]


def test_a_registry_on_another_host_shares_the_certificate(gitlab_rb: Path) -> None:
    found = evaluate(gitlab_rb, URL + "registry_external_url 'https://registry.example.com'\n")
    assert found["names"] == ["gitlab.example.com", "registry.example.com"]
    assert found["registry_certificate"] == found["certificate"]


def test_a_registry_on_another_host_has_its_own_certificate_without_letsencrypt(gitlab_rb: Path) -> None:
    text = URL + "registry_external_url 'https://registry.example.com'\nletsencrypt['enable'] = false\n"
    found = evaluate(gitlab_rb, text)
    assert found["letsencrypt"] is False
    assert found["registry_certificate"][0] == "/etc/gitlab/ssl/registry.example.com.crt"


def test_nginx_takes_no_old_protocol_and_keeps_browsers_on_https(gitlab_rb: Path) -> None:
    found = evaluate(gitlab_rb, URL)
    assert found["tls"] == found["registry_tls"]
    assert "ssl_protocols TLSv1.2 TLSv1.3;" in found["tls"]
    assert "ssl_session_tickets off;" in found["tls"]
    assert not any("CBC" in line or "-SHA:" in line for line in found["tls"])
    assert found["hsts"] == found["registry_hsts"] == "max-age=63072000"


def test_each_server_of_nginx_has_its_own_settings_of_tls(gitlab_rb: Path) -> None:
    text = "registry['nginx']['ssl_protocols'] = 'TLSv1.3'\ngitlab_rails['nginx']['hsts_max_age'] = 0\n"
    found = evaluate(gitlab_rb, URL + text)
    assert "ssl_protocols TLSv1.3;" in found["registry_tls"]
    assert "ssl_protocols TLSv1.2 TLSv1.3;" in found["tls"]
    assert (found["hsts"], found["registry_hsts"]) == (None, "max-age=63072000")


def test_with_letsencrypt_the_registry_is_enabled_at_5050_by_default(gitlab_rb: Path) -> None:
    assert evaluate(gitlab_rb, URL)["registry"] == "https://gitlab.example.com:5050"


@pytest.mark.parametrize("text", ["letsencrypt['enable'] = false", "registry['enable'] = false"])
def test_the_registry_is_disabled_without_letsencrypt_or_explicitly(gitlab_rb: Path, text: str) -> None:
    assert evaluate(gitlab_rb, URL + text)["registry"] is None


def test_plain_http_has_neither_certificates_nor_a_registry(gitlab_rb: Path) -> None:
    found = evaluate(gitlab_rb, "external_url 'http://gitlab.example.com'")
    assert found["letsencrypt"] is False
    assert found["registry"] is None


@pytest.mark.parametrize(
    ("text", "redirects"),
    [
        ("", True),
        ("letsencrypt['enable'] = false", False),
        ("letsencrypt['enable'] = false; gitlab_rails['nginx']['redirect_http_to_https'] = true", True),
        ("gitlab_rails['nginx']['redirect_http_to_https'] = false", False),
    ],
)
def test_port_80_is_open_only_with_letsencrypt_or_when_a_redirect_is_asked_for(
    gitlab_rb: Path, text: str, redirects: bool
) -> None:
    assert evaluate(gitlab_rb, URL + text)["redirects"] is redirects


def test_from_file_reads_another_file_into_the_same_settings(gitlab_rb: Path) -> None:
    other = gitlab_rb.with_name("registry.rb")
    other.write_text("registry['storage'] = { 's3_v2' => { :bucket => 'images' } }\n")
    found = evaluate(gitlab_rb, f"{URL}from_file '{other}'\n")
    assert found["values"]["registry"]["storage"] == {"s3_v2": {"bucket": "images"}}


def test_a_missing_file_is_named(gitlab_rb: Path) -> None:
    with pytest.raises(RefusedError, match=r"/none\.rb does not exist"):
        evaluate(gitlab_rb, "from_file '/none.rb'")


def test_it_is_real_ruby(gitlab_rb: Path) -> None:
    found = evaluate(gitlab_rb, URL + "puma['worker_processes'] = [1, 2].sum if ENV.key?('PATH')\n")
    assert found["values"]["puma"] == {"worker_processes": 3}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("regisry['enable'] = true", r"^Reading unsupported config value regisry\.$"),
        ("nonsense 'x'", r"^Cannot set unsupported config value nonsense\.$"),
        ("registry['storag'] = {}", r"registry\['storag'\]"),
        ("registry['nginx']['ssl_certificat'] = '/x'", r"registry\['nginx'\]\['ssl_certificat'\]"),
        ("puma['one'] = 1; sidekiq['two'] = 2", r"puma\['one'\], sidekiq\['two'\]"),
        ("mattermost['enable'] = true", "mattermost has been removed in GitLab 19.0"),
        ("git_data_dirs({ 'default' => { 'path' => '/x' } })", "git_data_dirs has been removed in GitLab 18.0"),
        ("roles ['redis_master_role']", "does not support: roles redis_master_role"),
        ("registry['storage'] = { 's3' => {}, 'filesystem' => {} }", "multiple storage drivers.*s3, filesystem"),
        ("registry_external_url 'https://gitlab.example.com'", "a port of its own"),
        (
            "registry_external_url 'https://gitlab.example.com:5555/path'",
            "Unsupported GitLab Registry external URL path",
        ),
        ("external_url 'gitlab.example.com'", "must include a schema and FQDN"),
    ],
)
def test_an_invalid_setting_is_refused_by_name(gitlab_rb: Path, text: str, named: str) -> None:
    with pytest.raises(RefusedError, match=named):
        evaluate(gitlab_rb, f"{URL}{text}\n")


def test_reading_a_key_does_not_create_it(gitlab_rb: Path) -> None:
    found = evaluate(gitlab_rb, URL + "puma['worker_processes'] = 1 unless registry['storage']['s3_v2']['bucket']\n")
    assert "registry" not in found["values"]


def test_a_syntax_error_quotes_the_line_as_ruby_does(gitlab_rb: Path) -> None:
    with pytest.raises(RefusedError, match=r"gitlab\.rb:2: syntax error.*\n.*'secretkey' => 'hush' \}\}"):
        evaluate(gitlab_rb, URL + "registry['storage'] = { 'secretkey' => 'hush' }}\n")


@pytest.mark.parametrize(
    ("text", "section", "key"),
    [
        ("registry_nginx['redirect_http_to_https'] = false", "registry", "redirect_http_to_https"),
        ("nginx['redirect_http_to_https'] = false", "gitlab_rails", "redirect_http_to_https"),
    ],
)
def test_deprecated_keys_are_translated_with_a_warning(gitlab_rb: Path, text: str, section: str, key: str) -> None:
    found = evaluate(gitlab_rb, URL + text)
    assert found["values"][section]["nginx"] == {key: False}
    assert f"Use {section}['nginx']['{key}'] instead" in found["deprecations"][0]


def test_keys_of_the_nginx_process_are_not_moved(gitlab_rb: Path) -> None:
    found = evaluate(gitlab_rb, URL + "nginx['worker_processes'] = 4\n")
    assert found["values"]["nginx"] == {"worker_processes": 4}
    assert found["deprecations"] == []


S3: dict[str, Any] = {
    "accesskey": "a",
    "secretkey": "s",
    "bucket": "images",
    "region": "nyc3",
    "regionendpoint": "https://nyc3.digitaloceanspaces.com",
    "pathstyle": True,
    "checksum_disabled": True,
}


def translate(tmp_path: Path, storage: dict[str, Any]) -> dict[str, Any]:
    path = tmp_path / "config.yml"
    path.write_text(json.dumps({"version": 0.1, "storage": storage, "database": {"enabled": "prefer"}}))
    return ruby(DISTRIBUTION, path)


@pytest.mark.parametrize("name", ["s3", "s3aws", "s3_v2"])
def test_all_names_of_the_s3_driver_mean_the_same_driver(tmp_path: Path, name: str) -> None:
    found = translate(tmp_path, {name: S3, "redirect": {"disable": True}, "delete": {"enabled": True}})
    assert set(found["storage"]) == {"s3", "redirect", "delete"}
    assert found["storage"]["s3"]["regionendpoint"] == "https://nyc3.digitaloceanspaces.com"
    assert "checksum_disabled" not in found["storage"]["s3"]
    assert "database" not in found


@pytest.mark.parametrize(
    ("storage", "words"),
    [
        ({"s3_v2": S3 | {"regionendpoint": "nyc3.digitaloceanspaces.com"}}, "was not a valid URI"),
        ({"s3_v2": S3 | {"bucket": ""}}, 'no "bucket" parameter'),
        ({"s3_v2": {"bucket": "images"}}, 'no "region" parameter'),
        ({"s3_v2": S3 | {"secure": "perhaps"}}, "secure parameter should be a boolean"),
        ({"swift": {}}, "StorageDriver not registered: swift"),
        ({"azure": {}}, "azure is not supported by this stand-in"),
        ({"delete": {"enabled": True}}, "no storage configuration provided"),
        ({"filesystem": {}, "inmemory": {}}, "multiple storage drivers"),
    ],
)
def test_the_registry_does_not_start_with_invalid_storage(tmp_path: Path, storage: dict[str, Any], words: str) -> None:
    with pytest.raises(RefusedError, match=words):
        translate(tmp_path, storage)


@pytest.mark.parametrize("name", ["v4auth", "bukcet"])
def test_an_unknown_parameter_is_ignored_with_a_warning(tmp_path: Path, name: str) -> None:
    found = translate(tmp_path, {"s3_v2": S3 | {name: False}})
    assert f"storage driver parameter {name} " in found["stderr"]
    assert found["storage"]["s3"]["bucket"] == "images"
    assert "bukcet" not in found["storage"]["s3"]


def test_an_unknown_region_is_accepted_with_an_endpoint(tmp_path: Path) -> None:
    assert translate(tmp_path, {"s3_v2": S3 | {"region": "nowhere"}})["storage"]["s3"]["region"] == "nowhere"
