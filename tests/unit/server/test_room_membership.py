"""The states of a session's membership in a room are a table; this test walks each cell of it: by the message or call
that is the event, on a real session whose owner and access checks are played by the test."""

from pathlib import Path
from typing import Any

import pytest

from koko_presence._fastpath.fanout import RoomFlush, StreamFrame
from koko_presence._fastpath.flush_scheduler import CursorRoute
from koko_presence._fastpath.framing import frame_text
from koko_presence.access.policy import Grant
from koko_presence.auth.hmac_jwt import Identity
from koko_presence.protocol.commands import LeaveRoom
from koko_presence.protocol.edge_messages import Left, RoomRefused
from koko_presence.protocol.errors import PresenceError
from koko_presence.protocol.events import LeftReply, encode, error_reply
from koko_presence.protocol.messages import GetActive, Join
from koko_presence.server.membership import ACTIONS
from koko_presence.server.room_membership import (
    ABSENT,
    CHECKING,
    CHECKING_EXPELLED,
    CHECKING_LEAVING,
    DISCARDING,
    EVENTS,
    EXPELLED,
    HOLDING,
    IN_ROOM,
    JOINED,
    JOINING,
    JOINING_LEAVING,
    LEAVING,
    LEAVING_S,
    REJOINING,
    STATES,
    STREAMING,
    SUBSCRIBED,
    TRANSITIONS,
    RoomMembership,
)
from tests.world import World

ROOM = "video_1"
CURSOR = b'{"type":"cursor","roomId":"video_1","data":{"timestamp":1.0,"x":0.5,"y":0.5}}'
YES, NO = Grant(allow=True), Grant(allow=False)


class Owners:
    """A bus whose owners do not answer; `sent` are the commands. The routes are those of a member elsewhere."""

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self._member = World().person("bob", ROOM)

    def send(self, command: Any, now: float) -> None:
        self.sent.append(command)

    def cursor_route(self, room_id: str, session_id: str) -> CursorRoute | None:
        return self._member.session.hub.bus.cursor_route(room_id, self._member.session_id)

    def flush(self) -> None:
        """Let the cursors in the route be sent: the next one does not replace them."""
        self._member.world.settle()


class Unanswered:
    """Access checks without an answer."""

    def check(self, identity: Identity, room_id: str, room_type: Any, **_: Any) -> Any:
        return self

    def __await__(self) -> Any:
        yield


class Scene:
    """A session, and the events of its membership in ROOM."""

    def __init__(self) -> None:
        self.world = World(access=Unanswered())
        self.client = self.world.client().auth("ann")
        self.session = self.client.session
        self.owners = Owners()
        self.hub: Any = self.session.hub
        self.hub.bus = self.owners
        self.hub.await_answer = lambda answer: answer.close()
        self.count = 0
        self.flush(StreamFrame(frame_text(b'{"type":"other"}')))
        self.told()

    @property
    def membership(self) -> RoomMembership:
        return self.session.memberships.rooms.get(ROOM) or RoomMembership(ROOM)

    def flush(self, *frames: StreamFrame) -> None:
        self.hub.on_flush(RoomFlush(ROOM, list(frames), ""), self.world.now)

    def told(self) -> tuple[str, str]:
        """What the client and the owners have been sent since the last call."""
        self.world.timers.advance(0.0)
        written = [message.get("code", message["type"]) for message in self.client.take()]
        sent = [type(command).__name__ for command in self.owners.sent]
        self.owners.sent.clear()
        return " ".join(written), " ".join(each for each in sent if each != "ReportActivity")

    # the events
    def resumed(self) -> None:
        self.session.memberships.resume([ROOM])

    def join(self) -> None:
        self.count += 1
        self.client.post(type="join", roomId=ROOM, roomType="video", id=self.count)

    join_again = join

    def granted(self) -> None:
        self.session.memberships._enter(Join(room_id=ROOM, room_type="video"), YES)

    def denied(self) -> None:
        self.session.memberships._enter(Join(room_id=ROOM, room_type="video"), NO)

    def attached(self) -> None:
        joined = frame_text(b'{"type":"joined"}')
        self.flush(StreamFrame(joined, only=self.session.session_id, attach=True))

    attached_after_refusal = attached

    def detached(self) -> None:
        left = frame_text(b'{"type":"left"}')
        self.flush(StreamFrame(left, only=self.session.session_id, detach=True))

    def leave(self) -> None:
        self.client.post(type="leave", roomId=ROOM)

    def left(self) -> None:
        payload = encode(LeftReply(id=None, room_id=ROOM))
        self.hub.on_edge_message(
            Left(session_id=self.session.session_id, room_id=ROOM, payload=payload), self.world.now
        )

    def expel(self) -> None:
        self.session.memberships.expel(ROOM, "out", self.world.now)

    def refused(self, out: bool = True) -> None:
        payload = error_reply(PresenceError("ROOM_FULL"), None, ROOM)
        message = RoomRefused(session_id=self.session.session_id, room_id=ROOM, payload=payload, out=out)
        self.hub.on_edge_message(message, self.world.now)

    def refused_in_room(self) -> None:
        self.refused(out=False)

    def seen(self) -> None:
        self.session.memberships._query_if_allowed(YES, GetActive(room_id=ROOM, room_type="video"))

    def owner_lost(self) -> None:
        self.hub.retry_pending(self.world.now)

    leave_unanswered = owner_lost

    def expired(self) -> None:
        self.session.memberships.expire(self.world.now + LEAVING_S)

    def routed(self) -> None:
        route = self.owners.cursor_route(ROOM, self.session.session_id)
        assert route is not None
        self.hub.on_route(self.session.session_id, route)

    def show(self) -> None:
        """Show so much in the room that the newest cursor and selection wait for the session's rates."""
        for _ in range(4):
            self.client.post(CURSOR)
            self.owners.flush()
            self.client.post(type="selection", roomId=ROOM, data={"startTime": 1, "endTime": 2})

    def typing(self) -> None:
        self.client.post(type="typing", roomId=ROOM, data={"isTyping": True})


# how each state is reached; a message is held in those that hold messages, so that its end is seen, too
WAYS: dict[str, str] = {
    ABSENT: "",
    CHECKING: "join typing",
    JOINING: "join granted typing",
    JOINED: "resumed",
    REJOINING: "resumed join granted",
    SUBSCRIBED: "join granted attached",
    LEAVING: "join granted attached leave",
    EXPELLED: "join granted attached expel",
    CHECKING_LEAVING: "join granted attached leave join typing",
    JOINING_LEAVING: "join granted attached leave join granted typing",
    CHECKING_EXPELLED: "join granted attached expel join typing",
}
# events that only happen after another history of the state
HISTORIES: dict[tuple[str, str], str] = {
    (ABSENT, "join_again"): "join granted attached join granted detached",
    (ABSENT, "granted"): "resumed join leave",
    (ABSENT, "denied"): "resumed join leave",
    (ABSENT, "left"): "resumed leave",
    (ABSENT, "attached_after_refusal"): "join granted owner_lost refused",
    (ABSENT, "owner_lost"): "resumed leave",
    (LEAVING, "attached_after_refusal"): "join granted attached leave join granted owner_lost refused",
    (LEAVING, "owner_lost"): "join granted attached leave expired",
    (SUBSCRIBED, "leave_unanswered"): "resumed leave attached",
    (CHECKING_LEAVING, "owner_lost"): "join granted attached leave expired join typing",
}
# for each cell of the table: the next state, what the client is sent, and which commands go to the owners
EXPECTED: dict[str, dict[str, tuple[str, str, str]]] = {
    "resumed": {
        ABSENT: (JOINED, "", ""),
    },
    "join": {
        ABSENT: (CHECKING, "", ""),
        JOINED: (JOINED, "", ""),
        REJOINING: (REJOINING, "", ""),
        SUBSCRIBED: (SUBSCRIBED, "", ""),
        LEAVING: (CHECKING_LEAVING, "", ""),
        EXPELLED: (CHECKING_EXPELLED, "", ""),
    },
    "join_again": {
        ABSENT: (JOINING, "", ""),
    },
    "granted": {
        ABSENT: (ABSENT, "", ""),
        CHECKING: (JOINING, "", "EnterRoom"),
        JOINING: (JOINING, "", "EnterRoom"),
        JOINED: (REJOINING, "", "EnterRoom"),
        REJOINING: (REJOINING, "", "EnterRoom"),
        SUBSCRIBED: (SUBSCRIBED, "", "EnterRoom"),
        LEAVING: (LEAVING, "", ""),
        EXPELLED: (EXPELLED, "", ""),
        CHECKING_LEAVING: (JOINING_LEAVING, "", "EnterRoom"),
        JOINING_LEAVING: (JOINING_LEAVING, "", "EnterRoom"),
        CHECKING_EXPELLED: (JOINING, "", "EnterRoom"),
    },
    "denied": {
        ABSENT: (ABSENT, "", ""),
        CHECKING: (ABSENT, "FORBIDDEN NOT_IN_ROOM", ""),
        JOINING: (ABSENT, "FORBIDDEN NOT_IN_ROOM", ""),
        JOINED: (JOINED, "FORBIDDEN", ""),
        REJOINING: (JOINED, "FORBIDDEN", ""),
        SUBSCRIBED: (SUBSCRIBED, "FORBIDDEN", ""),
        LEAVING: (LEAVING, "", ""),
        EXPELLED: (EXPELLED, "", ""),
        CHECKING_LEAVING: (LEAVING, "FORBIDDEN NOT_IN_ROOM", ""),
        JOINING_LEAVING: (LEAVING, "FORBIDDEN NOT_IN_ROOM", ""),
        CHECKING_EXPELLED: (EXPELLED, "FORBIDDEN NOT_IN_ROOM", ""),
    },
    "attached": {
        ABSENT: (SUBSCRIBED, "joined", ""),
        CHECKING: (SUBSCRIBED, "joined", "RoomAction"),
        JOINING: (SUBSCRIBED, "joined", "RoomAction"),
        JOINED: (SUBSCRIBED, "joined", ""),
        REJOINING: (SUBSCRIBED, "joined", ""),
        SUBSCRIBED: (SUBSCRIBED, "joined", ""),
        LEAVING: (SUBSCRIBED, "joined", ""),
        CHECKING_LEAVING: (SUBSCRIBED, "joined", "RoomAction"),
        JOINING_LEAVING: (SUBSCRIBED, "joined", "RoomAction"),
    },
    "attached_after_refusal": {
        ABSENT: (LEAVING, "joined", "LeaveRoom"),
        LEAVING: (LEAVING, "joined", "LeaveRoom"),
    },
    "detached": {
        ABSENT: (ABSENT, "", ""),
        CHECKING: (CHECKING, "", ""),
        JOINING: (JOINING, "", ""),
        JOINED: (JOINED, "", ""),
        REJOINING: (REJOINING, "", ""),
        SUBSCRIBED: (ABSENT, "left", ""),
        LEAVING: (ABSENT, "left", ""),
        EXPELLED: (ABSENT, "", ""),
        CHECKING_LEAVING: (CHECKING, "left", ""),
        JOINING_LEAVING: (JOINING, "left", ""),
        CHECKING_EXPELLED: (CHECKING, "", ""),
    },
    "leave": {
        JOINED: (ABSENT, "", "LeaveRoom"),
        REJOINING: (ABSENT, "", "LeaveRoom"),
        SUBSCRIBED: (LEAVING, "", "LeaveRoom"),
    },
    "left": {
        ABSENT: (ABSENT, "left", ""),
        CHECKING: (CHECKING, "left", ""),
        JOINED: (ABSENT, "left", "LeaveRoom"),
        SUBSCRIBED: (ABSENT, "left", ""),
        LEAVING: (ABSENT, "left", ""),
        EXPELLED: (EXPELLED, "left", ""),
        CHECKING_LEAVING: (CHECKING, "left", ""),
        CHECKING_EXPELLED: (CHECKING_EXPELLED, "left", ""),
    },
    "expel": {
        CHECKING: (ABSENT, "kicked", "LeaveRoom"),
        JOINING: (EXPELLED, "kicked", "LeaveRoom"),
        JOINED: (ABSENT, "kicked", "LeaveRoom"),
        REJOINING: (EXPELLED, "kicked", "LeaveRoom"),
        SUBSCRIBED: (EXPELLED, "kicked", "LeaveRoom"),
        CHECKING_LEAVING: (EXPELLED, "kicked", "LeaveRoom"),
        JOINING_LEAVING: (EXPELLED, "kicked", "LeaveRoom"),
        CHECKING_EXPELLED: (EXPELLED, "kicked", "LeaveRoom"),
    },
    "refused": {
        ABSENT: (ABSENT, "ROOM_FULL", ""),
        CHECKING: (ABSENT, "ROOM_FULL NOT_IN_ROOM", ""),
        JOINING: (ABSENT, "ROOM_FULL NOT_IN_ROOM", ""),
        JOINED: (ABSENT, "ROOM_FULL", ""),
        REJOINING: (ABSENT, "ROOM_FULL", ""),
        SUBSCRIBED: (SUBSCRIBED, "ROOM_FULL", ""),
        LEAVING: (LEAVING, "ROOM_FULL", ""),
        EXPELLED: (ABSENT, "", ""),
        CHECKING_LEAVING: (LEAVING, "ROOM_FULL NOT_IN_ROOM", ""),
        JOINING_LEAVING: (LEAVING, "ROOM_FULL NOT_IN_ROOM", ""),
        CHECKING_EXPELLED: (ABSENT, "NOT_IN_ROOM", ""),
    },
    "refused_in_room": {
        ABSENT: (ABSENT, "ROOM_FULL", ""),
        CHECKING: (ABSENT, "ROOM_FULL NOT_IN_ROOM", ""),
        JOINING: (ABSENT, "ROOM_FULL NOT_IN_ROOM", ""),
        JOINED: (JOINED, "ROOM_FULL", ""),
        REJOINING: (JOINED, "ROOM_FULL", ""),
        SUBSCRIBED: (SUBSCRIBED, "ROOM_FULL", ""),
        LEAVING: (LEAVING, "ROOM_FULL", ""),
        EXPELLED: (ABSENT, "", ""),
        CHECKING_LEAVING: (LEAVING, "ROOM_FULL NOT_IN_ROOM", ""),
        JOINING_LEAVING: (LEAVING, "ROOM_FULL NOT_IN_ROOM", ""),
        CHECKING_EXPELLED: (ABSENT, "NOT_IN_ROOM", ""),
    },
    "seen": {
        ABSENT: (ABSENT, "", "QueryActive"),
        CHECKING: (CHECKING, "", "QueryActive"),
        JOINING: (JOINING, "", "QueryActive"),
        JOINED: (JOINED, "", "QueryActive"),
        REJOINING: (REJOINING, "", "QueryActive"),
        SUBSCRIBED: (SUBSCRIBED, "", "QueryActive"),
        LEAVING: (LEAVING, "", "QueryActive"),
        EXPELLED: (ABSENT, "", "QueryActive"),
        CHECKING_LEAVING: (CHECKING_LEAVING, "", "QueryActive"),
        JOINING_LEAVING: (JOINING_LEAVING, "", "QueryActive"),
        CHECKING_EXPELLED: (CHECKING, "", "QueryActive"),
    },
    "owner_lost": {
        ABSENT: (ABSENT, "", "LeaveRoom"),
        CHECKING: (CHECKING, "", ""),
        JOINING: (JOINING, "", "EnterRoom"),
        JOINED: (JOINED, "", ""),
        REJOINING: (REJOINING, "", "EnterRoom"),
        SUBSCRIBED: (SUBSCRIBED, "", ""),
        LEAVING: (LEAVING, "", ""),
        EXPELLED: (ABSENT, "", "LeaveRoom"),
        CHECKING_LEAVING: (CHECKING_LEAVING, "", ""),
        JOINING_LEAVING: (JOINING_LEAVING, "", "EnterRoom"),
        CHECKING_EXPELLED: (CHECKING, "", "LeaveRoom"),
    },
    "leave_unanswered": {
        SUBSCRIBED: (JOINED, "left", "LeaveRoom"),
        LEAVING: (ABSENT, "left", "LeaveRoom"),
        CHECKING_LEAVING: (CHECKING, "left", "LeaveRoom"),
    },
}

HELD = "the message is held until the join is answered"
NOT_IN_ROOM = "the client may not act in the room"
NEWER = "a newer join makes the answer out of date"
NOT_CURRENT = "there is nothing to be expelled from"
# for each pair that is not in the table: why it cannot occur, and what the client is sent by the same message or call
IMPOSSIBLE: dict[str, dict[str, tuple[str, str]]] = {
    "resumed": dict.fromkeys(STATES[1:], ("the rooms of a resume come with `SessionOpened`, before all else", "")),
    "join": {state: (HELD, "") for state in STATES if state in HOLDING},
    "join_again": {
        state: ("all states but this one have the join in their name, or none was sent", "")
        for state in STATES
        if state != ABSENT
    },
    "attached": dict.fromkeys(DISCARDING, ("the subscription drops the frame", "")),
    "attached_after_refusal": {
        **dict.fromkeys(HOLDING - DISCARDING, ("a later join has its own answer", "joined")),
        **dict.fromkeys(IN_ROOM, ("the session is in the room by an answer since", "joined")),
        **dict.fromkeys(DISCARDING, ("the subscription drops the frame", "")),
    },
    "leave": {
        **dict.fromkeys(HOLDING, (HELD, "")),
        **dict.fromkeys((ABSENT, LEAVING, EXPELLED), (NOT_IN_ROOM, "NOT_IN_ROOM")),
    },
    "left": dict.fromkeys((JOINING, REJOINING, JOINING_LEAVING), (NEWER, "")),
    "expel": dict.fromkeys((ABSENT, LEAVING, EXPELLED), (NOT_CURRENT, "")),
    "leave_unanswered": {
        **{state: ("there is no stream that has to end", "") for state in STATES if state not in STREAMING},
        JOINING_LEAVING: ("the join supersedes the leave", ""),
    },
}


def scene(state: str, event: str) -> Scene:
    it = Scene()
    for each in HISTORIES.get((state, event), WAYS[state]).split():
        getattr(it, each)()
        if it.membership.state in IN_ROOM:
            it.show()
    assert it.membership.state == state
    it.told()
    return it


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("event", EVENTS)
def test_every_cell(state: str, event: str) -> None:
    if (state, event) in TRANSITIONS:
        after, written, sent = EXPECTED[event][state]
        assert TRANSITIONS[state, event][0] == after
    else:
        after, written, sent = state, IMPOSSIBLE[event][state][1], ""
        with pytest.raises(KeyError):
            membership = RoomMembership(ROOM)
            membership.state = state
            membership.move(event)
        if event in ("resumed", "join_again", "attached_after_refusal", "leave_unanswered"):
            return  # the same input is another event in this state
    it = scene(state, event)
    getattr(it, event)()
    assert it.membership.state == after
    assert it.told() == (written, sent)
    assert_consistent(it)


def assert_consistent(it: Scene) -> None:
    """What other objects know of the session agrees with the state."""
    memberships, state, subscription = it.session.memberships, it.membership.state, it.hub.subscriptions.get(ROOM)
    assert (subscription is not None and it.session.session_id in subscription.subscribers) == (state in STREAMING)
    assert memberships.joining == (state in HOLDING)
    assert memberships.is_member(ROOM) == (state in IN_ROOM)
    assert memberships.subscribed_rooms == ({ROOM} if state in STREAMING else set())
    assert (it.session.discards(ROOM), memberships.is_holding(ROOM)) == (state in DISCARDING, state in HOLDING)
    assert (it.membership.held is not None) == (state in HOLDING and it.session.held.size > 0)
    assert it.membership.route is None or state == SUBSCRIBED
    if state not in IN_ROOM:  # no route, nothing waits
        limiter = it.session.rate_limiter
        assert it.membership.cursor is it.membership.selection is None and memberships._waiting == ()
        assert limiter.take_all_back() == [] and not limiter.has_pending and not limiter.take(CURSOR)


@pytest.mark.parametrize("state", STATES)
def test_a_route_is_accepted_by_a_subscribed_member_only(state: str) -> None:
    """A route that arrived after the leave was kept by the rate limiter when the next join was refused."""
    it = scene(state, "")
    it.routed()
    assert (it.membership.route is not None) == (state == SUBSCRIBED)
    assert_consistent(it)


def test_values_wait_in_the_scene() -> None:
    """What the walk of the table checks after each event is there before it."""
    it = Scene()
    for each in ("join", "granted", "attached"):
        getattr(it, each)()
    assert it.session.rate_limiter.take(CURSOR)
    it.show()
    assert it.membership.route is not None and it.session.rate_limiter.take_all_back() != []
    assert it.membership.selection is not None and len(it.session.memberships._waiting) == 1
    it = scene(JOINED, "")
    assert {kind for _, kind in it.session.memberships._waiting} == {"cursor", "selection"}


def test_the_table_is_whole() -> None:
    assert {state for state, _ in TRANSITIONS} | {state for state, _ in TRANSITIONS.values()} == set(STATES)
    assert {action for _, action in TRANSITIONS.values()} == {"", *ACTIONS}
    expected = {(state, event) for event, row in EXPECTED.items() for state in row}
    impossible = {(state, event) for event, row in IMPOSSIBLE.items() for state in row}
    assert expected == set(TRANSITIONS) and not expected & impossible
    assert expected | impossible == {(state, event) for state in STATES for event in EVENTS}
    assert set(STATES) - IN_ROOM - HOLDING == {ABSENT, LEAVING, EXPELLED}


def test_a_membership_that_holds_nothing_is_dropped() -> None:
    """Nothing of a room stays at the edge after the session has left it: not at once, when the leave may have to be
    reported to the user's next owner, but after LEAVING_S."""
    it = Scene()
    for number in range(50):
        room = f"video_{number}"
        it.session.memberships.on_attach(room)
        it.client.post(type="leave", roomId=room)
        it.session.memberships.on_detach(room)
    assert len(it.session.memberships.rooms) == 50 and it.session.memberships.recently_left(it.world.now)
    it.world.sleep(LEAVING_S + it.world.limits.ping_interval_s + 1.0)
    assert it.session.memberships.rooms == {}


@pytest.mark.parametrize("way", ["join denied", "join granted refused", "resumed refused", "attached detached", "seen"])
def test_a_membership_without_a_leave_is_dropped_at_once(way: str) -> None:
    it = Scene()
    for each in way.split():
        getattr(it, each)()
    assert it.session.memberships.rooms == {}


def test_the_second_answer_to_a_repeated_join_is_awaited_for_a_while() -> None:
    it = scene(ABSENT, "attached_after_refusal")
    assert list(it.session.memberships.rooms) == [ROOM]
    it.session.memberships.expire(it.world.now + LEAVING_S)
    assert it.session.memberships.rooms == {}


def test_a_leave_counts_again_when_the_join_behind_it_is_refused() -> None:
    """The client was never told that it is out: the edge had forgotten the leave at the join."""
    it = scene(JOINING_LEAVING, "refused")
    it.refused()
    it.told()
    it.owner_lost()
    assert it.membership.state == ABSENT
    assert it.told() == ("left", "LeaveRoom")
    assert_consistent(it)


def test_the_answer_to_a_leave_ends_what_the_next_owner_has_shown_behind_the_acknowledgement() -> None:
    """The next owner showed the room once more before it had the leave: the client stayed in the room for good."""
    it = scene(LEAVING, "leave_unanswered")
    it.owner_lost()
    assert it.told() == ("left", "LeaveRoom")
    it.attached()
    it.left()
    assert it.membership.state == ABSENT
    assert it.told() == ("joined left", "")
    assert_consistent(it)


def test_a_membership_that_a_call_has_begun_since_outlives_the_loss_of_an_owner() -> None:
    """A call ends the membership with which a session was resumed, and another call begins a new one. The edge has sent
    a leave of the earlier ones, which it repeats; the client stays in the room and keeps its stream."""
    it = Scene()
    for event in ("resumed", "left", "attached"):
        getattr(it, event)()
    assert it.told() == ("left joined", "LeaveRoom")
    it.owner_lost()
    (leave,) = (command for command in it.owners.sent if isinstance(command, LeaveRoom))
    assert leave.before == it.session.version
    assert it.told() == ("", "LeaveRoom")
    assert it.membership.state == SUBSCRIBED
    it.flush(StreamFrame(frame_text(b'{"type":"other"}')))
    assert it.told() == ("other", "")


def test_all_memberships_end_with_the_session() -> None:
    it = scene(SUBSCRIBED, "detached")
    it.client.hang_up(1006)
    assert it.session.memberships.rooms == {} and not it.hub.subscriptions and it.session.memberships.joining == 0


def test_the_table_in_the_documentation_is_this_one() -> None:
    text = (Path(__file__).parents[3] / "docs" / "architecture.md").read_text()
    rows = [[cell.strip(" `") for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    head = next(row for row in rows if row[0] == "event")
    letters = dict(zip(STATES, head[1:], strict=True))
    names = {row[0]: row[1] for row in rows if len(row) == 3 and row[0] in head}
    assert all(names[letter] == state for state, letter in letters.items() if len(letter) == 1)
    documented = {row[0]: row[1:] for row in rows if row[0] in EVENTS and len(row) == len(head)}
    for event in EVENTS:
        cells = [letters[TRANSITIONS[state, event][0]] if (state, event) in TRANSITIONS else "–" for state in STATES]
        assert documented[event] == cells, event
