"""Cursors may take the short way (gate, lane) or the long one (session, bus, shard): nobody can tell which.

The same story is played twice, once with every gate shut, and every byte that every client receives must be the same.
"""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from koko_presence.server.session import Session
from tests.world import Client, World

PEOPLE = ("ann", "bob", "cat", "dan")
ROOMS = {"video_1": "video", "lobby": "project"}

cursors = st.fixed_dictionaries(
    {},
    optional={
        "timestamp": st.sampled_from([0, 1.5, 0.1 + 0.2, 1e-6, 1e6, 1e7, -1]),
        "x": st.sampled_from([0, 1, 1 / 3, 2]),
        "y": st.sampled_from([0.25, 1]),
        "target": st.just("mark"),
    },
)
steps = st.one_of(
    st.tuples(st.just("cursor"), st.integers(0, 3), st.sampled_from([*ROOMS, "elsewhere"]), cursors | st.none()),
    # above the rate: several in one turn, at 250 Hz, at 60 Hz
    st.tuples(
        st.just("burst"),
        st.integers(0, 3),
        st.sampled_from(list(ROOMS)),
        st.integers(2, 12),
        st.sampled_from([0.0, 0.004, 0.016]),
    ),
    st.tuples(st.just("selection"), st.integers(0, 3), st.sampled_from(list(ROOMS)), st.integers(0, 9)),
    st.tuples(st.just("typing"), st.integers(0, 3), st.sampled_from(list(ROOMS)), st.booleans()),
    st.tuples(st.just("wait"), st.sampled_from([0.001, 0.005, 0.02, 0.05, 0.2, 130.0])),
    st.tuples(st.just("privacy"), st.integers(0, 3), st.sampled_from(["invisible", "shareCursor"]), st.booleans()),
    st.tuples(st.just("status"), st.integers(0, 3), st.sampled_from(["idle", "active"])),
    st.tuples(st.just("leave"), st.integers(0, 3), st.sampled_from(list(ROOMS))),
    st.tuples(st.just("join"), st.integers(0, 3), st.sampled_from(list(ROOMS))),
    st.tuples(st.just("cut"), st.integers(0, 3)),
    st.tuples(st.just("resume"), st.integers(0, 3)),
)


class Story:
    """Four people, one with compact cursors, who do what they are told. (Two tabs of one person share a budget: which of them
    gets a token that both wait for is nobody's promise.)"""

    def __init__(self) -> None:
        self.world = World(grace_s=5.0)
        self.sent = 0
        self.last: Client | None = None
        self.tabs = [self.enter(user) for user in PEOPLE]

    def enter(self, user: str, **auth: Any) -> Client:
        client = self.world.client().auth(user, **({"caps": ["cursors"]} if user == "cat" else {}), **auth)
        for room, type_ in ROOMS.items():
            client.join(room, type_)
        return client

    def play(self, plan: list[tuple[Any, ...]]) -> list[list[bytes]]:
        heard = []
        for kind, *what in plan:
            if kind == "wait":
                self.world.sleep(what[0])
                continue
            tab = self.tabs[what[0]]
            if tab is not self.last:  # the order of what two people's timers release at one moment is nobody's promise
                self.world.sleep(0.0017)
                self.last = tab
            match kind:
                case "cursor":
                    tab.post({"type": "cursor", "roomId": what[1], "data": what[2]})
                case "burst":
                    for number in range(what[2]):
                        data = {"timestamp": self.sent, "x": number / 16, "y": 0.5}
                        tab.post({"type": "cursor", "roomId": what[1], "data": data})
                        self.sent += 1
                        self.world.sleep(what[3])
                case "selection":
                    data = {"startTime": what[2], "endTime": 10}
                    tab.post({"type": "selection", "roomId": what[1], "data": data})
                case "typing":
                    tab.post({"type": "typing", "roomId": what[1], "data": {"isTyping": what[2]}})
                case "privacy":
                    tab.post({"type": "privacy", "data": {what[1]: what[2]}})
                case "status":
                    tab.post({"type": "heartbeat", "status": what[1]})
                case "leave":
                    tab.post({"type": "leave", "roomId": what[1]})
                case "join":
                    tab.post({"type": "join", "roomId": what[1], "roomType": ROOMS[what[1]]})
                case "cut":
                    if tab.closed is None:
                        tab.hang_up(1006)
                case "resume":
                    heard.append(tab.raw)
                    self.tabs[what[0]] = self.enter(PEOPLE[what[0]], resumeToken=tab.resume_token)
        self.world.sleep(0.3)
        return [*heard, *(tab.raw for tab in self.tabs)]


@pytest.mark.deep
@given(st.lists(steps, max_size=25))
@settings(max_examples=60, deadline=None)
def test_the_short_way_says_the_same_as_the_long_one(plan: list[tuple[Any, ...]]) -> None:
    compare(plan)


@pytest.mark.long
@given(st.lists(steps, max_size=25))
@settings(max_examples=500, deadline=None)
def test_the_short_way_says_the_same_as_the_long_one_in_more_stories(plan: list[tuple[Any, ...]]) -> None:
    compare(plan)


def compare(plan: list[tuple[Any, ...]]) -> None:
    """Play a story the short way and the long one. Errors: AssertionError when anybody reads something else."""
    with pytest.MonkeyPatch.context() as patch:
        short = Story().play(plan)
        move = Session.move

        def move_and_shut(session: Session, event: str) -> None:
            move(session, event)
            session.rate_limiter.open = False

        patch.setattr(Session, "move", move_and_shut)
        assert Story().play(plan) == short


def test_the_short_way_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or the test above would compare the long way with itself."""
    world = World()
    ann, bob = world.person("ann"), world.person("bob")
    monkeypatch.setattr(Session, "dispatch", None)
    ann.send({"type": "cursor", "roomId": "video_123", "data": {"timestamp": 1, "x": 0.5, "y": 0.5}})
    assert bob.last("cursor_moved")["data"]["x"] == 0.5
