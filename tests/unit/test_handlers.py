"""Each command and each message to a room has one handler, which is found by its type."""

import pytest

from koko_presence.owner.shard import ROOM_COMMANDS
from koko_presence.owner.user_handlers import USER_COMMANDS
from koko_presence.protocol.commands import COMMANDS, RoomAction, RoomCommand, UserCommand
from koko_presence.protocol.messages import ROOM_MESSAGES
from koko_presence.rooms.handler_table import HandlerTable
from koko_presence.rooms.message_handlers import MESSAGE_HANDLERS

# each ends a pending request for control, and these have a rate
WITHOUT_A_RATE = {"control_deny", "control_cancel"}


def names(kinds: object) -> set[str]:
    return {kind.__name__ for kind in kinds}  # type: ignore[attr-defined]


def test_each_command_has_a_handler_at_its_owner() -> None:
    commands = set(COMMANDS) - {RoomAction}  # handled by the type of its message
    without = [kind.__name__ for kind in commands if kind not in {**ROOM_COMMANDS.functions, **USER_COMMANDS.functions}]
    assert without == []
    assert names(USER_COMMANDS.functions) == {kind.__name__ for kind in commands if issubclass(kind, UserCommand)}
    assert names(ROOM_COMMANDS.functions) == {kind.__name__ for kind in commands if issubclass(kind, RoomCommand)}


def test_each_message_to_a_room_has_a_handler() -> None:
    without = [kind.__name__ for kind in ROOM_MESSAGES.values() if kind not in MESSAGE_HANDLERS.functions]
    assert not without, f"no handler in koko_presence/rooms, as in  @handles({without[0]})"
    assert names(MESSAGE_HANDLERS.functions) == names(ROOM_MESSAGES.values())  # type: ignore[attr-defined]


@pytest.mark.parametrize("type_", [type_ for type_, kind in ROOM_MESSAGES.items() if not kind.coalesced])
def test_each_message_of_a_member_has_a_rate_and_spends_it(type_: str) -> None:
    """All members get what comes of it, so a message without a rate is a way to flood a room."""
    kind = ROOM_MESSAGES[type_]
    if type_ in WITHOUT_A_RATE:
        return
    assert kind.rate, f"{kind.__name__} declares no rate, as in  rate = 'broadcast'"
    handler = MESSAGE_HANDLERS.functions[kind]
    assert "spend" in handler.__code__.co_names, f"{handler.__name__} does not call spend(room, member, message, now)"


def test_a_second_handler_is_refused() -> None:
    table = HandlerTable()
    table.handles(RoomAction)(print)
    with pytest.raises(TypeError, match="RoomAction has two handlers"):
        table.handles(RoomAction)(repr)
