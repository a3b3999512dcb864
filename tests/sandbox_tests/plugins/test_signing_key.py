"""The key of signatures, by the real engine: in the state only encrypted, in GitLab only for protected branches."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from tests.sandbox_tests.support.whole_program import World, world

pytestmark = pytest.mark.real_time("versitygw is written in Go: its clock cannot be moved, and it refuses other times")


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("world")) as running:
        yield running


def test_the_key_that_jobs_get_is_that_of_the_output_and_is_nowhere_in_plain_text(services: World) -> None:
    stack = services.stack(supplyChain={"sign": True}, removal="keep-data")
    stack.up()
    [project] = services.instance.client().projects.list(get_all=True)
    variable = project.variables.get("SLIPWAY_SIGNING_KEY")
    assert (variable.variable_type, variable.protected, variable.masked) == ("file", True, True)
    pem = f"-----BEGIN EC PRIVATE KEY-----\n{variable.value}\n-----END EC PRIVATE KEY-----\n"
    key = load_pem_private_key(pem.encode(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert isinstance(key.curve, ec.SECP256R1)
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    assert stack.outputs()["signing_public_key"] == public
    state = json.dumps(json.loads(stack.run("stack", "export")))
    assert "SLIPWAY_SIGNING_KEY" in state
    assert variable.value not in state
    assert variable.value[:60] not in state
    assert stack.changes().keys() <= {"same"}
    # What is kept is protected, so it has to stay in the graph.
    stack.configure({"supplyChain": {"sign": False}})
    stack.up()
    assert stack.outputs()["signing_public_key"] == public
    assert [one.key for one in project.variables.list(get_all=True)] == ["GREETING"]
