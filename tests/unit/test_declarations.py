"""A declaration that lacks something cannot be imported, and the error names it."""

from typing import Any

import pytest

from koko_presence._fastpath.throttle import TokenBucket
from koko_presence.protocol import events, messages
from koko_presence.protocol.commands import Profile
from koko_presence.protocol.delivery import Delivery
from koko_presence.protocol.events import EventData, UserLeft
from koko_presence.protocol.limits import Limits
from koko_presence.protocol.messages import ROOM_MESSAGES, RoomMessage
from koko_presence.protocol.procedures import Procedure
from koko_presence.rooms.member import Person, PrivateRoom

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


@pytest.mark.parametrize("type_", [type_ for type_, message in ROOM_MESSAGES.items() if message.rate])
def test_the_rate_of_a_message_to_a_room_is_a_budget_of_its_user(type_: str) -> None:
    profile = Profile(status="active", status_message="", activity="active")
    person = Person("ann", profile, Limits(), PrivateRoom("video", 0.0))
    rate = ROOM_MESSAGES[type_].rate
    assert isinstance(getattr(person, rate, None), TokenBucket), f"rooms/member.py: a Person has no budget {rate!r}"
