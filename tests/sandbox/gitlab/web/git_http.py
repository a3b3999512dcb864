"""Git over HTTPS: the smart protocol, for clone, fetch and push.

`git` implements the protocol; this module checks access and installs the hooks that guard protected refs. The dumb
protocol is not supported.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import zlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from .core import access, commits, db, projects, protection, repositories, settings
from .core.config import Config
from .core.credentials import (
    CODE,
    DENIED,
    READ_CODE,
    WRITE_CODE,
    Credential,
    basic,
    credential_of,
    git_by_password,
    rights,
)
from .core.events import NO_COMMIT, Push, push_accepted

HOOKS = Path(__file__).parent / "hooks"
UPLOAD, RECEIVE = "git-upload-pack", "git-receive-pack"
SERVICES = (UPLOAD, RECEIVE)
NO_CACHE = {"Cache-Control": "no-cache, max-age=0, must-revalidate", "Pragma": "no-cache"}
NOT_THERE = "The project you were looking for could not be found or you don't have permission to view it."
BRANCH_PUSH = "You are not allowed to push code to protected branches on this project."
BRANCH_CREATE = "You are not allowed to create protected branches on this project."
BRANCH_FORCE = "You are not allowed to force push code to a protected branch on this project."
BRANCH_DELETE = (
    "You are not allowed to delete protected branches from this project. Only a project maintainer or owner can delete "
    "a protected branch."
)
BRANCH_DELETE_BY_GIT = "You can only delete protected branches using the web interface."
DEFAULT_DELETE = "The default branch of a project cannot be deleted."
TAG_CREATE = "You are not allowed to create this tag as it is protected."
TAG_UPDATE = "Protected tags cannot be updated."
TAG_DELETE = "You can only delete protected tags using the web interface."
OTHER_REF = "You can only push branches and tags."
LARGEST_HEAD = 1 << 20


class RefusedError(Exception):
    """An answer that ends the conversation with `git`."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status, self.words = status, words

    def response(self) -> Response:
        """As the client of git shows it."""
        headers = {"WWW-Authenticate": 'Basic realm="GitLab"'} if self.status == 401 else {}
        return PlainTextResponse(self.words, self.status, headers=headers)


@dataclass(frozen=True)
class Admitted:
    """Somebody who may do with a project what they asked for."""

    credential: Credential
    project: db.Row
    level: int
    admin: bool


def admit(config: Config, path: str, given: tuple[str, str] | None, service: str) -> Admitted:
    """Let somebody in, or refuse in the words that `git` shows them."""
    with db.connect(config.database) as connection:
        credential = credential_of(connection, config, given)
        if credential is None or (credential.known and not credential.abilities & CODE):
            raise RefusedError(401, DENIED)
        if credential.kind == "gitlab_or_ldap" and not git_by_password(connection):
            raise RefusedError(401, DENIED)
        project = projects.find_by_path(connection, path)
        may = rights(connection, credential, project) if project is not None else frozenset()
        if project is None or READ_CODE not in may:
            raise RefusedError(404, NOT_THERE) if credential.known else RefusedError(401, DENIED)
        if service == RECEIVE and not credential.known:
            raise RefusedError(401, DENIED)
        if service == RECEIVE and WRITE_CODE not in may:
            raise RefusedError(403, _why_not_push(credential))
        level = access.project_level(connection, credential.who, project) if credential.who else access.DEVELOPER
        repositories.ensure(config, project["id"], project["default_branch"] or "main")
        return Admitted(credential, project, level, bool(credential.who and credential.who.admin))


def _why_not_push(credential: Credential) -> str:
    if WRITE_CODE not in credential.abilities or credential.job is not None:
        return "You are not allowed to upload code."
    return "You are not allowed to push code to this project."


async def advertise(request: Request) -> Response:
    """`info/refs`: what there is."""
    config: Config = request.app.state.config
    service = request.query_params.get("service", "")
    if service not in SERVICES:
        return PlainTextResponse("dumb protocol is not served", 403)
    try:
        admitted = await run_in_threadpool(admit, config, _path(request), basic(request), service)
    except RefusedError as refusal:
        return refusal.response()
    command = _command(config, admitted.project["id"], service, "--advertise-refs")
    ran = await run_in_threadpool(subprocess.run, command, capture_output=True, check=True, env=_environment(request))
    head = f"# service={service}\n"
    body = f"{len(head) + 4:04x}{head}0000".encode() + ran.stdout
    return Response(body, media_type=f"application/x-{service}-advertisement", headers=NO_CACHE)


async def short(request: Request) -> Response:
    """An address without `.git`: to the one with it."""
    config: Config = request.app.state.config
    return RedirectResponse(f"{config.external_url}/{_path(request)}.git/info/refs?{request.url.query}", 301)


async def upload_pack(request: Request) -> Response:
    """Clone and fetch."""
    config: Config = request.app.state.config
    try:
        admitted = await run_in_threadpool(admit, config, _path(request), basic(request), UPLOAD)
    except RefusedError as refusal:
        return refusal.response()
    with tempfile.TemporaryFile() as asked:
        async for part in _body(request):
            asked.write(part)
        asked.seek(0)
        command = _command(config, admitted.project["id"], UPLOAD)
        process = await run_in_threadpool(
            subprocess.Popen[bytes], command, stdin=asked, stdout=subprocess.PIPE, env=_environment(request)
        )
    return StreamingResponse(_answers(process), media_type="application/x-git-upload-pack-result", headers=NO_CACHE)


async def receive_pack(request: Request) -> Response:
    """Push: checked by the hook before anything changes, reported afterwards."""
    config: Config = request.app.state.config
    try:
        admitted = await run_in_threadpool(admit, config, _path(request), basic(request), RECEIVE)
    except RefusedError as refusal:
        return refusal.response()
    with tempfile.TemporaryDirectory(prefix="push-") as scratch, tempfile.TemporaryFile() as pack:
        async for part in _body(request):
            pack.write(part)
        pack.seek(0)
        refs = commands(pack.read(LARGEST_HEAD))
        pack.seek(0)
        told = Path(scratch) / "accepted"
        environment = _environment(request) | {
            "GITLAB_PUSH_RULES": json.dumps(await run_in_threadpool(rules, config, admitted, refs)),
            "GITLAB_PUSH_RESULT": str(told),
        }
        command = _command(
            config, admitted.project["id"], RECEIVE, largest=await run_in_threadpool(largest_push, config)
        )
        ran = await run_in_threadpool(
            subprocess.run, command, stdin=pack, stdout=subprocess.PIPE, check=False, env=environment
        )
        if told.exists():
            await run_in_threadpool(accept, config, admitted, told.read_text())
    return Response(ran.stdout, media_type="application/x-git-receive-pack-result", headers=NO_CACHE)


def commands(head: bytes) -> list[str]:
    """The refs that a push wants to move, from its beginning in pkt-lines."""
    found, position = [], 0
    while len(head) >= position + 4:
        length = int(head[position : position + 4], 16)
        if length < 4:
            break
        line = head[position + 4 : position + length].partition(b"\0")[0].decode(errors="replace")
        words = line.strip().split(" ", 2)
        if len(words) == 3:
            found.append(words[2])
        position += length
    return found


def rules(config: Config, admitted: Admitted, refs: list[str]) -> dict[str, Any]:
    """The input of the hook: for each ref of a push the reason to refuse it, or nothing."""
    with db.connect(config.database) as connection:
        return {"refs": {ref: _rules_of(connection, admitted, ref) for ref in refs}}


def _rules_of(connection: db.Connection, admitted: Admitted, ref: str) -> dict[str, str | None]:
    project, level, admin = admitted.project, admitted.level, admitted.admin
    if ref.startswith(repositories.TAGS):
        tag = ref.removeprefix(repositories.TAGS)
        fixed = bool(protection.tag_rules(connection, project["id"], tag))
        may = protection.may_make_tag(connection, project, level, admin, tag)
        return {
            "create": None if may else TAG_CREATE,
            "update": TAG_UPDATE if fixed else None,
            "force": None,
            "delete": TAG_DELETE if fixed else None,
        }
    if not ref.startswith(repositories.BRANCHES):
        return dict.fromkeys(("create", "update", "force", "delete"), OTHER_REF)
    branch = ref.removeprefix(repositories.BRANCHES)
    fixed = bool(protection.branch_rules(connection, project["id"], branch))
    may = protection.may_push(connection, project, level, admin, branch)
    delete = BRANCH_DELETE_BY_GIT if level >= access.MAINTAINER else BRANCH_DELETE
    if branch == (project["default_branch"] or "main"):
        delete, fixed = DEFAULT_DELETE, True
    create = None if may else BRANCH_CREATE
    if commits.HEXADECIMAL.fullmatch(branch):
        create = commits.HEXADECIMAL_REFUSED
    return {
        "create": create,
        "update": None if may else BRANCH_PUSH,
        "force": None if protection.may_force(connection, project["id"], branch) else BRANCH_FORCE,
        "delete": delete if fixed else None,
    }


def accept(config: Config, admitted: Admitted, told: str) -> None:
    """Tell of the refs that have moved.

    Pipelines must not start each other: that a job has pushed is told. Not told is a deploy token whose maker is gone.
    """
    lines = told.splitlines()
    options = tuple(line.removeprefix("option ") for line in lines if line.startswith("option "))
    credential, project = admitted.credential, admitted.project
    person = credential.who.user["id"] if credential.who else None
    user_id: int | None = credential.deploy_token["creator_id"] if credential.deploy_token is not None else person
    with db.connect(config.database) as connection:
        for line in lines:
            if line.startswith("option "):
                continue
            before, after, ref = line.split(" ", 2)
            if before == NO_COMMIT and ref.startswith(repositories.BRANCHES):
                branch = ref.removeprefix(repositories.BRANCHES)
                protection.settle_first_push(connection, config, project, branch)
            if user_id is not None:
                by_job = credential.job is not None
                push_accepted(connection, config, Push(project["id"], ref, before, after, user_id, options, by_job))


def _path(request: Request) -> str:
    return str(request.path_params["path"])


def largest_push(config: Config) -> int:
    """How many bytes a push may have, 0 without a limit (`API::Internal::Base`, `git_config_options`)."""
    with db.connect(config.database) as connection:
        return int(settings.read(connection)["receive_max_input_size"] or 0) * 2**20


def _command(config: Config, project_id: int, service: str, *arguments: str, largest: int = 0) -> list[str]:
    options = ["-c", f"core.hooksPath={HOOKS}", "-c", "receive.advertisePushOptions=true"]
    options += ["-c", f"receive.maxInputSize={largest}"] if largest else []
    name = service.removeprefix("git-")
    path = str(repositories.directory(config, project_id))
    return ["/usr/bin/git", *options, name, "--stateless-rpc", *arguments, path]


def _environment(request: Request) -> dict[str, str]:
    version = request.headers.get("git-protocol", "")
    return repositories.ENVIRONMENT | ({"GIT_PROTOCOL": version} if version else {})


async def _body(request: Request) -> AsyncIterator[bytes]:
    """The body, unpacked when it came packed."""
    if request.headers.get("content-encoding", "") not in ("gzip", "x-gzip"):
        async for part in request.stream():
            yield part
        return
    inflate = zlib.decompressobj(zlib.MAX_WBITS | 16)
    async for part in request.stream():
        yield inflate.decompress(part)
    yield inflate.flush()


def _answers(process: subprocess.Popen[bytes]) -> Iterator[bytes]:
    """What `git` says, as it says it. When the client is gone, its pipe breaks, and it ends."""
    with process as running:
        if running.stdout is None:
            raise ValueError("no pipe")
        while part := running.stdout.read(1 << 16):
            yield part


routes = [
    Route("/{path:path}.git/info/refs", advertise, methods=["GET"]),
    Route("/{path:path}.git/git-upload-pack", upload_pack, methods=["POST"]),
    Route("/{path:path}.git/git-receive-pack", receive_pack, methods=["POST"]),
    Route("/{path:path}/info/refs", short, methods=["GET"]),
]
