"""Each command and each message to a room has one handler, which is found by its type."""

import pytest

from koko_presence.owner.shard import ROOM_COMMANDS
from koko_presence.owner.user_handlers import USER_COMMANDS
from koko_presence.protocol.commands import COMMANDS, RoomAction, RoomCommand, UserCommand
from koko_presence.protocol.messages import ROOM_MESSAGES
from koko_presence.rooms.handler_table import HandlerTable
from koko_presence.rooms.message_handlers import MESSAGE_HANDLERS


def names(kinds: object) -> set[str]:
    return {kind.__name__ for kind in kinds}  # type: ignore[attr-defined]


def test_each_command_has_a_handler_at_its_owner() -> None:
    commands = set(COMMANDS) - {RoomAction}  # handled by the type of its message
    without = [kind.__name__ for kind in commands if kind not in {**ROOM_COMMANDS.functions, **USER_COMMANDS.functions}]
    assert without == []
    assert names(USER_COMMANDS.functions) == {kind.__name__ for kind in commands if issubclass(kind, UserCommand)}
    assert names(ROOM_COMMANDS.functions) == {kind.__name__ for kind in commands if issubclass(kind, RoomCommand)}


def test_each_message_to_a_room_has_a_handler() -> None:
    assert names(MESSAGE_HANDLERS.functions) == names(ROOM_MESSAGES.values())  # type: ignore[attr-defined]


def test_a_second_handler_is_refused() -> None:
    table = HandlerTable()
    table.handles(RoomAction)(print)
    with pytest.raises(TypeError, match="RoomAction has two handlers"):
        table.handles(RoomAction)(repr)
