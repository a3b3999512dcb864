"""A GitLab stand-in with its registry, and clients that push and delete with the tokens that GitLab issues."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gitlab
import httpx

from tests.sandbox_tests.support.gitlab_instance import Instance, running
from tests.sandbox_tests.support.registry_service import Client, Registry, folder

Login = tuple[str, str]


@dataclass(frozen=True)
class Place:
    """A GitLab, and the URL of its registry."""

    instance: Instance
    registry: str

    def project(self, **more: Any) -> Any:
        """A new project of the administrator."""
        name = f"p{secrets.token_hex(4)}"
        return self.instance.client().projects.create({"name": name, "initialize_with_readme": True, **more})

    def member(self, project: Any, level: int) -> tuple[int, gitlab.Gitlab, Login]:
        """A new member of a project: the ID, an API client, and what they log in to the registry with."""
        user_id, client = self.instance.new_user()
        project.members.create({"user_id": user_id, "access_level": level})
        return user_id, client, ("any", str(client.private_token))

    def answer(self, login: Login, *scopes: str) -> httpx.Response:
        """What GitLab answers to a request for a token."""
        query = {"service": "container_registry", "scope": list(scopes)}
        return httpx.get(f"{self.instance.url}/jwt/auth", params=query, auth=login)

    @contextmanager
    def client(self, login: Login, repository: str, actions: str = "pull,push,delete") -> Iterator[Client]:
        """A client of a repository with the token that GitLab issues for these actions."""
        token = self.answer(login, f"repository:{repository}:{actions}").raise_for_status().json()["token"]
        with Client(self.registry, repository) as found:
            found.http.headers["authorization"] = f"Bearer {token}"
            yield found


@contextmanager
def gitlab_with_registry(directory: Path, *, database: bool = True) -> Iterator[Place]:
    """Serve both until the end of the block."""
    for name in ("registry", "gitlab"):
        (directory / name).mkdir()
    registry = Registry(directory / "registry", folder(directory / "registry").options)
    with registry.serving(database) as client, running(directory / "gitlab", client.url) as instance:
        yield Place(instance, client.url)
