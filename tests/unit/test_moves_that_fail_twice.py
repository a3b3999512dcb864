"""Moves of GitLab's databases that end at the worst moment: GitLab never runs with a server that does not count."""

from __future__ import annotations

import subprocess

import pytest

from components.rendering import script
from tests.unit.test_move_databases import BEFORE, NAMES, STOPS, Server, server

__all__ = ["server"]

STANDS_STILL = "gitlab: it stands still, because the configuration in effect is not the one for its databases; the next"


def kill(server: Server, moment: str, tables: str, keys: str = "") -> None:
    """Run a move that ends at once at some moment."""
    (server.root / "killing").write_text(moment)
    assert server.configure(tables, keys).returncode == -9


def set_failing(server: Server, what: str) -> None:
    (server.root / "failing").write_text(what)


def test_a_way_back_that_was_killed_and_then_refused_brings_the_cluster_into_effect_again(server: Server) -> None:
    server.configure("managed")
    kill(server, "copy registry", "bundled")
    # What has been copied takes the room on the volume.
    done = server.configure("bundled", FREE="1")
    assert "the data volume has 0 MB left" in done.stderr
    assert server.served == ["managed", "managed"]
    assert not server.stands_still
    server.commands()
    assert server.configure("bundled").returncode == 0
    assert server.rows("bundled") == [*BEFORE, "written on managed", "written on managed", "written on bundled"]


def test_that_is_so_even_if_the_run_between_was_killed_with_the_files_in_place(server: Server) -> None:
    server.configure("managed")
    kill(server, "copy registry", "bundled")
    (server.root / "killing").write_text("reading of gitlab.rb")
    assert server.configure("bundled", FREE="1").returncode == -9
    server.configure("bundled", FREE="1")
    assert server.served == ["managed", "managed"]


def test_where_the_cluster_cannot_be_brought_into_effect_gitlab_stands_still(server: Server) -> None:
    server.configure("managed")
    kill(server, "copy registry", "bundled")
    for failing in ("reading of gitlab.rb", "reconfigure on managed"):
        set_failing(server, failing)
        done = server.configure("bundled", FREE="1")
        assert done.returncode == 1
        assert STANDS_STILL in done.stderr
        assert server.served == ["managed"]
        assert server.stands_still
    (server.root / "failing").unlink()
    assert server.configure("bundled").returncode == 0
    assert server.rows("bundled") == [*BEFORE, "written on managed", "written on bundled"]
    assert not server.stands_still


@pytest.mark.parametrize("tables", ["managed", "bundled"])
def test_a_move_that_was_handed_over_and_killed_leaves_gitlab_stopped_until_it_is_in_effect(
    server: Server, tables: str
) -> None:
    if tables == "bundled":
        server.configure("managed")
    served = server.served
    kill(server, "reading of gitlab.rb" if tables == "managed" else "reconfigure on bundled", tables)
    set_failing(server, "reading of gitlab.rb")
    done = server.configure(tables)
    assert done.returncode == 1
    assert STANDS_STILL in done.stderr
    assert server.served == served
    assert server.stands_still
    (server.root / "failing").unlink()
    assert server.configure(tables).returncode == 0
    assert server.served == [*served, tables]


def test_a_move_whose_return_fails_as_well_leaves_gitlab_stopped(server: Server) -> None:
    set_failing(server, "reading of gitlab.rb")
    done = server.configure("managed")
    assert done.returncode == 1
    assert STANDS_STILL in done.stderr
    assert server.served == []
    (server.root / "failing").unlink()
    assert server.configure("managed").returncode == 0
    assert server.rows("managed") == [*BEFORE, "written on managed"]


def test_what_was_written_before_gitlab_turned_out_not_to_be_ready_is_kept(server: Server) -> None:
    (server.root / "starting").touch()
    done = server.configure("managed")
    assert done.returncode == 1
    assert "its databases have moved already, and the configuration stays for them" in done.stderr
    assert server.mark("managed") == "in use"
    (server.root / "starting").unlink()
    server.commands()
    assert server.configure("managed").returncode == 0
    assert server.commands() == ["reconfigure"]
    assert server.rows("managed") == [*BEFORE, "written on managed"]
    assert server.rows("bundled") == BEFORE


def test_on_the_way_back_to_a_new_droplet_gitlab_does_not_start_on_what_the_volume_has_from_before(
    server: Server,
) -> None:
    server.configure("managed")
    server.replace_machine()
    done = server.configure("bundled")
    assert done.returncode == 0, done.stderr
    assert server.served == ["managed", "bundled"]
    assert server.rows("bundled") == [*BEFORE, "written on managed", "written on bundled"]
    # What GitLab of this installation does not have was told not to start, too.
    assert not (server.root / "opt/gitlab/sv/mailroom").exists()


def test_keys_alone_come_from_the_redis_of_a_new_droplet(server: Server) -> None:
    server.configure("managed", "bundled")
    server.replace_machine()
    done = server.configure("managed")
    assert done.returncode == 0, done.stderr
    assert server.commands() == ["reconfigure", "start redis", *STOPS, "reconfigure", "start"]
    assert (server.root / "managed/keys").read_text() == "queue:default\n"


def test_a_redis_that_does_not_start_is_not_taken_for_one_that_is_not_there(server: Server) -> None:
    server.configure("managed", "bundled")
    server.replace_machine()
    set_failing(server, "check keys")
    done = server.configure("managed")
    assert done.returncode == 1
    assert "error: the Redis of GitLab's package does not start (see above); nothing was changed" in done.stderr
    assert not (server.root / "managed/keys").exists()


def test_a_gitlab_whose_redis_never_ran_here_has_no_keys_to_move(server: Server) -> None:
    server.configure("managed", "bundled")
    server.replace_machine()
    (server.root / "var/opt/gitlab/redis/dump.rdb").unlink()
    done = server.configure("managed")
    assert done.returncode == 0, done.stderr
    assert "this GitLab runs no Redis of its own, so there are no keys to copy" in done.stderr


def test_half_of_a_move_goes_on_at_a_new_droplet_without_a_start_of_gitlab_between(server: Server) -> None:
    # Tables are handed over, and keys are not.
    (server.root / "var/opt/gitlab/redis/redis.socket").touch()
    kill(server, "mark keys", "managed")
    server.replace_machine()
    done = server.configure("managed")
    assert done.returncode == 0, done.stderr
    assert server.served == ["managed"]
    assert server.rows("managed") == [*BEFORE, "written on managed"]


def test_tables_and_keys_that_change_places_are_both_copied(server: Server) -> None:
    server.configure("managed", "bundled")
    done = server.configure("bundled", "managed")
    assert done.returncode == 0, done.stderr
    assert (server.root / "managed/keys").read_text() == "queue:default\n"
    assert server.rows("bundled") == [*BEFORE, "written on managed", "written on bundled"]


@pytest.mark.parametrize("name", NAMES)
def test_a_database_of_which_nobody_knows_whether_it_is_there_is_not_touched(server: Server, name: str) -> None:
    (server.root / "managed" / name).write_text("a stranger's row\n")
    set_failing(server, f"list {name}")
    done = server.configure("managed")
    assert done.returncode == 1
    assert f"error: nobody knows what database {name} of the managed cluster has (see above); it was not" in done.stderr
    assert server.rows("managed", name) == ["a stranger's row"]
    assert server.rows("bundled")[-1] == "written on bundled"


def test_a_step_whose_time_is_over_while_it_waits_for_a_backup_leaves_gitlab_and_its_backups_as_they_were(
    server: Server,
) -> None:
    (server.root / "backup").touch()
    done = server.configure("managed")
    assert "error: this step exceeded its limit" in done.stderr
    assert server.commands() == []
    assert not server.stands_still
    assert not (server.root / "etc/gitlab/slipway-moving").exists()


def test_two_servers_are_compared_without_a_limit_of_time_and_without_indexes_that_no_dump_has() -> None:
    played = """as_gitlab() { cat; }"""
    library = script("move-databases.sh").replace('[ ! -e "$MOVING" ]', "true")
    text = f"{library}\n{played}\ncontents_of bundled registry"
    done = subprocess.run(["bash", "-s"], input=text, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[0] == "SET statement_timeout = 0;"
    assert "NOT (indisready AND (indisvalid OR indexed.relkind = 'p'))" in done.stdout


def test_no_service_starts_after_a_power_cut_while_the_first_is_being_stopped(server: Server) -> None:
    kill(server, "stop puma", "managed")
    assert server.stands_still
