"""The log of the manager of a runner on Kubernetes: it is asked of the cluster, so nobody needs kubectl.

DigitalOcean gives the credential, with the API token, each time; it is neither stored nor in the stack's state.
"""

from __future__ import annotations

import base64
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

import httpx

from components.api import request
from tools.clients import CheckError
from tools.clusters import PATH
from tools.state import StackState

#: Where the program puts the manager (`components/kubernetes_runner.py`, which needs the SDK of Kubernetes).
NAMESPACE: Final = "gitlab-runner"
LABEL: Final = "app=manager"
_PODS: Final = f"/api/v1/namespaces/{NAMESPACE}/pods"
#: Seconds to reach a cluster, and for which its credential is valid; what is followed goes on after that.
_PATIENCE: Final = 20
_VALID: Final = 600


@dataclass(frozen=True)
class Pod:
    """A pod of a manager, and the way to its cluster."""

    name: str
    client: httpx.Client


class Reader:
    """The log of one pod as it is read, in a thread of its own."""

    def __init__(self, pod: Pod, query: dict[str, str], put: Callable[[str | None], None]) -> None:
        """Nothing is read yet. `put` gets each line, and None at their end."""
        self._pod, self._query, self._put = pod, query, put
        self._failed = self._stopped = False
        self._thread = threading.Thread(target=self._read, daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def wait(self) -> int:
        """Wait for the end; 1 if the log could not be read."""
        self._thread.join()
        return int(self._failed)

    def stop(self) -> None:
        """What happens to the connection from now on is no failure."""
        self._stopped = True

    def _read(self) -> None:
        try:
            self._read_lines()
        except Exception as error:  # what a connection raises that is closed meanwhile is not documented
            if not self._stopped:
                self._failed = True
                self._put(str(error))
        self._put(None)

    def _read_lines(self) -> None:
        with self._pod.client.stream("GET", f"{_PODS}/{self._pod.name}/log", params=self._query) as response:
            if response.is_error:
                response.read()
            _require(response, self._pod.name)
            for line in response.iter_lines():
                self._put(line)


@contextmanager
def managers_of(state: StackState) -> Iterator[list[Pod]]:
    """The pods of the managers of a stack, until the end of the block; while one is replaced, it has two.

    Raises:
        CheckError: DigitalOcean or a cluster cannot be asked.
    """
    with ExitStack() as stack:
        pods = []
        for cluster in (one for one in state.of("KubernetesCluster") if not one.is_pending):
            client = stack.enter_context(_client(str(cluster.values.get("name")), cluster.id))
            answer = _ask(client, str(cluster.values.get("name")))
            pods += [Pod(str(one["metadata"]["name"]), client) for one in answer["items"]]
        yield pods


@contextmanager
def reading(pod: Pod, lines: int, put: Callable[[str | None], None], *, follow: bool) -> Iterator[Reader]:
    """Read the end of a pod's log, and go on with what it says until the end of the block if it is to be followed."""
    query = {"container": "manager", "tailLines": str(lines), "timestamps": "true", "follow": str(follow).lower()}
    reader = Reader(pod, query, put)
    reader.start()
    try:
        yield reader
    finally:
        reader.stop()


def _client(name: str, identifier: str) -> httpx.Client:
    try:
        found = request(f"{PATH}/{identifier}/credentials?expiry_seconds={_VALID}")
    except RuntimeError as error:
        raise CheckError(f"the cluster {name}: {error}") from error
    context = ssl.create_default_context(cadata=base64.b64decode(found["certificate_authority_data"]).decode())
    # Authorities of clusters lack what Python 3.13 asks for beyond what makes a certificate valid (RFC 5280, 4.2.1.1).
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return httpx.Client(
        base_url=found["server"],
        headers={"Authorization": f"Bearer {found['token']}"},
        verify=context,
        # Nothing may be said for hours.
        timeout=httpx.Timeout(_PATIENCE, read=None),
    )


def _ask(client: httpx.Client, name: str) -> Any:
    try:
        answer = client.get(_PODS, params={"labelSelector": LABEL}, timeout=_PATIENCE)
        _require(answer, name)
    except httpx.HTTPError as error:
        raise CheckError(f"the cluster {name} does not answer: {error}") from error
    return answer.json()


def _require(answer: httpx.Response, name: str) -> None:
    if answer.is_error:
        with suppress(ValueError):
            raise CheckError(f"{name}: {answer.json()['message']}")
        raise CheckError(f"{name}: {answer.status_code}")
