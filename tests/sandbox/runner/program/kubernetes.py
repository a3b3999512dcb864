"""The kubernetes executor: the pod of one job. The runner itself is a pod of the same cluster."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from kubernetes.stream import stream
from urllib3.exceptions import HTTPError
from websocket import WebSocketException

from .archives import ArchiveError
from .executor import PodError
from .files import Work
from .helper import REASON
from .images import ImageError, credentials_of
from .payload import Variables
from .pods import BUILD, HELPER, PodPlan, check
from .remote_caches import addresses, in_bucket
from .script import DETECT_SHELL
from .sources import SourcesError

POLL_INTERVAL, POLL_TIMEOUT = 3.0, 180.0
#: How often the pod is looked at while a script runs in it.
WATCH_EVERY = 2.0
PULL_FAILURES = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ImageInspectError", "ErrImageNeverPull")
#: The script comes in standard input, whose end no client of this protocol can signal: its length is known.
RECEIVE = 'head -c "$1" >"$2" && exec sh -c "$3" "$2" </dev/null'
NOT_FOUND = 404


class KubernetesExecutor:
    """One job's pod; a context that deletes it."""

    def __init__(self, work: Work, slot: int, stop: threading.Event) -> None:
        self._work, self._slot, self._stop = work, slot, stop
        self._settings = work.runner.get("kubernetes", {})
        self._namespace = str(self._settings.get("namespace") or "default")
        self._plan: PodPlan | None = None
        self._pod = ""
        self._secret = ""

    def __enter__(self) -> KubernetesExecutor:
        try:
            config.load_incluster_config()  # type: ignore[no-untyped-call]
        except config.ConfigException as error:
            raise PodError(f"getting Kubernetes config: {error}") from None
        # What the library says of types depends on its version: on machines it is the distribution's.
        self._api: Any = client.CoreV1Api()
        self._policies: Any = client.PolicyV1Api()
        return self

    def __exit__(self, *_: object) -> None:
        for name, delete in (
            (self._pod, self._api.delete_namespaced_pod),
            (self._secret, self._api.delete_namespaced_secret),
        ):
            if not name:
                continue
            try:
                delete(name, self._namespace, grace_period_seconds=self._settings.get("cleanup_grace_period_seconds"))
            except ApiException as error:
                if error.status != NOT_FOUND:
                    self._work.say(f"WARNING: cleaning up: {_reason(error)}")
            except HTTPError as error:
                self._work.say(f"WARNING: cleaning up: {error}")

    def prepare(self, variables: Variables, files: str) -> None:
        """Create the pod. `ImageError` when the settings forbid what the job asks for."""
        check(self._settings)
        work, say = self._work, self._work.say
        say(f"Using Kubernetes namespace: {self._namespace}")
        image = work.payload.image(variables, str(self._settings.get("image", "")))
        say(f"Using Kubernetes executor with image {image.name} ...")
        say("Using attach strategy to execute scripts...")
        plan = PodPlan(work.runner, work.payload, variables, files, self._slot, self._credentials(variables))
        try:
            made = self._api.create_namespaced_pod(self._namespace, plan.manifest())
        except ApiException as error:
            raise PodError(f"setting up build pod: {_reason(error)}") from None
        self._plan, self._pod = plan, str(made.metadata.name)
        budget = plan.budget(self._pod, str(made.metadata.uid))
        if budget is None:
            return
        try:
            self._policies.create_namespaced_pod_disruption_budget(self._namespace, budget)
        except ApiException as error:
            raise PodError(f"setting up build pod: error creating PodDisruptionBudget: {_reason(error)}") from None

    def start(self) -> str:
        """Wait until every container runs."""
        interval = float(self._settings.get("poll_interval") or POLL_INTERVAL)
        deadline = time.monotonic() + float(self._settings.get("poll_timeout") or POLL_TIMEOUT)
        while not self._stop.is_set():
            pod = self._look()
            statuses = pod.status.container_statuses or []
            if pod.status.phase == "Running" and statuses and all(one.ready for one in statuses):
                return f"{self._pod} via {os.uname().nodename}"
            if pod.status.phase in ("Failed", "Succeeded"):
                raise PodError(f"pod failed to enter running state: {pod.status.phase}")
            for one in statuses:
                waiting = one.state.waiting
                if waiting is not None and waiting.reason in PULL_FAILURES:
                    raise ImageError(f"image pull failed: {waiting.message}")
            if time.monotonic() > deadline:
                raise PodError(f"timed out waiting for pod to start (last phase: {pod.status.phase})")
            node = pod.spec.node_name or ""
            where = f"{self._namespace}/{self._pod}"
            self._work.say(f"Waiting for pod {where} to be running on the node {node}, status is {pod.status.phase}")
            self._stop.wait(interval)
        return self._pod

    def files(self) -> PodFiles:
        """They are in the pod."""
        return PodFiles(self, self._work, self._slot)

    def run(self, script: str, write: Callable[[bytes], None], stop: threading.Event) -> int:
        """Run a script in the build container; the pod is deleted when `stop` is set."""
        content = script.encode()
        path = f"{self.plan.scripts}/step_script"
        command = ["sh", "-c", RECEIVE, "sh", str(len(content)), path, DETECT_SHELL]
        return self.execute(BUILD, command, content, write, stop)

    @property
    def plan(self) -> PodPlan:
        """What the pod was made of, once it is there."""
        if self._plan is None:
            raise PodError("there is no pod yet")
        return self._plan

    def execute(
        self, container: str, command: Sequence[str], sent: bytes, write: Callable[[bytes], None], stop: threading.Event
    ) -> int:
        """Run a command in a container. `PodError` when the pod goes away meanwhile."""
        # The library changes the client that it streams with.
        api: Any = client.CoreV1Api(client.ApiClient())
        try:
            session = stream(
                api.connect_get_namespaced_pod_exec,
                self._pod,
                self._namespace,
                container=container,
                command=list(command),
                stdin=True,
                stdout=True,
                stderr=True,
                tty=False,
                binary=True,
                _preload_content=False,
            )
        except ApiException as error:
            self._look()
            raise PodError(f"error dialing backend: {_reason(error)}") from None
        code = None
        with contextlib.closing(session), contextlib.suppress(WebSocketException, OSError):
            session.write_stdin(sent)
            self._follow(session, write, stop)
            code = session.returncode
        if code is None:
            self._look()
            raise PodError(f"the connection to pod {self._namespace}/{self._pod} was lost")
        return int(code)

    def _follow(self, session: Any, write: Callable[[bytes], None], stop: threading.Event) -> None:
        looked = time.monotonic()
        while session.is_open():
            session.update(timeout=0.2)
            for piece in (session.read_stdout(timeout=0), session.read_stderr(timeout=0)):
                if piece:
                    write(piece)
            if stop.is_set():
                self._delete_now()
                raise PodError("aborted")
            if time.monotonic() - looked > WATCH_EVERY:
                self._look()
                looked = time.monotonic()
        for piece in (session.read_stdout(timeout=0), session.read_stderr(timeout=0)):
            if piece:
                write(piece)

    def _delete_now(self) -> None:
        with contextlib.suppress(ApiException):
            self._api.delete_namespaced_pod(self._pod, self._namespace, grace_period_seconds=0)

    def _look(self) -> Any:
        """The pod. `PodError`, in the words of the real program, when it ends before its time."""
        name = f"{self._namespace}/{self._pod}"
        try:
            pod = self._api.read_namespaced_pod(self._pod, self._namespace)
        except ApiException as error:
            if error.status == NOT_FOUND:
                raise PodError(f'pod "{name}" is deleted') from None
            raise PodError(f"getting pod {name}: {_reason(error)}") from None
        except HTTPError as error:
            raise PodError(f"getting pod {name}: {error}") from None
        for one in pod.status.conditions or []:
            if one.type == "DisruptionTarget" and one.status == "True":
                raise PodError(f'pod "{name}" is disrupted: reason "{one.reason}", message "{one.message}"')
        if pod.metadata.deletion_timestamp is not None:
            raise PodError(f'pod "{name}" is being deleted')
        return pod

    def _credentials(self, variables: Variables) -> str:
        """The name of the Secret with which the job's images are pulled; empty without credentials."""
        found = credentials_of(self._work.payload, variables)
        if not found:
            return ""
        auths = {
            host: {"auth": base64.b64encode(f"{one['username']}:{one['password']}".encode()).decode()}
            for host, one in found.items()
        }
        body = {
            "metadata": {"generateName": f"runner-project-{self._work.payload.project_id}-"},
            "type": "kubernetes.io/dockerconfigjson",
            "stringData": {".dockerconfigjson": json.dumps({"auths": auths})},
        }
        try:
            self._secret = str(self._api.create_namespaced_secret(self._namespace, body).metadata.name)
        except ApiException as error:
            raise PodError(f"setting up credentials: {_reason(error)}") from None
        return self._secret


class PodFiles:
    """A job's files, handled by the helper container of its pod. Caches are kept in a bucket, or not at all."""

    def __init__(self, executor: KubernetesExecutor, work: Work, slot: int) -> None:
        self._executor, self._work, self._slot = executor, work, slot

    @property
    def has_caches(self) -> bool:
        """Whether there is a bucket."""
        return bool(in_bucket(self._work.runner))

    def get_sources(self) -> None:
        """Clone in the helper container."""
        self._ask("get_sources", SourcesError)

    def restore_caches(self) -> None:
        """From the bucket, in the helper container; without it a job is slower, and no worse."""
        self._keep("restore_caches")

    def download_artifacts(self) -> None:
        """From the server, in the helper container."""
        self._ask("download_artifacts", ArchiveError)

    def save_caches(self, *, success: bool) -> None:
        """To the bucket, from the helper container."""
        self._keep("save_caches", success=success)

    def upload_artifacts(self, *, success: bool) -> None:
        """To the server, from the helper container."""
        self._ask("upload_artifacts", ArchiveError, success=success)

    def clean_up(self) -> None:
        """The pod goes, and its files with it."""

    def _keep(self, action: str, *, success: bool = True) -> None:
        try:
            self._ask(action, ArchiveError, success=success)
        except ArchiveError as error:
            self._work.say(f"WARNING: {error}")

    def _ask(self, action: str, failure: type[Exception], *, success: bool = True) -> None:
        work, certificate = self._work, self._work.coordinator.tls_ca_file
        known = ("url", "token", "name", "executor", "environment", "builds_dir")
        asked = {
            "action": action,
            "runner": {key: value for key, value in work.runner.items() if key in known},
            "certificate": Path(certificate).read_text() if certificate else "",
            "payload": work.payload.body,
            "builds": self._executor.plan.builds,
            "slot": self._slot,
            "system_id": work.coordinator.system_id,
            "success": success,
            # The helper gets addresses, and not the key.
            "caches": addresses(work.runner, work.payload, work.variables) if action.endswith("_caches") else {},
        }
        sent = json.dumps(asked).encode()
        lines = _Lines(work.say)
        command = ["gitlab-runner-helper", str(len(sent))]
        code = self._executor.execute(HELPER, command, sent, lines.feed, threading.Event())
        lines.end()
        if code:
            raise failure(lines.reason or f"exit code {code}")


class _Lines:
    """Puts output together into lines for the log, and keeps the reason of a failure out of it."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say, self._rest, self.reason = say, b"", ""

    def feed(self, piece: bytes) -> None:
        *whole, self._rest = (self._rest + piece).split(b"\n")
        for line in whole:
            self._line(line.decode(errors="replace"))

    def end(self) -> None:
        if self._rest:
            self._line(self._rest.decode(errors="replace"))

    def _line(self, line: str) -> None:
        if line.startswith(REASON):
            self.reason = line.removeprefix(REASON)
        else:
            self._say(line)


def _reason(error: ApiException) -> str:
    """What the API server says."""
    try:
        return str(json.loads(str(error.body))["message"])
    except (TypeError, ValueError, KeyError):
        return f"{error.status} {error.reason}"
