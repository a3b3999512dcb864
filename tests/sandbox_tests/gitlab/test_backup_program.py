"""The server's program for backups, with the real rclone and a real S3 server, on a machine whose GitLab is played."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest

from components.rendering import render
from tests.sandbox.layout import current
from tests.sandbox_tests.support.packages import unpacked
from tests.sandbox_tests.support.ports import free_port
from tests.sandbox_tests.support.waiting import eventually

FILES = Path(__file__).parents[3] / "components/files/backup"
DAY = 86400
BLOB = "docker/registry/v2/blobs/sha256/{}/{}/data"

#: Commands of a GitLab server. Its data is one file, and the backup of it is a tar file named after the hour.
COMMANDS = {
    "gitlab-backup": """
        [ ! -e $ROOT/failing-$1 ] || { echo "rake aborted! $1"; exit 1; }
        cd $ROOT/var/opt/gitlab/slipway-backups
        if [ $1 = create ]; then
          tar -cf "$(cat $ROOT/now)_2027_01_15_19.3.0_gitlab_backup.tar" -C $ROOT data
        else
          tar -xf "${2#BACKUP=}_gitlab_backup.tar" -C $ROOT
        fi""",
    "gitlab-ctl": """
        echo "$@" >>$ROOT/ctl.log
        [ $1 != backup-etc ] || tar --absolute-names -cf $4/gitlab_config_1_2027_01_15.tar $ROOT/etc/gitlab""",
    "gitlab-psql": 'echo "$4" >>$ROOT/psql.log; case $4 in *"count(*)"*) echo 1;; esac',
    "runuser": "shift 3; exec $ROOT/opt/gitlab/embedded/bin/$(basename $1)",
    "dpkg-query": "cat $ROOT/version",
    "systemctl": ":",
    "curl": "case $* in */v2/) printf 401;; esac",
    "chown": ":",
    "install": 'case "$*" in *-d*) for last; do :; done; mkdir -p "$last";; *) shift 6; cp "$1" "$2";; esac',
    "df": 'printf "Avail\\n%s\\n" $(cat $ROOT/free)',
}


def rclone() -> Path:
    """The program that the server copies backups with."""
    return unpacked("rclone") / "usr/bin/rclone"


@pytest.fixture(scope="module")
def spaces(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """An S3 server that keeps objects as files: its URL, and the folder with the buckets."""
    folder, port = tmp_path_factory.mktemp("spaces"), free_port()
    keys = {"ROOT_ACCESS_KEY": "key", "ROOT_SECRET_KEY": "secret-of-the-space"}
    command = [str(current().cache / "bin/versitygw"), "--port", f"127.0.0.1:{port}", "posix", str(folder)]
    process = subprocess.Popen(command, env=os.environ | keys, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        eventually(lambda: _answers(url), 20)
        yield url, folder
    finally:
        process.terminate()
        process.wait()


def _answers(url: str) -> bool:
    with suppress(httpx.HTTPError):
        return httpx.get(url, timeout=1).status_code > 0
    return False


@dataclass(frozen=True)
class Server:
    """A machine, as a folder, and the folder of its Space."""

    root: Path
    space: Path

    def run(self, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run the program."""
        path = f"{self.root}/bin:{rclone().parent}:{os.environ['PATH']}"
        environment = {"PATH": path, "ROOT": str(self.root), "HOME": str(self.root)}
        program = self.root / "usr/local/sbin/slipway-backup"
        return subprocess.run(
            ["bash", program, *words], input=stdin, capture_output=True, text=True, check=False, env=environment
        )

    def create(self, hours_ago: float = 0) -> str:
        """Make a backup some time ago, and return its ID."""
        now = int(time.time() - hours_ago * 3600)
        (self.root / "now").write_text(str(now))
        done = self.run("create")
        assert done.returncode == 0, done.stderr
        return f"{now}_2027_01_15_19.3.0"

    def restore(self, backup_id: str, **given: str) -> subprocess.CompletedProcess[str]:
        """Restore a backup, with what the tool sends on standard input."""
        return self.run("restore", backup_id, stdin="".join(f"{name}={value}\n" for name, value in given.items()))

    def ids(self) -> list[str]:
        """The IDs of all complete backups, the newest first."""
        return [one["id"] for one in json.loads(self.run("list").stdout)["backups"]]

    def blob(self, letter: str) -> Path:
        """A file of the registry's storage."""
        return self.root / "var/opt/gitlab/gitlab-rails/shared/registry" / BLOB.format(letter * 2, letter * 64)

    @property
    def data(self) -> Path:
        """All that GitLab knows."""
        return self.root / "data"


@pytest.fixture
def server(tmp_path: Path, spaces: tuple[str, Path]) -> Server:
    url, buckets = spaces
    bucket = f"bucket-{tmp_path.name.replace('_', '-')[-30:].lower()}".strip("-")
    (buckets / bucket).mkdir()
    root = tmp_path / "server"
    for folder in (
        *("bin", "run", "usr/local/sbin", "etc/ssh", "etc/gitlab", "etc/slipway", "opt/gitlab/embedded/bin"),
        *(f"var/opt/gitlab/{name}" for name in ("slipway-backups", "git-data", "postgresql")),
    ):
        (root / folder).mkdir(parents=True)
    commands = {**COMMANDS}
    for name, text in commands.items():
        (root / "bin" / name).write_text(f"#!/bin/bash\n{text}\n")
        (root / "bin" / name).chmod(0o755)
    for name, text in {
        "pg_dump": "cat $ROOT/database",
        "pg_restore": '[ "$1" = --list ] || cat >$ROOT/database',
    }.items():
        (root / "opt/gitlab/embedded/bin" / name).write_text(f"#!/bin/bash\n{text}\n")
        (root / "opt/gitlab/embedded/bin" / name).chmod(0o755)
    settings = SimpleNamespace(keep_days=1, keep_last=2)
    space = {"access_key": "key", "bucket": bucket, "endpoint": url, "prefix": "gitlab", "region": "us-east-1",
             "secret_key": "secret-of-the-space", "encryption_key": "the-key"}  # fmt: skip
    images = dict.fromkeys(("access_key", "bucket", "endpoint", "region", "secret_key"), "")
    objects = dict.fromkeys(("access_key", "buckets", "endpoint", "region", "secret_key"), "")
    given = {"settings": settings, "space": space, "images": images, "objects": objects}
    env = render("backup.env.j2", fqdn="gitlab.example.com", **given)
    (root / "etc/slipway/backup.env").write_text(env)
    _install(root)
    for name, text in {
        "data": "before\n",
        "version": "19.3.0-ce.0",
        "free": "99999999",
        "database": "images\n",
    }.items():
        (root / name).write_text(text)
    (root / "etc/gitlab/gitlab-secrets.json").write_text("{}")
    (root / "etc/gitlab/registry.rb").write_text(
        "registry['database'] = { 'enabled' => true, 'dbname' => 'registry' }\n"
        "registry_external_url 'https://gitlab.example.com:5555'\n"
    )
    (root / "etc/ssh/ssh_host_ed25519_key").write_text("the host key")
    made = Server(root, buckets / bucket)
    made.blob("a").parent.mkdir(parents=True)
    made.blob("a").write_text("layer a")
    return made


def _install(root: Path) -> None:
    library = root / "usr/local/lib/slipway-backup"
    library.mkdir(parents=True)
    for source in (*FILES.iterdir(), FILES.parent / "database.sh"):
        text = source.read_text()
        for folder in ("/var/opt/gitlab", "/etc/", "/opt/gitlab/embedded", "/run/", "/usr/local/"):
            text = (
                text.replace(folder, f"{root}{folder}")
                if folder != "/opt/gitlab/embedded"
                else text.replace(f" {folder}", f" {root}{folder}")
            )
        target = root / "usr/local/sbin" if source.suffix == "" else library
        (target / source.name).write_text(text)


def test_a_backup_comes_back_with_its_data_database_secrets_and_blobs(server: Server) -> None:
    made = server.create()
    server.data.write_text("later\n")
    (server.root / "database").write_text("nothing\n")
    (server.root / "etc/gitlab/gitlab-secrets.json").write_text("{'other': 1}")
    server.blob("a").unlink()
    done = server.restore(made)
    assert done.returncode == 0, done.stderr
    assert server.data.read_text() == "before\n"
    assert (server.root / "database").read_text() == "images\n"
    assert (server.root / "etc/gitlab/gitlab-secrets.json").read_text() == "{}"
    assert server.blob("a").read_text() == "layer a"
    assert done.stdout == ""
    order = (server.root / "ctl.log").read_text()
    assert order.index("stop puma") > order.index("reconfigure")


def test_images_in_a_bucket_of_the_users_own_are_copied_from_it_and_come_back_to_it(
    server: Server, spaces: tuple[str, Path]
) -> None:
    own = server.space.with_name(f"{server.space.name[:50]}-own")
    layer = own / BLOB.format("bb", "b" * 64)
    layer.parent.mkdir(parents=True)
    layer.write_text("layer b")
    settings = server.root / "etc/slipway/backup.env"
    s3 = {"access_key": "key", "bucket": own.name, "endpoint": spaces[0], "region": "us-east-1",
          "secret_key": "secret-of-the-space"}  # fmt: skip
    lines = [line for line in settings.read_text().splitlines() if not line.startswith("REGISTRY_")]
    settings.write_text("\n".join([*lines, *(f"REGISTRY_{name.upper()}='{value}'" for name, value in s3.items())]))
    made = server.create()
    assert json.loads(server.run("list").stdout)["backups"][0]["blobs"] == 1
    layer.unlink()
    done = server.restore(made)
    assert done.returncode == 0, done.stderr
    assert layer.read_text() == "layer b"
    # The folder of the data volume is not the storage any more.
    assert not server.blob("b").exists()


@pytest.fixture
def files(server: Server, spaces: tuple[str, Path]) -> Path:
    """The folder of the bucket with GitLab's artifacts, after object storage was turned on for them."""
    own = server.space.with_name(f"{server.space.name[:50]}-files")
    (own / "aa/bb").mkdir(parents=True)
    (own / "aa/bb/artifacts.zip").write_text("an archive")
    (own / "tmp/uploads").mkdir(parents=True)
    (own / "tmp/uploads/unfinished").write_text("half")
    settings = server.root / "etc/slipway/backup.env"
    given = {"access_key": "key", "buckets": f"artifacts={own.name}", "endpoint": spaces[0], "region": "us-east-1",
             "secret_key": "secret-of-the-space"}  # fmt: skip
    lines = [line for line in settings.read_text().splitlines() if not line.startswith("OBJECTS_")]
    settings.write_text("\n".join([*lines, *(f"OBJECTS_{name.upper()}='{value}'" for name, value in given.items())]))
    return own


def test_files_of_gitlab_in_object_storage_are_copied_and_come_back(server: Server, files: Path) -> None:
    made = server.create()
    [listed] = json.loads(server.run("list").stdout)["backups"]
    assert (listed["objects"], listed["files_storage"]) == (1, "object storage")
    (files / "aa/bb/artifacts.zip").unlink()
    (files / "later.zip").write_text("of later")
    done = server.restore(made)
    assert done.returncode == 0, done.stderr
    assert (files / "aa/bb/artifacts.zip").read_text() == "an archive"
    # What the backup does not know stays.
    assert (files / "later.zip").exists()


def test_a_backup_with_files_in_object_storage_needs_a_server_with_object_storage(server: Server, files: Path) -> None:
    del files
    made = server.create()
    settings = server.root / "etc/slipway/backup.env"
    settings.write_text(settings.read_text().replace("OBJECTS_BUCKETS=", "OBJECTS_BUCKETS= # "))
    done = server.restore(made)
    assert done.returncode == 1
    assert "the backup has 1 files of GitLab's that were in object storage, and this server has none" in done.stderr
    assert "nothing was changed" in done.stderr
    assert "stop puma" not in (server.root / "ctl.log").read_text()


def test_files_of_removed_backups_go_and_a_backup_that_lacks_one_is_refused(server: Server, files: Path) -> None:
    server.create(100)
    (files / "aa/bb/artifacts.zip").rename(files / "other.zip")
    server.create(50)
    made = server.create(30)
    folder = server.space / "gitlab/objects/artifacts"
    assert [path.name for path in folder.rglob("*") if path.is_file()] == ["other.zip.bin"]
    (folder / "other.zip.bin").unlink()
    assert "the backup lacks 1 of 1 files of GitLab's; nothing was changed" in server.restore(made).stderr


def test_a_file_with_another_content_under_the_same_name_is_copied_again(server: Server, files: Path) -> None:
    server.create()
    (files / "aa/bb/artifacts.zip").write_text("AN ARCHIVE")
    made = server.create()
    (files / "aa/bb/artifacts.zip").unlink()
    assert server.restore(made).returncode == 0
    assert (files / "aa/bb/artifacts.zip").read_text() == "AN ARCHIVE"


def test_nothing_but_encrypted_content_is_in_the_space(server: Server) -> None:
    server.create()
    files = [path for path in server.space.rglob("*") if path.is_file()]
    assert len(files) == 8
    assert all(path.read_bytes().startswith(b"RCLONE\0\0") for path in files)


@pytest.mark.parametrize(
    ("hours", "kept"), [((100, 50, 30, 26), 2), ((100, 20, 10, 5), 3), ((23, 22, 21, 20), 4), ((100,), 1)]
)
def test_backups_are_kept_by_number_and_by_age(server: Server, hours: tuple[int, ...], kept: int) -> None:
    made = [server.create(hour) for hour in hours]
    assert server.ids() == made[::-1][:kept]


def test_the_blobs_of_removed_backups_go_unless_another_one_needs_them(server: Server) -> None:
    server.create(100)
    server.blob("b").parent.mkdir(parents=True)
    server.blob("b").write_text("layer b")
    server.blob("a").unlink()
    server.create(50)
    server.create(30)
    stored = [path.name for path in (server.space / "gitlab/images").rglob("*") if path.is_file()]
    parents = [path.parent.name[0] for path in (server.space / "gitlab/images").rglob("*") if path.is_file()]
    assert (stored, parents) == (["data.bin"], ["b"])


def test_what_an_interrupted_backup_has_left_is_listed_and_removed_by_the_next_one(server: Server) -> None:
    left = server.space / "gitlab/backups/1700000000_2023_11_14_19.3.0"
    left.mkdir(parents=True)
    (left / "registry.dump.bin").write_text("half")
    assert json.loads(server.run("list").stdout) == {"backups": [], "unfinished": [left.name]}
    refused = server.restore(left.name)
    assert f"{left.name} is unfinished" in refused.stderr
    server.create()
    assert not left.exists()


def test_a_backup_that_fails_leaves_the_earlier_ones_and_nothing_else(server: Server) -> None:
    made = server.create(5)
    (server.root / "failing-create").touch()
    done = server.run("create")
    assert done.returncode == 1
    assert "rake aborted! create" in done.stderr
    assert server.ids() == [made]
    assert list((server.root / "var/opt/gitlab/slipway-backups").iterdir()) == []


def test_a_full_disk_is_reported_before_anything_is_written(server: Server) -> None:
    made = server.create()
    (server.root / "free").write_text("3")
    assert "and a backup may need" in server.run("create").stderr
    done = server.restore(made)
    assert "and restoring this backup needs" in done.stderr
    assert "nothing was changed. Increase server.volumeSizeGb" in done.stderr
    assert server.data.read_text() == "before\n"


def test_a_backup_of_another_version_is_refused_with_the_version_to_set(server: Server) -> None:
    made = server.create()
    (server.root / "version").write_text("19.3.1-ce.0")
    done = server.restore(made)
    assert done.returncode == 1
    assert "was made by GitLab 19.3.0-ce.0, and 19.3.1-ce.0 is installed" in done.stderr
    assert "Set gitlab.version to 19.3.0-ce.0" in done.stderr


def test_a_wrong_key_is_told_from_an_empty_space(server: Server) -> None:
    made = server.create()
    wrong = server.restore(made, BACKUP_KEY="another-key")
    assert "cannot be decrypted" in wrong.stderr
    assert "The key is not the one that it was made with" in wrong.stderr
    assert "there is no backup 1; nothing was changed. There are: " + made in server.restore("1").stderr
    assert "There are: none" in server.restore(made, BACKUP_PREFIX="other").stderr


@pytest.mark.parametrize(
    ("name", "damage"), [("registry.dump", "cut"), ("etc-gitlab.tar", "gone"), ("images.txt", "changed")]
)
def test_a_damaged_backup_is_refused_before_anything_is_changed(server: Server, name: str, damage: str) -> None:
    made = server.create()
    file = server.space / "gitlab/backups" / made / f"{name}.bin"
    content = file.read_bytes()
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes(content[:-8] if damage == "cut" else content[:-8] + bytes(8))
    done = server.restore(made)
    assert done.returncode == 1
    assert "nothing was changed" in done.stderr
    assert "stop puma" not in (server.root / "ctl.log").read_text()


def test_a_backup_that_lacks_a_blob_is_refused(server: Server) -> None:
    made = server.create()
    [blob] = [path for path in (server.space / "gitlab/images").rglob("*") if path.is_file()]
    blob.unlink()
    assert "the backup lacks 1 of 1 files of images; nothing was changed" in server.restore(made).stderr


def test_a_restore_that_fails_puts_back_what_was_there(server: Server) -> None:
    made = server.create()
    server.data.write_text("later\n")
    (server.root / "etc/gitlab/gitlab-secrets.json").write_text("{'later': 1}")
    # The command fails once.
    program = server.root / "bin/gitlab-backup"
    once = "[ $1 = create ] || [ -e $ROOT/failed ] || { touch $ROOT/failed; echo half >$ROOT/data; exit 1; }"
    program.write_text(program.read_text().replace("#!/bin/bash\n", f"#!/bin/bash\n{once}\n"))
    done = server.restore(made)
    assert done.returncode == 1
    assert "the previous state is in effect again" in done.stderr
    assert server.data.read_text() == "later\n"
    assert (server.root / "etc/gitlab/gitlab-secrets.json").read_text() == "{'later': 1}"


def test_a_gitlab_that_cannot_be_saved_is_replaced_on_request_alone(server: Server) -> None:
    made = server.create()
    server.data.write_text("broken\n")
    (server.root / "failing-create").touch()
    done = server.restore(made)
    assert "the present state could not be saved; nothing was changed" in done.stderr
    assert server.data.read_text() == "broken\n"
    assert server.restore(made, DISCARD_PRESENT="yes").returncode == 0
    assert server.data.read_text() == "before\n"


def test_one_backup_or_restore_runs_at_a_time(server: Server) -> None:
    with closing((server.root / "run/slipway-backup.lock").open("w")) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "another backup or restore is running" in server.run("create").stderr
    assert server.run("create").returncode == 0


def test_a_space_that_cannot_be_reached_is_named(server: Server) -> None:
    settings = server.root / "etc/slipway/backup.env"
    settings.write_text(settings.read_text().replace("BACKUP_SECRET_KEY=", "BACKUP_SECRET_KEY=not-"))
    done = server.run("list")
    assert done.returncode == 1
    assert "the Space with the backups cannot be listed" in done.stderr
    assert "SignatureDoesNotMatch" in done.stderr
