"""Images: which ones are allowed, the credentials and the policy for pulling them."""

from __future__ import annotations

import base64
import fnmatch
import json
from collections.abc import Callable, Sequence
from typing import Any

import docker
import docker.auth
import docker.errors
from docker.utils import parse_repository_tag

from .configuration import Table
from .payload import Image, Payload, Variables

Say = Callable[[str], None]
POLICIES = ("always", "if-not-present", "never")
IMAGE_LABEL_PREFIX = "com.gitlab.gitlab-runner"


class ImageError(Exception):
    """An image cannot be used; the message says why."""


class PolicyError(ImageError):
    """A job asks for pull policies that this runner does not allow."""


def as_list(value: object) -> list[str]:
    """A setting that may be one text or several."""
    if isinstance(value, str):
        return [value] if value else []
    return [str(one) for one in value] if isinstance(value, Sequence) else []


def is_allowed(name: str, patterns: object, *more: str) -> bool:
    """Whether a name matches one of the patterns; without patterns everything does."""
    wanted = as_list(patterns)
    return not wanted or name in more or any(fnmatch.fnmatch(name, pattern.replace("**", "*")) for pattern in wanted)


class Images:
    """Images of one job on one engine."""

    def __init__(self, engine: docker.DockerClient, settings: Table, payload: Payload, variables: Variables) -> None:
        self._engine, self._settings = engine, settings
        self._used: dict[str, str] = {}
        self._credentials = credentials_of(payload, variables)

    def get(self, image: Image, say: Say) -> dict[str, Any]:
        """Have the image; answers what the engine knows of it.

        Raises:
            PolicyError: the job asks for policies of which this runner allows none.
            ImageError: the last policy failed.
        """
        policies = self._policies(image)
        say(f"Using effective pull policy of [{' '.join(policies)}] for container {image.name}")
        failure = ""
        for attempt, policy in enumerate(policies, 1):
            if attempt > 1:
                say(f'Attempt #{attempt}: Trying "{policy}" pull policy')
            try:
                found = self._by_policy(image.name, policy, say)
            except docker.errors.APIError as error:
                failure = str(error.explanation or error)
            except docker.errors.DockerException as error:
                failure = str(error)
            else:
                self._used[image.name] = str(found["Id"])
                digests = found.get("RepoDigests") or []
                digest = f" with digest {digests[0]} ..." if digests else " ..."
                say(f"Using docker image {found['Id']} for {image.name}{digest}")
                return found
            say(f'WARNING: Failed to pull image with policy "{policy}": {failure}')
        shown = " ".join(policies)
        raise ImageError(f'failed to pull image "{image.name}" with specified policies [{shown}]: {failure}')

    def _policies(self, image: Image) -> list[str]:
        """The job's policies, else the runner's, as far as the runner allows them."""
        configured = self._configured("pull_policy") or ["always"]
        wanted = list(image.pull_policies) or configured
        allowed = self._configured("allowed_pull_policies") or configured
        usable = [policy for policy in wanted if policy in allowed]
        if not usable:
            source = "GitLab pipeline config" if image.pull_policies else "Runner config"
            raise PolicyError(
                f'invalid pull policy for image "{image.name}": pull_policy ([{" ".join(wanted)}]) defined in {source} '
                f"is not one of the allowed_pull_policies ([{' '.join(allowed)}])"
            )
        return usable

    def _configured(self, key: str) -> list[str]:
        policies = as_list(self._settings.get(key))
        if unknown := [policy for policy in policies if policy not in POLICIES]:
            raise ImageError(f'unsupported {key} config: "{unknown[0]}"')
        return policies

    def _by_policy(self, name: str, policy: str, say: Say) -> dict[str, Any]:
        try:
            present: dict[str, Any] = self._engine.images.get(name).attrs
        except docker.errors.ImageNotFound:
            if policy == "never":
                raise
        else:
            # One that this job has just pulled is not pulled again.
            if policy == "never" or present["Id"] in (name, self._used.get(name)):
                return present
            if policy == "if-not-present":
                say(f'Using locally found image version due to "{policy}" pull policy')
                return present
        return self._pull(name, say)

    def _pull(self, name: str, say: Say) -> dict[str, Any]:
        repository, tag = parse_repository_tag(name)
        registry, _ = docker.auth.resolve_repository_name(repository)
        credentials = self._credentials.get(docker.auth.convert_to_hostname(registry))
        if credentials:
            say(f"Authenticating with credentials from {credentials['source']}")
        say(f"Pulling docker image {name} ...")
        login = {key: credentials[key] for key in ("username", "password")} if credentials else None
        answer = self._engine.api.pull(repository, tag=tag or "latest", auth_config=login, stream=True, decode=True)
        for line in answer:
            if "error" in line:
                raise docker.errors.DockerException(f"Error response from daemon: {line['error']}")
        pulled: dict[str, Any] = self._engine.images.get(name).attrs
        return pulled


def credentials_of(payload: Payload, variables: Variables) -> dict[str, dict[str, str]]:
    """Registry -> user and password: the job's own variable goes before the host's file, that before the job token."""
    found: dict[str, dict[str, str]] = {}
    for entry in payload.credentials:
        if entry.get("type") == "registry":
            host = docker.auth.convert_to_hostname(str(entry["url"]))
            found[host] = {
                "username": str(entry["username"]),
                "password": str(entry["password"]),
                "source": "job payload (GitLab Registry)",
            }
    for host, entry in docker.auth.load_config().auths.items() if docker.auth.load_config().auths else ():
        if entry.get("username"):
            found[docker.auth.convert_to_hostname(host)] = {
                "username": entry["username"],
                "password": entry["password"],
                "source": "/root/.docker/config.json",
            }
    try:
        own = json.loads(variables.get("DOCKER_AUTH_CONFIG") or "{}").get("auths", {})
        for host, entry in own.items():
            user, _, password = base64.b64decode(entry["auth"]).decode().partition(":")
            found[docker.auth.convert_to_hostname(host)] = {
                "username": user,
                "password": password,
                "source": "$DOCKER_AUTH_CONFIG",
            }
    except (ValueError, KeyError, AttributeError) as error:
        raise ImageError(f"DOCKER_AUTH_CONFIG cannot be read: {error!r}") from None
    return found
