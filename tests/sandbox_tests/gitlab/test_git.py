"""Git over HTTP with the GitLab stand-in, driven by the real `git` on loopback."""

from __future__ import annotations

import secrets
import subprocess
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import gitlab
import pytest

from tests.moments import clock_variables
from tests.sandbox.gitlab.web.core.events import NO_COMMIT, Push
from tests.sandbox_tests.support.gitlab_instance import PASSWORD, Instance

OTHER = "pQ4-wmd-Ksj-19"


@pytest.fixture(scope="module")
def shared_instance(shared_instance: Instance) -> Instance:
    """With two users who are no administrators."""
    for name in ("dev", "alien"):
        shared_instance.new_user(name, password=OTHER)
    return shared_instance


@dataclass
class Workshop:
    """A project, and clones of it."""

    instance: Instance
    project: gitlab.v4.objects.Project
    directory: Path

    def url(self, login: str = "root", password: str = PASSWORD) -> str:
        scheme, _, rest = self.instance.url.partition("://")
        user = f"{quote(login, safe='')}:{quote(password, safe='')}@" if login else ""
        return f"{scheme}://{user}{rest}/{self.project.path_with_namespace}.git"

    def clone(self, name: str, login: str = "root", password: str = PASSWORD) -> subprocess.CompletedProcess[str]:
        return git(self.directory, "clone", "-q", self.url(login, password), name)

    def change(self, name: str, file: str, text: str) -> None:
        (self.directory / name / file).write_text(text)
        git(self.directory / name, "add", "-A", check=True)
        git(self.directory / name, "commit", "-qm", f"change {file}", check=True)

    def push(self, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return git(self.directory / name, "push", *(arguments or ("origin", "HEAD")))

    def member(self, level: int) -> None:
        identity = self.project.manager.gitlab.users.list(username="dev", get_all=True)[0].id
        self.project.members.create({"user_id": identity, "access_level": level})


def git(directory: Path, *arguments: str, check: bool = False) -> subprocess.CompletedProcess[str]:
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(directory),
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_CONFIG_NOSYSTEM": "1",
        **clock_variables(),
        **{f"GIT_{who}_{what}": "x@example.com" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
    }
    return subprocess.run(
        ["git", *arguments], cwd=directory, env=environment, capture_output=True, text=True, check=check
    )


@pytest.fixture
def workshop(instance: Instance, client: gitlab.Gitlab, tmp_path: Path) -> Workshop:
    name = f"demo-{secrets.token_hex(4)}"
    project = client.projects.create({"name": name, "path": name, "initialize_with_readme": True})
    return Workshop(instance, project, tmp_path)


def test_a_clone_has_what_the_api_made_and_a_push_shows_in_the_api(workshop: Workshop, pushes: list[Push]) -> None:
    assert workshop.clone("here").returncode == 0
    assert (workshop.directory / "here/README.md").read_text().startswith("# ")
    workshop.change("here", "app.js", "1\n")
    pushed = workshop.push("here")
    assert pushed.returncode == 0, pushed.stderr
    assert workshop.project.files.raw("app.js", ref="main") == b"1\n"
    head = git(workshop.directory / "here", "rev-parse", "HEAD").stdout.strip()
    assert [(push.ref, push.after, push.user_id) for push in pushes] == [("refs/heads/main", head, 1)]
    assert pushes[0].before == git(workshop.directory / "here", "rev-parse", "HEAD^").stdout.strip()


def test_a_first_push_into_an_empty_project_creates_and_protects_its_default_branch(workshop: Workshop) -> None:
    client = workshop.project.manager.gitlab
    workshop.project = client.projects.create({"name": "empty"})
    assert workshop.project.empty_repo
    workshop.clone("here")
    git(workshop.directory / "here", "checkout", "-qb", "trunk", check=True)
    workshop.change("here", "a", "1")
    assert workshop.push("here", "origin", "trunk").returncode == 0
    project = client.projects.get(workshop.project.id)
    assert (project.default_branch, project.empty_repo) == ("trunk", False)
    assert [rule.name for rule in project.protectedbranches.list(get_all=True)] == ["trunk"]


@pytest.mark.parametrize(
    ("login", "password", "words"),
    [
        ("", "", "could not read Username"),
        ("root", "wrong", "HTTP Basic: Access denied"),
        ("gitlab-ci-token", "glcbt-wrong", "HTTP Basic: Access denied"),
        ("alien", OTHER, "The project you were looking for could not be found"),
    ],
)
def test_a_private_project_is_closed(workshop: Workshop, login: str, password: str, words: str) -> None:
    refused = workshop.clone("here", login, password)
    assert refused.returncode != 0
    assert words in refused.stderr
    assert not (workshop.directory / "here/README.md").exists()


def test_a_public_project_is_read_by_everybody_and_written_by_members(workshop: Workshop) -> None:
    workshop.project.visibility = "public"
    workshop.project.save()
    assert workshop.clone("here", "").returncode == 0
    workshop.change("here", "a", "1")
    assert "could not read Username" in workshop.push("here").stderr
    refused = workshop.push("here", workshop.url("alien", OTHER), "HEAD:refs/heads/other")
    assert "You are not allowed to push code to this project." in refused.stderr
    assert [branch.name for branch in workshop.project.branches.list(get_all=True)] == ["main"]


def test_a_url_without_the_git_suffix_works_as_well(workshop: Workshop) -> None:
    workshop.project.visibility = "public"
    workshop.project.save()
    assert git(workshop.directory, "clone", "-q", workshop.url("").removesuffix(".git"), "here").returncode == 0


@pytest.mark.parametrize(
    ("scopes", "reads", "writes"),
    [
        (["api"], True, True),
        (["write_repository"], True, True),
        (["read_repository"], True, False),
        (["read_api"], False, False),
        (["read_registry"], False, False),
    ],
)
def test_a_personal_token_can_do_what_its_scopes_allow(
    workshop: Workshop, scopes: list[str], reads: bool, writes: bool
) -> None:
    token = workshop.instance.new_token(scopes)
    assert (workshop.clone("token", "any", token).returncode == 0) is reads
    workshop.clone("here")
    workshop.change("here", "a", "1")
    pushed = workshop.push("here", workshop.url("any", token), "HEAD:main")
    assert (pushed.returncode == 0) is writes, pushed.stderr
    if reads and not writes:
        assert "You are not allowed to upload code." in pushed.stderr


def test_a_deploy_token_reads_only_its_own_project_and_only_with_the_right_scope(workshop: Workshop) -> None:
    reader = workshop.project.deploytokens.create({"name": "m", "scopes": ["read_repository"], "username": "machine"})
    images = workshop.project.deploytokens.create({"name": "i", "scopes": ["read_registry"]})
    assert workshop.clone("one", "machine", reader.token).returncode == 0
    assert workshop.clone("two", images.username, images.token).returncode != 0
    assert workshop.clone("three", "other", reader.token).returncode != 0
    workshop.change("one", "a", "1")
    assert "You are not allowed to upload code." in workshop.push("one").stderr
    workshop.project = workshop.project.manager.gitlab.projects.create({"name": "other-of-deploy-token"})
    assert "could not be found" in workshop.clone("four", "machine", reader.token).stderr


def test_a_developer_pushes_branches_and_not_the_protected_one(workshop: Workshop, pushes: list[Push]) -> None:
    workshop.member(30)
    workshop.clone("here", "dev", OTHER)
    workshop.change("here", "a", "1")
    refused = workshop.push("here")
    assert refused.returncode != 0
    assert "GitLab: You are not allowed to push code to protected branches on this project." in refused.stderr
    assert "pre-receive hook declined" in refused.stderr
    assert pushes == []
    assert workshop.push("here", "origin", "HEAD:feature").returncode == 0
    assert [(push.ref, push.before) for push in pushes] == [("refs/heads/feature", NO_COMMIT)]
    assert workshop.push("here", "origin", ":feature").returncode == 0
    assert pushes[-1].removed


def test_a_reporter_reads_and_does_not_write(workshop: Workshop) -> None:
    workshop.member(20)
    workshop.clone("here", "dev", OTHER)
    workshop.change("here", "a", "1")
    assert "You are not allowed to push code to this project." in workshop.push("here", "origin", "HEAD:x").stderr


def test_a_protected_branch_is_not_force_pushed_unless_allowed(workshop: Workshop) -> None:
    workshop.clone("here")
    workshop.change("here", "a", "1")
    workshop.push("here")
    git(workshop.directory / "here", "commit", "-q", "--amend", "-m", "other", check=True)
    refused = workshop.push("here", "--force", "origin", "HEAD")
    assert "You are not allowed to force push code to a protected branch" in refused.stderr
    rule = workshop.project.protectedbranches.get("main")
    workshop.project.protectedbranches.update(rule.name, {"allow_force_push": True})
    assert workshop.push("here", "--force", "origin", "HEAD").returncode == 0


def test_git_cannot_delete_the_default_branch_or_protected_ones(workshop: Workshop) -> None:
    workshop.clone("here")
    assert "The default branch of a project cannot be deleted." in workshop.push("here", "origin", ":main").stderr
    workshop.push("here", "origin", "HEAD:release/1")
    workshop.project.protectedbranches.create({"name": "release/*", "push_access_level": 0})
    refused = workshop.push("here", "origin", ":release/1").stderr
    assert "You can only delete protected branches using the web interface." in refused
    workshop.change("here", "a", "1")
    assert "You are not allowed to push code to protected" in workshop.push("here", "origin", "HEAD:release/1").stderr
    assert "You are not allowed to create protected" in workshop.push("here", "origin", "HEAD:release/2").stderr


def test_protected_tags_are_created_by_permitted_users_and_cannot_be_changed(workshop: Workshop) -> None:
    workshop.member(30)
    workshop.project.protectedtags.create({"name": "v*", "create_access_level": 40})
    workshop.clone("here", "dev", OTHER)
    git(workshop.directory / "here", "tag", "v1", check=True)
    git(workshop.directory / "here", "tag", "-am", "x", "free", check=True)
    assert workshop.push("here", "origin", "free").returncode == 0
    assert "You are not allowed to create this tag" in workshop.push("here", "origin", "v1").stderr
    assert workshop.push("here", workshop.url(), "v1").returncode == 0
    assert "You can only delete protected tags" in workshop.push("here", workshop.url(), ":v1").stderr
    assert sorted(tag.name for tag in workshop.project.tags.list(get_all=True)) == ["free", "v1"]


def test_one_refused_ref_refuses_the_whole_push(workshop: Workshop, pushes: list[Push]) -> None:
    workshop.member(30)
    workshop.clone("here", "dev", OTHER)
    workshop.change("here", "a", "1")
    assert workshop.push("here", "origin", "HEAD:main", "HEAD:other").returncode != 0
    assert [branch.name for branch in workshop.project.branches.list(get_all=True)] == ["main"]
    assert pushes == []


def test_push_options_are_passed_on(workshop: Workshop, pushes: list[Push]) -> None:
    workshop.clone("here")
    workshop.change("here", "a", "1")
    pushed = workshop.push("here", "-o", "ci.skip", "-o", "ci.variable=A=$(id) b", "origin", "HEAD")
    assert pushed.returncode == 0, pushed.stderr
    assert pushes[0].options == ("ci.skip", "ci.variable=A=$(id) b")


def test_a_large_push_and_a_shallow_fetch_work(workshop: Workshop) -> None:
    workshop.clone("here")
    for number in range(3):
        (workshop.directory / "here" / f"blob{number}").write_bytes(bytes(range(256)) * 20_000)
        workshop.change("here", "n", str(number))
    assert workshop.push("here").returncode == 0
    cloned = git(workshop.directory, "clone", "-q", "--depth", "1", workshop.url(), "shallow")
    assert cloned.returncode == 0, cloned.stderr
    assert git(workshop.directory / "shallow", "rev-list", "--count", "HEAD").stdout.strip() == "1"
    assert (workshop.directory / "shallow/blob2").stat().st_size == 256 * 20_000


def test_an_archived_project_is_read_only(workshop: Workshop) -> None:
    workshop.clone("here")
    workshop.project.archive()
    workshop.change("here", "a", "1")
    assert "You are not allowed to push code to this project." in workshop.push("here").stderr
    assert workshop.clone("again").returncode == 0
    workshop.project.unarchive()
    assert workshop.push("here").returncode == 0


def test_a_removed_project_loses_its_repository(workshop: Workshop) -> None:
    repositories = workshop.instance.config.git_data / "repositories"
    before = set(repositories.rglob("HEAD"))
    path = workshop.project.path_with_namespace
    workshop.project.delete()
    marked = f"{path}-deletion_scheduled-{workshop.project.id}"
    workshop.project.manager.gitlab.http_delete(
        f"/projects/{workshop.project.id}", query_data={"permanently_remove": True, "full_path": marked}
    )
    after = set(repositories.rglob("HEAD"))
    assert after < before
    assert len(before - after) == 1
    assert "could not be found" in workshop.clone("here").stderr
