"""The cache of Docker Hub on the machines of runners: who uses it, how a machine gets it, and how it goes again."""

from __future__ import annotations

import re
import shlex
import ssl
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509

from components import versions
from components.rendering import render, script
from components.settings import DOCKER_HUB_CACHE, DOCKER_HUB_CACHE_HOST
from tests.unit.delivered import configuration, delivered, pipeline
from tests.unit.engine import RecordingEngine, run_program

MIRROR = "https://mirror.example.test"
UNIT = "slipway-docker-hub-cache.service"


def mirrors_of_buildah(engine: RecordingEngine) -> list[str]:
    sent = engine.script("delivery-docker-builder-1-preparation")
    found = tomllib.loads(sent.split("REGISTRIES_CONF='", 1)[1].split("'\nREGISTRY_MIRROR", 1)[0])
    return [each["location"] for one in found.get("registry", []) for each in one["mirror"]]


@pytest.mark.parametrize(
    ("given", "mirror", "has_cache"),
    [
        ({}, DOCKER_HUB_CACHE, True),
        ({"dockerHubCache": True}, DOCKER_HUB_CACHE, True),
        ({"dockerHubCache": False}, None, False),
        ({"registryMirror": MIRROR}, MIRROR, False),
        ({"registryMirror": MIRROR, "dockerHubCache": True}, MIRROR, False),
    ],
)
@pytest.mark.parametrize("builder", ["docker", "buildah"])
def test_every_machine_has_a_cache_unless_it_is_turned_off_or_a_mirror_is_set(
    builder: str, given: dict[str, Any], mirror: str | None, has_cache: bool
) -> None:
    engine = delivered(runner={"builder": builder, **given})
    if builder == "docker":
        [service] = pipeline(engine)["default"]["services"]
        assert service.get("command", []) == ([f"--registry-mirror={mirror}"] if mirror else [])
    else:
        assert mirrors_of_buildah(engine) == ([mirror.removeprefix("https://")] if mirror else [])
    docker = configuration(engine)["runners"][0]["docker"]
    assert docker.get("extra_hosts", []) == ([f"{DOCKER_HUB_CACHE_HOST}:host-gateway"] if has_cache else [])
    assert ("/etc/docker/certs.d:/etc/docker/certs.d:ro" in docker["volumes"]) is has_cache
    sent = engine.script("delivery-docker-builder-1-preparation")
    assert f"\nCACHE_URL={DOCKER_HUB_CACHE if has_cache else chr(39) * 2}\n" in sent


def test_a_mirror_of_one_runner_goes_before_the_cache_of_another() -> None:
    runners = [{"name": "r0"}, {"name": "r1", "registryMirror": MIRROR}]
    engine = run_program(projects=[{"path": "hello", "runners": ["r0", "r1"]}], runners=runners)
    [service] = pipeline(engine)["default"]["services"]
    assert service["command"] == [f"--registry-mirror={MIRROR}"]


def test_the_cache_fetches_from_docker_hub_without_credentials_and_forgets_after_a_week() -> None:
    settings = yaml.safe_load(script("runner/docker-hub-cache.yml"))
    assert settings["proxy"] == {"remoteurl": "https://registry-1.docker.io", "ttl": "168h"}
    assert settings["storage"]["delete"] == {"enabled": True}, "without it nothing that has expired is removed"
    assert settings["http"]["tls"].keys() == {"certificate", "key"}


def test_the_cache_is_a_pinned_image_that_runs_without_privileges() -> None:
    unit = render("docker-hub-cache.service.j2", image=versions.REGISTRY_IMAGE)
    assert f"\nEnvironment=IMAGE={versions.REGISTRY_IMAGE}\n" in unit
    assert re.fullmatch(r"registry:\d+\.\d+\.\d+", versions.REGISTRY_IMAGE)
    assert {"Restart=always", "PartOf=docker.service", "WantedBy=docker.service"} <= set(unit.splitlines())
    program = script("runner/docker-hub-cache.sh")
    assert {"--read-only", "--cap-drop", "no-new-privileges"} <= set(program.split())
    assert "--privileged" not in program


#: A machine whose programs print their arguments. `curl` stands for a cache that answers.
WORLD = """
    ip() { echo '4: docker0    inet 172.17.0.1/16 brd 172.17.255.255 scope global docker0'; }
    systemctl() { say "systemctl $*"; }
    docker() { say "docker $*"; }
    curl() { :; }
    sleep() { SECONDS=$((SECONDS + 30)); }
    chown() { :; }
    stat() { command stat --format '%a root:root' "${@: -1}"; }
"""
GIVEN = {
    "CACHE_CONFIG": script("runner/docker-hub-cache.yml"),
    "CACHE_PROGRAM": script("runner/docker-hub-cache.sh"),
    "CACHE_SERVICE": render("docker-hub-cache.service.j2", image=versions.REGISTRY_IMAGE),
    "CACHE_URL": DOCKER_HUB_CACHE,
}


def configure(root: Path, world: str = "", **values: str) -> subprocess.CompletedProcess[str]:
    """Install the cache, or remove it without a URL, on a machine whose files are below `root`."""
    function = "install_cache" if {**GIVEN, **values}["CACHE_URL"] else "remove_cache"
    libraries = "\n".join(script(name) for name in ("prelude.sh", "docker-hub-cache.sh"))
    libraries = re.sub(r"(?<![\w.])/(etc|var|usr)/", rf"{root}/\1/", libraries)
    for folder in ("etc/systemd/system", "usr/local/sbin", "var/cache"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    given = "\n".join(f"{name}={shlex.quote(value)}" for name, value in {**GIVEN, **values}.items())
    text = f"{libraries}\nLIMIT_SECONDS=7 STEP=''\n{WORLD}\n{world}\n{given}\n{function}\n"
    return subprocess.run(["bash", "-s"], input=text, capture_output=True, text=True, check=False)


def files(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def test_a_cache_is_installed_once_and_removed_with_everything_that_it_has_stored(tmp_path: Path) -> None:
    first = configure(tmp_path)
    assert first.returncode == 0, first.stderr
    assert f"systemctl restart {UNIT}" in first.stderr.splitlines()
    trusting = {f"etc/docker/certs.d/{name}/docker-hub-cache.crt" for name in ("docker.io", "172.17.0.1:5000")}
    assert trusting <= files(tmp_path)
    assert (tmp_path / "etc/slipway/docker-hub-cache/key.pem").stat().st_mode & 0o777 == 0o600
    before = {name: (tmp_path / name).read_bytes() for name in files(tmp_path)}

    again = configure(tmp_path)
    assert f"systemctl restart {UNIT}" not in again.stderr
    assert {name: (tmp_path / name).read_bytes() for name in files(tmp_path)} == before

    newer = configure(tmp_path, CACHE_SERVICE=GIVEN["CACHE_SERVICE"].replace(versions.REGISTRY_IMAGE, "registry:9.9.9"))
    assert f"systemctl restart {UNIT}" in newer.stderr

    (tmp_path / "var/cache/slipway/docker-hub/blob").write_text("of an image")
    log = tmp_path.with_name("engine.log")
    gone = configure(tmp_path, f'docker() {{ echo "docker $*" >>{log}; }}', CACHE_URL="")
    assert gone.returncode == 0, gone.stderr
    assert f"systemctl disable --quiet --now {UNIT}" in gone.stderr
    assert log.read_text() == "docker image rm registry:9.9.9\n"
    assert files(tmp_path) == set()
    assert list((tmp_path / "etc/docker/certs.d").iterdir()) == []
    assert configure(tmp_path, CACHE_URL="").stderr == ""


def test_other_registries_that_docker_trusts_are_left_alone(tmp_path: Path) -> None:
    other = tmp_path / "etc/docker/certs.d/registry.example.test"
    other.mkdir(parents=True)
    (other / "ca.crt").write_text("theirs")
    configure(tmp_path)
    configure(tmp_path, CACHE_URL="")
    assert (other / "ca.crt").read_text() == "theirs"


def test_the_certificate_is_for_the_cache_alone_and_vouches_for_nobody_else(tmp_path: Path) -> None:
    configure(tmp_path)
    file = tmp_path / "etc/slipway/docker-hub-cache/certificate.pem"
    certificate = x509.load_pem_x509_certificate(file.read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [DOCKER_HUB_CACHE_HOST]
    assert [str(one) for one in names.get_values_for_type(x509.IPAddress)] == ["172.17.0.1"]
    assert certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    ssl.create_default_context(cafile=str(file))


def test_another_address_or_an_old_certificate_brings_another_one(tmp_path: Path) -> None:
    configure(tmp_path)
    first = (tmp_path / "etc/slipway/docker-hub-cache/certificate.pem").read_text()
    moved = configure(tmp_path, "ip() { echo '4: docker0    inet 172.18.0.1/16 scope global docker0'; }")
    assert f"systemctl restart {UNIT}" in moved.stderr
    second = (tmp_path / "etc/slipway/docker-hub-cache/certificate.pem").read_text()
    assert second != first
    old = 'openssl() { case "$*" in *-checkend*) return 1 ;; *) command openssl "$@" ;; esac; }'
    assert f"systemctl restart {UNIT}" in configure(tmp_path, old).stderr
    assert (tmp_path / "etc/slipway/docker-hub-cache/certificate.pem").read_text() != second


def test_a_cache_that_does_not_serve_stops_no_update_and_is_named(tmp_path: Path) -> None:
    done = configure(tmp_path, "curl() { return 7; }")
    assert done.returncode == 0
    assert "does not serve yet, so jobs pull from Docker Hub itself" in done.stderr
    assert f"sudo journalctl -u {UNIT}" in done.stderr


@pytest.mark.parametrize("has_cache", [True, False])
def test_jobs_reach_nothing_of_their_machine_but_its_cache(tmp_path: Path, has_cache: bool) -> None:
    if has_cache:
        (tmp_path / "docker-hub-cache").mkdir()
    log = tmp_path / "rules"
    world = f"""
        iptables() {{ case "$*" in *--check*|*--delete*) return 1 ;; esac; echo "iptables $*" >>{log}; }}
        ip6tables() {{ case "$*" in *--check*) return 1 ;; esac; echo "ip6tables $*" >>{log}; }}
        ip() {{ echo '4: docker0    inet 172.17.0.1/16 scope global docker0'; }}
    """
    text = script("runner/job-firewall.sh").replace("/etc/slipway", str(tmp_path))
    subprocess.run(["bash", "-s"], input=f"{world}\n{text}", text=True, check=True)
    rules = log.read_text().splitlines()
    accepting = [line for line in rules if line.endswith("ACCEPT")]
    wanted = "--destination 172.17.0.1 --protocol tcp --dport 5000 --jump ACCEPT"
    assert accepting == [
        f"iptables --wait --insert INPUT --in-interface {bridge} {wanted}"
        for bridge in (("docker0", "br-+") if has_cache else ())
    ]
    # What is inserted last is the first.
    assert rules[-2:] == (accepting or rules[-2:])


@pytest.mark.parametrize(
    ("cached", "used", "emptied"), [(100, 50, False), (199, 50, False), (200, 50, True), (1, 80, True)]
)
def test_housekeeping_empties_a_cache_that_fills_a_fifth_of_the_disk_or_a_disk_that_is_nearly_full(
    tmp_path: Path, cached: int, used: int, emptied: bool
) -> None:
    (tmp_path / "blob").write_text("of an image")
    world = f"""
        docker() {{ echo /; }}
        du() {{ echo "{cached}	/"; }}
        df() {{ case "$*" in *pcent*) echo " {used}%" ;; *) echo 1000 ;; esac; }}
        systemctl() {{ echo "systemctl $*"; }}
    """
    text = script("runner/prune.sh").replace("/var/cache/slipway/docker-hub", str(tmp_path))
    text = text.replace("/run/", f"{tmp_path.parent}/")
    done = subprocess.run(["bash", "-s"], input=f"{world}\n{text}", capture_output=True, text=True, check=True)
    assert (tmp_path / "blob").exists() is not emptied
    steps = [line for line in done.stdout.splitlines() if line.startswith("systemctl")]
    assert steps == ([f"systemctl stop {UNIT}", f"systemctl start {UNIT}"] if emptied else [])


@pytest.mark.parametrize(
    ("disk", "recent", "done"),
    [
        ({"cached": 100, "used": 89}, False, ""),
        ({"cached": 200, "used": 50}, False, "emptied"),
        ({"cached": 100, "used": 90}, False, "removed, emptied"),
        ({"cached": 100, "used": 95}, True, ""),
        ({"cached": 200, "used": 95}, True, "emptied"),
    ],
)
def test_between_two_times_only_what_cannot_wait_is_removed(
    tmp_path: Path, disk: dict[str, int], recent: bool, done: str
) -> None:
    (tmp_path / "docker-hub").mkdir()
    (tmp_path / "docker-hub/blob").write_text("of an image")
    if recent:
        (tmp_path / "slipway-pruned").touch()
    world = f"""
        set -- if-needed
        docker() {{ echo "/ $1"; }}
        du() {{ echo "{disk["cached"]}	/"; }}
        df() {{ case "$*" in *pcent*) echo " {disk["used"]}%" ;; *) echo 1000 ;; esac; }}
        systemctl() {{ :; }}
    """
    text = script("runner/prune.sh").replace("/var/cache/slipway/docker-hub", str(tmp_path / "docker-hub"))
    text = text.replace("/run/", f"{tmp_path}/")
    ran = subprocess.run(["bash", "-s"], input=f"{world}\n{text}", capture_output=True, text=True, check=True)
    removed = "/ system\n" in ran.stdout
    emptied = not (tmp_path / "docker-hub/blob").exists()
    found = {"removed": removed, "emptied": emptied}
    assert ", ".join(name for name, holds in found.items() if holds) == done
    assert (tmp_path / "slipway-pruned").exists() is (recent or removed)


def test_a_machine_looks_at_its_disk_every_few_minutes() -> None:
    sent = delivered().script("delivery-docker-builder-1-preparation")
    assert "slipway-disk.timer slipway-job-firewall.service" in sent
    assert "OnUnitInactiveSec=5min" in script("runner/disk.timer").splitlines()
    assert "ExecStart=/usr/local/sbin/slipway-prune if-needed" in script("runner/disk.service").splitlines()


def test_a_machine_without_a_cache_is_cleaned_up_as_before(tmp_path: Path) -> None:
    world = "docker() { echo /; }\ndf() { echo 50%; }\nsystemctl() { exit 9; }"
    text = script("runner/prune.sh").replace("/var/cache/slipway/docker-hub", str(tmp_path / "none"))
    text = text.replace("/run/", f"{tmp_path}/")
    subprocess.run(["bash", "-s"], input=f"{world}\n{text}", capture_output=True, text=True, check=True)
