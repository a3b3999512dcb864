"""The registry of the GitLab stand-in on loopback, with the real distribution behind it, and a client that pushes."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import boto3
import httpx
import jwt
from botocore.config import Config as S3Config
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import NameOID

from tests.sandbox.gitlab.registry.documents import OCI_INDEX, OCI_MANIFEST, digest_of
from tests.sandbox.layout import current
from tests.sandbox_tests.support.gitlab_instance import registry_key
from tests.sandbox_tests.support.packages import unpacked
from tests.sandbox_tests.support.ports import free_port
from tests.sandbox_tests.support.waiting import eventually

CONFIG_TYPE, LAYER_TYPE = "application/vnd.oci.image.config.v1+json", "application/vnd.oci.image.layer.v1.tar"
ALL = {"accept": f"{OCI_MANIFEST}, {OCI_INDEX}"}
#: The garbage collector at its fastest.
AT_ONCE = {
    "reviewafter": "-1",
    "noidlebackoff": True,
    "manifests": {"interval": "20ms"},
    "blobs": {"interval": "20ms"},
}


@dataclass(frozen=True)
class Signer:
    """The key that signs tokens, and its certificate."""

    key: rsa.RSAPrivateKey
    certificate: bytes

    def token(
        self, name: str, *actions: str, project: str = "", also: str = "", meta: dict[str, Any] | None = None
    ) -> dict[str, str]:
        """The header of a request that may do `actions` in a repository (and in `also`), and below it."""
        known = ({"project_path": project} if project else {}) | (meta or {})
        names = [part for each in (name, also) if each for part in (each, f"{each}/*")]
        access = [{"type": "repository", "name": each, "actions": actions, "meta": known} for each in names]
        now = int(time.time())
        claims = {"aud": "container_registry", "iss": "issuer", "sub": "", "nbf": now - 60, "exp": now + 600}
        # The distribution finds the certificate in the header, whatever the ID of its key.
        chain = [self.certificate.decode().replace("\n", "").split("-----")[2]]
        signed = jwt.encode({**claims, "access": access, "jti": "1"}, self.key, "RS256", {"x5c": chain})
        return {"authorization": f"Bearer {signed}"}


@cache
def signer() -> Signer:
    """That of the GitLab stand-ins of the tests."""
    key = load_pem_private_key(registry_key().encode(), None)
    assert isinstance(key, rsa.RSAPrivateKey)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "gitlab-issuer")])
    begin = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    certificate = (
        begin.serial_number(1)
        .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2049, 1, 1, tzinfo=UTC))
    )
    return Signer(key, certificate.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))


def distribution() -> Path:
    """The Docker distribution."""
    return unpacked("docker-registry") / "usr/bin/docker-registry"


class Client:
    """Pushes and reads images as Docker and GitLab do."""

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    def __init__(self, url: str, name: str = "root/app", *actions: str) -> None:
        self.url, self.name = url, name
        headers = signer().token(name, *(actions or ("pull", "push", "delete")), project=name)
        self.http = httpx.Client(base_url=url, headers=headers, timeout=30)

    def upload(self, content: bytes) -> str:
        """Upload a blob and return its digest."""
        digest = digest_of(content)
        begun = self.http.post(f"/v2/{self.name}/blobs/uploads/").raise_for_status()
        target = f"{begun.headers['location']}&digest={digest}"
        self.http.put(target, content=content).raise_for_status()
        return digest

    def image(self, layer: bytes, **more: Any) -> bytes:
        """Upload the content of an image of one layer, and return its manifest."""
        config = b'{"architecture":"amd64","os":"linux"}'
        parts = [(CONFIG_TYPE, config), (LAYER_TYPE, layer)]
        first, second = (
            {"mediaType": kind, "digest": self.upload(content), "size": len(content)} for kind, content in parts
        )
        manifest = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": first, "layers": [second], **more}
        return json.dumps(manifest).encode()

    def put(self, reference: str, manifest: bytes) -> httpx.Response:
        """Put a manifest or an index."""
        kind = json.loads(manifest)["mediaType"]
        return self.http.put(f"/v2/{self.name}/manifests/{reference}", content=manifest, headers={"content-type": kind})

    def push(self, tag: str, layer: bytes) -> str:
        """Push an image and return its digest."""
        manifest = self.image(layer)
        self.put(tag, manifest).raise_for_status()
        return digest_of(manifest)

    def push_index(self, tag: str, layer: bytes) -> str:
        """Push an index of one image, as the pipeline does, and return its digest."""
        manifest = self.image(layer)
        self.put(digest_of(manifest), manifest).raise_for_status()
        entry = {"mediaType": OCI_MANIFEST, "digest": digest_of(manifest), "size": len(manifest)}
        entry["platform"] = {"architecture": "amd64", "os": "linux"}
        index = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}).encode()
        self.put(tag, index).raise_for_status()
        return digest_of(index)

    def manifest(self, reference: str, accept: dict[str, str] = ALL) -> httpx.Response:
        """Get a manifest."""
        return self.http.get(f"/v2/{self.name}/manifests/{reference}", headers=accept)

    def tags(self) -> list[str]:
        """Names of all tags; none if there is no such repository."""
        answer = self.http.get(f"/v2/{self.name}/tags/list")
        return answer.json()["tags"] or [] if answer.is_success else []


def error_of(answer: httpx.Response) -> tuple[int, str, str]:
    """Status, code and message of a refusal."""
    first = answer.json()["errors"][0]
    return answer.status_code, first["code"], first["message"]


class Registry:
    """The files of a registry, and its process while it runs."""

    def __init__(self, directory: Path, storage: dict[str, Any]) -> None:
        self.directory, self.storage = directory, storage
        self.gc: dict[str, Any] = {}
        #: Where clients get their tokens.
        self.realm = "http://localhost/jwt/auth"
        self.url = f"http://127.0.0.1:{free_port()}"
        (directory / "data").mkdir(parents=True, exist_ok=True)
        (directory / "token.crt").write_bytes(signer().certificate)

    def write(self, database: object, name: str = "registry", *, read_only: bool = False) -> Path:
        """Write `config.yml` and the distribution's configuration as `gitlab-ctl reconfigure` does."""
        (self.directory / "data" / f"{name}.sqlite3").touch()
        auth = {"realm": self.realm, "service": "container_registry", "issuer": "issuer"}
        document: dict[str, Any] = {
            "version": 0.1,
            "log": {"level": "error"},
            "storage": {
                **self.storage,
                "delete": {"enabled": True},
                "redirect": {"disable": True},
                "cache": {"blobdescriptor": "inmemory"},
                "maintenance": {"readonly": {"enabled": read_only}},
            },
            "http": {"addr": self.url.removeprefix("http://"), "host": self.url, "secret": "x"},
            "auth": {"token": {**auth, "rootcertbundle": str(self.directory / "token.crt")}},
        }
        ours = document | {"database": {"enabled": database, "dbname": name, "host": f"file:{self.directory / 'data'}"}}
        path = self.directory / "config.yml"
        path.write_text(json.dumps(ours | {"gc": self.gc}))
        storage = dict(document["storage"])
        if "s3_v2" in storage:
            s3 = {key: value for key, value in storage.pop("s3_v2").items() if key != "pathstyle"}
            storage["s3"] = {**s3, "v4auth": True}
        (self.directory / "distribution.yml").write_text(json.dumps({**document, "storage": storage}))
        return path

    def command(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Run a command of the registry."""
        return subprocess.run(self._line(*arguments), capture_output=True, text=True, check=False)

    def migrate(self) -> None:
        """Make the tables of the database."""
        done = self.command("database", "migrate", "up", self.directory / "config.yml")
        assert done.returncode == 0, done.stderr

    @contextmanager
    def serving(self, database: object, name: str = "registry", *, read_only: bool = False) -> Iterator[Client]:
        """Serve until the end of the block."""
        with self.starting(database, name, read_only=read_only) as process:
            eventually(lambda: process.poll() is not None or _answers(self.url), 30)
            assert process.poll() is None, "the registry ended"
            with Client(self.url) as client:
                yield client

    @contextmanager
    def starting(
        self, database: object = True, name: str = "registry", *, read_only: bool = False
    ) -> Iterator[subprocess.Popen[bytes]]:
        """Its process, from the start to the end of the block."""
        config = self.write(database, name, read_only=read_only)
        self.migrate()
        files = (config, self.directory / "distribution.yml", distribution())
        # The distribution's S3 driver panics on a bundle of certificates that is named in the environment.
        environment = {name: value for name, value in os.environ.items() if name != "AWS_CA_BUNDLE"}
        with subprocess.Popen(self._line("serve", *files), env=environment) as process:
            try:
                yield process
            finally:
                process.terminate()
                process.wait(30)

    def refusal(self, database: object) -> str:
        """Why the registry does not start."""
        config = self.write(database)
        self.migrate()
        done = self.command("serve", config, self.directory / "distribution.yml", distribution())
        assert done.returncode == 1
        return done.stderr

    def _line(self, *arguments: str | Path) -> list[str]:
        return [sys.executable, "-m", "tests.sandbox.gitlab.registry", *map(str, arguments)]


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/v2/").status_code == 401
    except httpx.TransportError:
        return False


#: A key that may do only what a policy of the bucket allows.
LIMITED = {"access": "LIMITEDKEY", "secret": "limited-secret", "role": "user"}


@dataclass(frozen=True)
class Store:
    """Storage of a registry, and how many bytes are in it."""

    options: dict[str, Any]
    client: Any = None

    def size(self) -> int:
        """Bytes of all objects."""
        if self.client is None:
            root = Path(self.options["filesystem"]["rootdirectory"])
            return sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
        listed = self.client.list_objects_v2(Bucket="images").get("Contents", [])
        return sum(int(entry["Size"]) for entry in listed)


def folder(directory: Path) -> Store:
    """A directory."""
    return Store({"filesystem": {"rootdirectory": str(directory / "images")}})


@contextmanager
def bucket(directory: Path) -> Iterator[Store]:
    """An empty bucket of a real S3 server."""
    for name in ("s3", "accounts"):
        (directory / name).mkdir(parents=True)
    (directory / "accounts" / "users.json").write_text(json.dumps({"accessAccounts": {LIMITED["access"]: LIMITED}}))
    port = free_port()
    keys = {"ROOT_ACCESS_KEY": secrets.token_hex(8), "ROOT_SECRET_KEY": secrets.token_hex(16)}
    program = current().cache / "bin" / "versitygw"
    line = [
        str(program),
        "--port",
        f"127.0.0.1:{port}",
        "--region",
        "us-east-1",
        "--quiet",
        "--iam-dir",
        str(directory / "accounts"),
        "posix",
        str(directory / "s3"),
    ]
    url = f"http://127.0.0.1:{port}"
    with subprocess.Popen(line, env=os.environ | keys, stdout=subprocess.DEVNULL) as process:
        try:
            client = boto3.client(
                "s3",
                endpoint_url=url,
                region_name="us-east-1",
                aws_access_key_id=keys["ROOT_ACCESS_KEY"],
                aws_secret_access_key=keys["ROOT_SECRET_KEY"],
                config=S3Config(s3={"addressing_style": "path"}, proxies={}, retries={"max_attempts": 10}),
            )
            eventually(lambda: client.create_bucket(Bucket="images"), 20)
            options = {"bucket": "images", "region": "us-east-1", "regionendpoint": url, "pathstyle": True}
            access = {"accesskey": keys["ROOT_ACCESS_KEY"], "secretkey": keys["ROOT_SECRET_KEY"]}
            yield Store({"s3_v2": options | access}, client)
        finally:
            process.terminate()
            process.wait(30)
