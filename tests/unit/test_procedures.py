"""Each procedure, called with every field of its input, returns exactly what its declaration says."""

import msgspec
import pytest

from koko_presence.protocol.messages import PROCEDURES
from koko_presence.protocol.procedures import Procedure
from tests.examples import INPUTS, ROOM
from tests.world import Http, World


@pytest.fixture
def caller() -> Http:
    """Ann's session has control, and Bob has asked for it."""
    world = World()
    ann, bob = world.person("ann"), world.person("bob")
    for person in (ann, bob):
        person.send(type="control_request", roomId=ROOM)
    return world.http("ann", ann.session_id)


@pytest.mark.parametrize("procedure", PROCEDURES.values(), ids=lambda procedure: procedure.name)
def test_a_procedure_returns_what_it_declares(caller: Http, procedure: Procedure) -> None:
    if procedure.name == "heartbeat":  # of a session held over HTTP
        caller = caller.world.http("eve")
        caller.call("join", roomId=ROOM, roomType="video")
    result = msgspec.to_builtins(caller.call(procedure.name, INPUTS[procedure.name]))
    msgspec.convert(result, procedure.returns)
    fields = msgspec.structs.fields(procedure.returns)
    assert set(result) <= {field.encode_name for field in fields}, "it returns more than its declaration says"
    assert set(result) >= {field.encode_name for field in fields if field.required}
