"""Where the answer of a command goes, and what is counted: on the whole way from a client, in one worker."""

from typing import Any

import msgspec
import pytest

from koko_presence._fastpath.counters import counters
from koko_presence.protocol import commands as c
from koko_presence.protocol.edge_messages import CallAnswered, Reply, RoomRefused
from koko_presence.protocol.errors import PresenceError
from koko_presence.protocol.messages import ControlRelease, StatusData
from koko_presence.protocol.models import Privacy
from tests.world import World

CALL = c.ReplyTo(edge=7, number=5)
RELEASE = ControlRelease(room_id="video_1", id=3)  # refused: the member has no control


class Asked:
    """A shard with the member `s` of user `ann` in room `video_1`, connected at edge 3; `send` returns what it sends to
    edges."""

    def __init__(self) -> None:
        self.shard = World().shard
        self.send(c.OpenSession(user_id="ann", edge=3, connection=1, new_session_id="s"))
        self.enter("video_1")
        self.room = self.shard.rooms["video_1"]
        self.room.take_items(0.0)

    def enter(self, room_id: str, room_type: Any = "video") -> list[tuple[int, Any]]:
        info = c.SessionInfo(edge=3, session_id="s", user_id="ann", connection=1)
        return self.send(
            c.EnterRoom(
                user_id="ann", room_id=room_id, session_info=info, room_type=room_type, reply_to=c.ReplyTo(3, "s", 1)
            )
        )

    def send(self, command: c.Command) -> list[tuple[int, Any]]:
        todo, found = [command], []
        while todo:
            self.shard.handle(todo.pop(0), 0.0)
            for effect in self.shard.take_effects():
                if isinstance(effect, tuple):
                    found.append(effect)
                else:
                    todo.append(effect)
        return found


def refused(type_: str, reason: str) -> int:
    return counters.read().dropped.get(type_, {}).get(reason, 0)


def payload(message: Any) -> Any:
    return msgspec.json.decode(message.payload)


def test_the_answer_to_a_members_message_goes_into_the_rooms_stream() -> None:
    asked, before = Asked(), refused("control_release", "not_controller")
    reply_to = c.ReplyTo(3, "s", 3)
    assert asked.send(c.RoomAction(room_id="video_1", session_id="s", message=RELEASE, reply_to=reply_to)) == []
    (item,) = asked.room.out
    assert item.only == "s" and item.refusal and b'"code":"NOT_CONTROLLER"' in item.frame and b'"id":3' in item.frame
    assert refused("control_release", "not_controller") == before + 1


def test_a_member_without_the_stream_gets_it_where_it_is_connected() -> None:
    asked = Asked()
    asked.room.detach(asked.room.members["s"])
    asked.room.members["s"].edge = 4
    action = c.RoomAction(room_id="video_1", session_id="s", message=RELEASE, reply_to=c.ReplyTo(3, "s", 3))
    ((edge, message),) = asked.send(action)
    assert edge == 4 and isinstance(message, Reply) and message.refusal and payload(message)["code"] == "NOT_CONTROLLER"


def test_a_session_that_is_no_member_is_answered_at_the_edge_that_asked() -> None:
    action = c.RoomAction(room_id="video_2", session_id="s", message=RELEASE, reply_to=c.ReplyTo(3, "s", 3))
    ((edge, message),) = Asked().send(action)
    assert edge == 3 and isinstance(message, Reply) and message.refusal and payload(message)["code"] == "NOT_IN_ROOM"


@pytest.mark.parametrize(
    "command",
    [
        c.RoomAction(
            room_id="video_1", session_id="s", message=RELEASE, reply_to=CALL,
            authority=c.Authority("ann", can_control=True, can_broadcast=True, moderator=False),
        ),
        c.LeaveRoom(user_id="bob", room_id="video_1", session_id="t", reply_to=CALL),
        c.ChangePrivacy(user_id="ann", session_id="t", privacy=Privacy(), reply_to=CALL),
        c.ChangeStatus(user_id="bob", session_id="", activity="active", data=StatusData(status="busy"), at=0.0, reply_to=CALL),
        c.RenewLeases(user_id="ann", sessions=["s"], presence=[None], activity=None, reply_to=CALL),
        c.QueryActive(room_id="video_1", user_id="ann", session_id="s", room_type="project", reply_to=CALL),
    ],
    ids=lambda command: type(command).__name__,
)  # fmt: skip
def test_a_refused_call_is_answered_once_to_its_number_and_nothing_goes_to_a_socket(command: c.Command) -> None:
    asked = Asked()
    ((edge, message),) = asked.send(command)
    assert edge == 7 and isinstance(message, CallAnswered) and message.refused and message.number == 5
    assert payload(message)["type"] == "error" and "id" not in payload(message) and not asked.room.out


@pytest.mark.parametrize(
    ("command", "result"),
    [
        (c.LeaveRoom(user_id="ann", room_id="video_1", session_id="s", reply_to=CALL), {"success": True, "left": 1}),
        (c.LeaveRoom(user_id="ann", room_id="video_2", session_id="", all=True, reply_to=CALL), {"success": True, "left": 0}),
        (c.SpendQueryBudget(user_id="ann", reply_to=CALL), {"success": True}),
        (c.QueryLeases(user_id="ann", session_id="", reply_to=CALL), []),
        (c.QueryActive(room_id="none", user_id="ann", session_id="s", reply_to=CALL), {"users": [], "totalCount": 0, "sessionCount": 0}),
    ],
    ids=lambda each: type(each).__name__,
)  # fmt: skip
def test_the_result_of_a_call_is_the_answer(command: c.Command, result: Any) -> None:
    ((edge, message),) = Asked().send(command)
    assert edge == 7 and isinstance(message, CallAnswered) and not message.refused and payload(message) == result


def test_a_session_is_answered_where_it_is_connected_by_now() -> None:
    asked = Asked()
    asked.shard.users["ann"].sessions["s"].edge = 4
    command = c.ChangeStatus(
        user_id="ann",
        session_id="s",
        activity="active",
        data=StatusData(status="busy"),
        at=0.0,
        reply_to=c.ReplyTo(3, "s", 9),
    )
    ((edge, message),) = asked.send(command)
    assert edge == 4 and isinstance(message, Reply) and not message.refusal
    assert payload(message) == {"type": "ack", "id": 9, "success": True, "status": "busy", "statusMessage": ""}
    command.reply_to = c.ReplyTo(3, "s")
    assert asked.send(command) == [], "the message had no id"


def test_a_question_of_a_session_is_answered_with_its_room_for_the_expelled() -> None:
    command = c.QueryActive(room_id="video_1", user_id="ann", session_id="s", reply_to=c.ReplyTo(3, "s", 4))
    ((edge, message),) = Asked().send(command)
    assert edge == 3 and message.shown_room_id == "video_1" and not message.refusal
    assert {**payload(message), "users": 1} == {
        "type": "active", "id": 4, "roomId": "video_1", "users": 1, "totalCount": 1, "sessionCount": 1,
    }  # fmt: skip


def test_a_refused_join_says_whether_an_earlier_membership_remains() -> None:
    asked, before = Asked(), refused("join", "room_type_mismatch")
    ((edge, again),) = asked.enter("video_1", "project")
    assert edge == 3 and isinstance(again, RoomRefused) and not again.out
    assert payload(again)["code"] == "ROOM_TYPE_MISMATCH" and payload(again)["roomId"] == "video_1"
    ((_, first),) = asked.enter("video_2", None)
    assert isinstance(first, RoomRefused) and first.out and payload(first)["id"] == 1
    assert refused("join", "room_type_mismatch") == before + 1


def test_an_error_of_a_command_without_an_address_goes_nowhere() -> None:
    asked = Asked()
    asked.shard._answers.send(c.SpendQueryBudget(user_id="ann"), PresenceError("RATE_LIMITED"))
    assert asked.shard.take_effects() == []
