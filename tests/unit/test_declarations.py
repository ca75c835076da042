"""A declaration that lacks something cannot be imported, and the error names it."""

from types import FunctionType
from typing import Any

import pytest

from koko_presence.protocol import events, messages
from koko_presence.protocol.commands import Profile
from koko_presence.protocol.delivery import Delivery
from koko_presence.protocol.events import EventData, UserLeft
from koko_presence.protocol.limits import Limits
from koko_presence.protocol.messages import ROOM_MESSAGES, ControlCancel, ControlRequest, RoomMessage
from koko_presence.protocol.procedures import Procedure
from koko_presence.rooms.member import Person, PrivateRoom
from koko_presence.rooms.message_handlers import MESSAGE_HANDLERS
from koko_presence.rooms.presence_state import spend
from tests.world import World

COMPLETE: dict[str, Any] = {"causes": (UserLeft,), "delivery": Delivery.BUS_REPEATS}


def declared(tag: str | None = "hand_raise", **attributes: Any) -> None:
    """Declare a message as messages.py does."""
    message = type(RoomMessage)("HandRaise", (RoomMessage,), attributes, tag=tag, kw_only=True)  # type: ignore[call-arg]
    messages._declared({"HandRaise": message})


def test_a_complete_message_is_accepted() -> None:
    declared(**COMPLETE, rate="control", procedures=(Procedure("raiseHand"),))


@pytest.mark.parametrize(
    ("attributes", "text"),
    [
        ({"delivery": Delivery.BUS_REPEATS}, "HandRaise does not say which events it may cause"),
        ({"causes": ()}, "HandRaise has no delivery between workers"),
        ({**COMPLETE, "rate": "hand"}, "HandRaise has the rate 'hand', and limits.py has no hand_hz"),
        ({**COMPLETE, "rate": "report"}, "HandRaise has the rate 'report', and limits.py has no report_burst"),
        ({**COMPLETE, "procedures": (Procedure("raiseHand", fixed={"raised": True}),)}, "raiseHand sets ['raised']"),
        ({**COMPLETE, "tag": None}, "HandRaise does not say its type"),
    ],
)
def test_what_a_message_lacks_is_named(attributes: dict[str, Any], text: str) -> None:
    with pytest.raises(ImportError) as error:
        declared(**attributes)
    assert text in str(error.value)


def test_two_messages_of_one_type_are_refused() -> None:
    with pytest.raises(ImportError, match="Leave and Leave are both 'leave'"):
        messages._declared({"a": messages.Leave, "b": messages.Leave})


def test_an_event_without_a_type_is_refused() -> None:
    class HandRaised(EventData, kw_only=True):
        raised: bool

    with pytest.raises(ImportError, match="HandRaised does not say its event"):
        events._events({"HandRaised": HandRaised})
    with pytest.raises(ImportError, match="UserLeft and UserLeft are both 'user_left'"):
        events._events({"a": UserLeft, "b": UserLeft})


def ann() -> Person:
    profile = Profile(status="active", status_message="", activity="active")
    return Person("ann", profile, Limits(), PrivateRoom("video", 0.0))


def test_every_rate_of_a_message_to_a_room_is_a_budget_of_its_user() -> None:
    assert set(ann().budgets) == {message.rate for message in ROOM_MESSAGES.values()} - {""}
    budget = ann().budget(ControlRequest(room_id="r"))
    taken = [budget.take(0.0) for _ in range(Limits().control_burst + 1)]
    assert taken == [True] * Limits().control_burst + [False]


def functions_called(function: Any) -> set[str]:
    """Return the names that a function uses, and those that the functions of its module use which it calls."""
    names, found = set(function.__code__.co_names), set()
    for name in names:
        called = function.__globals__.get(name)
        if isinstance(called, FunctionType) and called.__module__ == function.__module__:
            found |= set(called.__code__.co_names)
    return names | found


def without_rate(handlers: dict[Any, Any]) -> list[str]:
    return [
        f"{message.__name__} spends a budget in {handler.__name__} and declares no rate"
        for message, handler in handlers.items()
        if not message.rate and functions_called(handler) & {"spend", "check_budget"}
    ]


def test_a_message_whose_handler_spends_a_budget_declares_a_rate() -> None:
    assert without_rate(MESSAGE_HANDLERS.functions) == []


def test_a_message_that_spends_without_a_rate_is_named() -> None:
    handler = MESSAGE_HANDLERS.functions[ControlRequest]
    assert without_rate({ControlCancel: handler}) == [
        "ControlCancel spends a budget in handle_control_request and declares no rate"
    ]
    world = World()
    world.person("ann")
    room = world.shard.rooms["video_123"]
    (member,) = room.members.values()
    with pytest.raises(TypeError, match="ControlCancel declares no rate"):
        spend(room, member, ControlCancel(room_id="video_123"), 0.0)
