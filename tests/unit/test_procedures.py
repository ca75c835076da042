"""Each procedure, called with every field of its input, returns exactly what its declaration says."""

import msgspec
import pytest

from koko_presence.protocol.messages import MESSAGES, ClientMessage
from koko_presence.protocol.procedures import Procedure
from tests.examples import FULL, ROOM, fields_of
from tests.world import Http, World

DECLARED = [
    pytest.param(message, procedure, id=procedure.name)
    for message in MESSAGES.values()
    for procedure in message.procedures
]


@pytest.fixture
def caller() -> Http:
    """Ann's session has control, and Bob has asked for it."""
    world = World()
    ann, bob = world.person("ann"), world.person("bob")
    for person in (ann, bob):
        person.send(type="control_request", roomId=ROOM)
    return world.http("ann", ann.session_id)


@pytest.mark.parametrize(("message", "procedure"), DECLARED)
def test_a_procedure_returns_what_it_declares(caller: Http, message: type[ClientMessage], procedure: Procedure) -> None:
    if procedure.input is None:
        given = {name: value for name, value in FULL[str(message.__struct_config__.tag)].items() if name != "type"}
        given |= given.pop("data") if procedure.name != "broadcast" and "data" in given else {}
    else:
        given = fields_of(procedure.input)
        del given["sessionId"], given["clientKey"]
    if procedure.name == "heartbeat":  # of a session held over HTTP
        caller = caller.world.http("eve")
        caller.call("join", roomId=ROOM, roomType="video")
    result = msgspec.to_builtins(caller.call(procedure.name, given))
    msgspec.convert(result, procedure.returns)
    fields = msgspec.structs.fields(procedure.returns)
    assert set(result) <= {field.encode_name for field in fields}, "it returns more than its declaration says"
    assert set(result) >= {field.encode_name for field in fields if field.required}
