"""A job as the server sends it, and its variables including those that the runner adds."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from . import version
from .configuration import Table, short_token

_REFERENCE = re.compile(r"\$(?:\$|(\w+)|\{(\w+)\})")
_MASKABLE = 1


@dataclass(frozen=True)
class Variable:
    """A variable of a job. `raw`: not expanded; `file`: the job sees the path of a file with the value."""

    key: str
    value: str
    masked: bool = False
    raw: bool = False
    file: bool = False
    public: bool = False


class Variables:
    """The variables of a job; a later one of the same name wins."""

    def __init__(self, variables: list[Variable]) -> None:
        self._all = {variable.key: variable for variable in variables}
        self._given = variables
        self._values = {key: self._value(variable) for key, variable in self._all.items()}

    def get(self, name: str, default: str = "") -> str:
        """The expanded value."""
        return self._values.get(name, default)

    def flag(self, name: str) -> bool:
        """Whether a variable says yes."""
        return self.get(name).lower() in ("1", "true", "t")

    def expand(self, text: str) -> str:
        """Replace `$NAME` and `${NAME}`; unknown names by nothing, `$$` by `$`."""
        return _REFERENCE.sub(lambda found: self._reference(found, 0), text)

    def environment(self, files: str) -> dict[str, str]:
        """For a container; those of kind `file` are below the folder `files`."""
        return {key: f"{files}/{key}" if self._all[key].file else value for key, value in self._values.items()}

    def public_environment(self) -> dict[str, str]:
        """For the container of a service: what the pipeline and the runner say, and nothing of the project's settings.

        A variable of the pipeline that the project replaces has its own value here.
        """
        return {variable.key: self._value(variable) for variable in self._given if variable.public}

    def file_values(self) -> dict[str, str]:
        """Name and content of those of kind `file`."""
        return {key: self._values[key] for key, variable in self._all.items() if variable.file}

    def masked(self) -> list[str]:
        """Values that a log must not show, longest first."""
        values = {self._values[key] for key, variable in self._all.items() if variable.masked}
        return sorted((value for value in values if len(value) >= _MASKABLE), key=len, reverse=True)

    def with_more(self, variables: list[Variable]) -> Variables:
        """The same and some more."""
        return Variables([*self._given, *variables])

    def _value(self, variable: Variable, depth: int = 0) -> str:
        if variable.raw or variable.file:
            return variable.value
        return _REFERENCE.sub(lambda found: self._reference(found, depth), variable.value)

    def _reference(self, found: re.Match[str], depth: int) -> str:
        name = found[1] or found[2]
        if not name:
            return "$"
        variable = self._all.get(name)
        if variable is None or depth > 10:
            return ""
        return self._value(variable, depth + 1)


@dataclass(frozen=True)
class Image:
    """An image that a job names, with all that it says about it."""

    name: str
    aliases: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] | None = None
    pull_policies: tuple[str, ...] = ()
    user: str = ""
    variables: tuple[Variable, ...] = ()


class Payload:
    """A job."""

    def __init__(self, body: dict[str, Any]) -> None:
        self.body = body
        self.id = int(body["id"])
        self.token = str(body["token"])
        self.git: dict[str, Any] = body.get("git_info") or {}
        self.steps: list[dict[str, Any]] = body.get("steps") or []
        self.cache: list[dict[str, Any]] = body.get("cache") or []
        self.artifacts: list[dict[str, Any]] = body.get("artifacts") or []
        self.dependencies: list[dict[str, Any]] = body.get("dependencies") or []
        self.credentials: list[dict[str, Any]] = body.get("credentials") or []
        self.features: dict[str, Any] = body.get("features") or {}
        self.timeout = int((body.get("runner_info") or {}).get("timeout") or 3600)
        information = body.get("job_info") or {}
        self.name = str(information.get("name", ""))
        self.project_id = int(information.get("project_id") or 0)
        self.project = str(
            information.get("project_full_path") or self._given("CI_PROJECT_PATH") or f"project-{self.project_id}"
        )

    @property
    def protected(self) -> bool:
        """Whether the job's volumes are those of protected refs: because of its ref, or of one of its caches.

        GitLab gives a maintainer's caches the suffix as well (`executors/docker/volume.go`).
        """
        said = self.git.get("protected")
        ref = self._given("CI_COMMIT_REF_PROTECTED") == "true" if said is None else bool(said)
        return ref or any(str(cache.get("key", "")).endswith("-protected") for cache in self.cache)

    def _given(self, name: str) -> str:
        return next((str(v.get("value", "")) for v in self.body.get("variables") or [] if v.get("key") == name), "")

    def variables(self, runner: Table, slot: int, builds: str, certificate: str) -> Variables:
        """All variables: what the runner says, then what the server says, then what depends on this runner."""
        project = f"{builds}/{self.project}"
        token = str(runner.get("token", ""))
        own = {
            "CI_BUILDS_DIR": builds,
            "CI_PROJECT_DIR": project,
            "CI_CONCURRENT_ID": str(slot),
            "CI_CONCURRENT_PROJECT_ID": str(slot),
            "CI_SERVER": "yes",
            "CI_RUNNER_SHORT_TOKEN": short_token(token),
            "CI_RUNNER_VERSION": version(),
            "CI_RUNNER_EXECUTABLE_ARCH": "linux/amd64",
            "CI_DISPOSABLE_ENVIRONMENT": "true",
            "CI_JOB_STATUS": "running",
            "CI_JOB_TIMEOUT": str(self.timeout),
        }
        settings = [str(line).partition("=") for line in runner.get("environment", [])]
        last = [Variable("CI_SERVER_TLS_CA_FILE", certificate, file=True)] if certificate else []
        return Variables(
            [
                *(Variable(name, value, public=True) for name, _, value in settings),
                *(_variable(v) for v in self.body.get("variables") or []),
                *(Variable(name, value, raw=True, public=True) for name, value in own.items()),
                *last,
            ]
        )

    def secrets(self, variables: Variables) -> list[str]:
        """What the log must not show, longest first."""
        passwords = [str(entry.get("password", "")) for entry in self.credentials]
        values = {*variables.masked(), self.token, *passwords} - {""}
        return sorted(values, key=len, reverse=True)

    def step(self, name: str) -> dict[str, Any] | None:
        """The step of that name."""
        return next((step for step in self.steps if step.get("name") == name), None)

    def image(self, variables: Variables, default: str) -> Image:
        """The image of the job itself."""
        return _image(self.body.get("image") or {}, variables, default)

    def services(self, variables: Variables) -> list[Image]:
        """The services of the job."""
        return [_image(service, variables, "") for service in self.body.get("services") or []]


def image_of_service(service: Table) -> Image:
    """A service that the runner's own configuration adds to every job."""
    return Image(
        name=str(service["name"]),
        aliases=tuple(str(service.get("alias", "")).replace(",", " ").split()),
        command=tuple(service.get("command", ())),
        entrypoint=tuple(service["entrypoint"]) if service.get("entrypoint") else None,
        variables=tuple(
            Variable(name, value) for name, _, value in (str(e).partition("=") for e in service.get("environment", ()))
        ),
    )


def _variable(given: dict[str, Any]) -> Variable:
    return Variable(
        key=str(given["key"]),
        value=str(given.get("value") if given.get("value") is not None else ""),
        masked=bool(given.get("masked")),
        raw=bool(given.get("raw")),
        file=bool(given.get("file")),
        public=bool(given.get("public")),
    )


def _image(given: dict[str, Any] | str, variables: Variables, default: str) -> Image:
    body: dict[str, Any] = {"name": given} if isinstance(given, str) else given
    own = [_variable(variable) for variable in body.get("variables") or []]
    entrypoint = body.get("entrypoint")
    docker = (body.get("executor_opts") or {}).get("docker") or {}
    return Image(
        name=variables.with_more(own).expand(str(body.get("name") or default)),
        aliases=tuple(str(body.get("alias") or "").replace(",", " ").split()),
        command=tuple(map(str, body.get("command") or ())),
        entrypoint=tuple(map(str, entrypoint)) if entrypoint else None,
        pull_policies=tuple(map(str, body.get("pull_policy") or ())),
        user=variables.expand(str(docker.get("user") or "")),
        variables=tuple(own),
    )
