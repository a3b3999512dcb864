"""GitLab's files between the data volume and object storage, on a machine whose commands are played."""

from __future__ import annotations

import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from components.rendering import script

BUCKETS = "artifacts=b-artifacts lfs=b-lfs uploads=b-uploads packages=b-packages"
#: The task moves all files of its type, unless it is broken. A bucket is a folder, and an object a file of its size.
MACHINE = """
with_heartbeat() { shift; "$@"; }
sleep() { SECONDS=$((SECONDS + 60)); }
gitlab-ctl() { echo "gitlab-ctl $*" >>"$ROOT/commands"; }
gitlab-rake() {
  echo "gitlab-rake $1" >>"$ROOT/commands"
  if [ -e "$ROOT/broken" ]; then
    echo "E, [2026-01-01T00:00:00.000000 #7] ERROR -- : Expected(200) <=> Actual(403 Forbidden)"
    return 0
  fi
  case "$1" in
    *:artifacts:migrate) mv "$ROOT"/var/opt/gitlab/gitlab-rails/shared/artifacts/a.zip "$ROOT/b-artifacts/" ;;
    *:artifacts:migrate_to_local) rm -f "$ROOT"/b-artifacts/*.zip ;;
  esac
}
gitlab-rails() {
  local store
  read -r store
  echo "gitlab-rails $1 $store" >>"$ROOT/commands"
  [ "$(cat "$2")" = 'a program' ] || return 3
  [ ! -e "$ROOT/broken" ] || { echo "Error while migrating 7: Actual(403 Forbidden)"; return 1; }
  rm -f "$ROOT"/var/opt/gitlab/gitlab-rails/uploads/*
}
s3() {
  local file size
  {
    printf '<ListBucketResult>'
    for file in "$ROOT/$S3_BUCKET"/*; do
      [ -e "$file" ] || continue
      size=$(stat -c %s "$file")
      printf '<Contents><Key>%s</Key><Size>%s</Size></Contents>' "${file##*/}" "$size"
    done
    printf '</ListBucketResult>'
  } >"$5"
}
df() { printf 'Avail\\n%s\\n' "${FREE:-100000000000}"; }
"""


@dataclass(frozen=True)
class Server:
    """The files of one machine, and its buckets."""

    root: Path

    def run(self, file: str, command: str, **values: str) -> subprocess.CompletedProcess[str]:
        """Run a command of a script's."""
        known = {"LIMIT_SECONDS": "9", "ROOT": str(self.root), "OBJECT_BUCKETS": BUCKETS, "FQDN": "gitlab.example.test"}
        known["UPLOADS_PROGRAM"] = "a program"
        assigned = [f"{name}={shlex.quote(value)}" for name, value in {**known, **values}.items()]
        libraries = [script("gitlab.sh"), script("object-storage.sh"), script("object-tasks.sh")]
        libraries += [script("database.sh"), script("move-databases.sh")]
        step = "\n".join([*libraries, script(file)])
        for folder in ("/var/opt/gitlab", "/var/log", "/etc/gitlab"):
            step = step.replace(folder, f"{self.root}{folder}")
        text = "\n".join([script("prelude.sh"), *assigned, step, MACHINE, f"{command} </dev/null"])
        return subprocess.run(["bash", "-s"], input=text, capture_output=True, text=True, check=False)

    def take_back(self, **values: str) -> subprocess.CompletedProcess[str]:
        """What the configuration does before it turns object storage off."""
        return self.run("configure-gitlab.sh", "return_objects", **values)

    @property
    def commands(self) -> list[str]:
        """What was called."""
        file = self.root / "commands"
        return file.read_text().splitlines() if file.exists() else []


@pytest.fixture
def server(tmp_path: Path) -> Server:
    for folder in (
        "var/opt/gitlab/gitlab-rails/shared/artifacts",
        "var/log",
        "etc/gitlab",
        "b-artifacts",
        "b-packages",
    ):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "etc/gitlab/gitlab.rb").write_text("gitlab_rails['object_store']['enabled'] = true\n")
    return Server(tmp_path)


def put(server: Server, path: str, content: str = "x" * 3) -> None:
    file = server.root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content)


ARTIFACTS = "var/opt/gitlab/gitlab-rails/shared/artifacts"
UPLOADS = "var/opt/gitlab/gitlab-rails/uploads"
#: What the program says of the uploads of `uploads.rb` that it cannot move.
BROKEN = {1: ["Error while migrating 6: Expected(200) <=> Actual(403 Forbidden)"], 2: []}
UNFINISHED = str(Path(ARTIFACTS, "tmp"))


def test_files_of_a_type_are_moved_by_its_task_and_types_without_files_need_none(server: Server) -> None:
    put(server, f"{ARTIFACTS}/a.zip")
    put(server, f"{UNFINISHED}/upload")
    done = server.run("move-objects.sh", "main")
    assert (done.returncode, server.commands) == (0, ["gitlab-rake gitlab:artifacts:migrate"])
    assert "objects: moving 1 files of artifacts to bucket b-artifacts\n" in done.stderr
    assert server.run("move-objects.sh", "main").returncode == 0
    assert len(server.commands) == 1


def test_a_file_that_cannot_be_moved_fails_the_step_with_its_cause(server: Server) -> None:
    put(server, f"{ARTIFACTS}/a.zip")
    (server.root / "broken").touch()
    done = server.run("move-objects.sh", "main")
    assert done.returncode == 1
    assert (
        "artifacts could not be moved to object storage (Expected(200) <=> Actual(403 Forbidden)); GitLab serves them"
        in (done.stderr)
    )
    assert (server.root / ARTIFACTS / "a.zip").exists()


def test_uploads_are_moved_by_a_program_because_gitlabs_task_ends_before_they_are(server: Server) -> None:
    put(server, f"{UPLOADS}/notes.txt")
    done = server.run("move-objects.sh", "main")
    assert (done.returncode, server.commands) == (0, ["gitlab-rails runner 2"])
    assert "objects: 1 files of uploads are in object storage\n" in done.stderr
    put(server, f"{UPLOADS}/notes.txt")
    (server.root / "broken").touch()
    done = server.run("move-objects.sh", "main")
    assert done.returncode == 1
    assert "files of uploads could not be moved to object storage (Error while migrating 7: Actual(403" in done.stderr


@pytest.mark.parametrize(("target", "moved"), [(1, [3, 5]), (2, [1, 2])])
def test_the_program_moves_each_upload_that_belongs_to_something_and_names_those_that_it_cannot_move(
    tmp_path: Path, target: int, moved: list[int]
) -> None:
    (tmp_path / "move.rb").write_text(script("move-uploads.rb"))
    done = subprocess.run(
        ["ruby", "-r", str(Path(__file__).with_name("uploads.rb")), str(tmp_path / "move.rb")],
        input=f"{target}\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.splitlines() == [*(f"{number} to {target}" for number in moved), *BROKEN[target]]
    assert done.returncode == len(BROKEN[target])


def test_a_file_that_belongs_to_nothing_stays_and_is_mentioned(server: Server) -> None:
    put(server, f"{ARTIFACTS}/a.zip")
    put(server, f"{ARTIFACTS}/orphan")
    done = server.run("move-objects.sh", "main")
    assert done.returncode == 0
    assert "1 files in" in done.stderr
    assert "belong to nothing in GitLab, and stay there" in done.stderr


def test_on_the_way_back_gitlab_stands_still_while_its_tasks_run(server: Server) -> None:
    put(server, "b-artifacts/a.zip")
    done = server.take_back()
    assert done.returncode == 0, done.stderr
    tasks = [f"gitlab-rake gitlab:{type_}:migrate_to_local" for type_ in ("artifacts", "lfs")]
    stopped = ["gitlab-ctl stop puma", "gitlab-ctl stop sidekiq"]
    assert server.commands == [*stopped, *tasks, "gitlab-rails runner 1"]


@pytest.mark.parametrize(
    ("file", "values", "words"),
    [
        (
            "b-packages/p.tar",
            {},
            "GitLab cannot move its files of these types back to the data volume: packages; nothing",
        ),
        ("b-artifacts/a.zip", {"FREE": "1073741824"}, "the data volume has 1024 MB left, and GitLab's files in object"),
    ],
)
def test_what_cannot_go_back_is_refused_before_anything_stops(
    server: Server, file: str, values: dict[str, str], words: str
) -> None:
    put(server, file)
    done = server.take_back(**values)
    assert done.returncode == 1
    assert words in done.stderr
    assert "nothing was changed" in done.stderr
    assert server.commands == []


def test_a_way_back_that_fails_starts_gitlab_again_with_object_storage(server: Server) -> None:
    put(server, "b-artifacts/a.zip")
    put(server, "var/opt/gitlab/bootstrapped")
    (server.root / "broken").touch()
    done = server.take_back()
    assert done.returncode == 1
    assert "artifacts could not be moved to the data volume (Expected(200)" in done.stderr
    assert server.commands[-1] == "gitlab-ctl start"


def test_a_killed_run_that_had_written_the_new_configuration_takes_back_what_came_since(server: Server) -> None:
    copy = f"etc/gitlab/slipway-working{server.root}/etc/gitlab/gitlab.rb"
    put(server, copy, "gitlab_rails['object_store']['enabled'] = true\n")
    put(server, "etc/gitlab/gitlab.rb", "external_url 'https://gitlab.example.test'\n")
    put(server, "b-artifacts/a.zip")
    assert server.take_back().returncode == 0
    assert "gitlab-rake gitlab:artifacts:migrate_to_local" in server.commands


def test_gitlab_stands_still_even_if_there_is_nothing_to_take_back(server: Server) -> None:
    assert server.take_back().returncode == 0
    assert server.commands[0] == "gitlab-ctl stop puma"


def test_what_comes_until_gitlab_stands_still_is_seen(server: Server) -> None:
    stop = 'gitlab-ctl() { echo "gitlab-ctl $*" >>"$ROOT/commands"; echo x >"$ROOT/b-packages/p.tar"; }'
    put(server, "var/opt/gitlab/bootstrapped")
    done = server.run("configure-gitlab.sh", f"{stop}; return_objects")
    assert "GitLab cannot move its files of these types back to the data volume: packages" in done.stderr
    assert server.commands[-1] == "gitlab-ctl start"


@pytest.mark.parametrize("objects", [0, 1])
def test_no_file_comes_back_while_nobody_knows_which_database_has_it(server: Server, objects: int) -> None:
    put(server, "etc/gitlab/slipway-moving", "")
    if objects:
        put(server, "b-artifacts/a.zip")
    done = server.take_back()
    assert done.returncode == objects
    assert ("GitLab's databases are between two servers" in done.stderr) == bool(objects)
    assert server.commands == []


def test_a_server_without_object_storage_has_nothing_to_take_back(server: Server) -> None:
    put(server, "b-packages/p.tar")
    (server.root / "etc/gitlab/gitlab.rb").write_text("external_url 'https://gitlab.example.test'\n")
    assert server.take_back().returncode == 0
    assert server.commands == []


def test_each_bucket_is_verified_with_gitlabs_key_before_anything_is_written(server: Server) -> None:
    text = script("configure-gitlab.sh")
    assert text.index("verify_object_buckets\n") < text.index("write_secrets\n")
    done = server.run("configure-gitlab.sh", 'verify_bucket() { echo "$S3_OWNER $S3_BUCKET"; }; verify_object_buckets')
    assert done.stdout.splitlines() == [f"GitLab b-{type_}" for type_ in ("artifacts", "lfs", "uploads", "packages")]
