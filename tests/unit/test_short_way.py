"""Cursors on the compiled path (rate limiter, cursor route) and on the Python path (session, bus, shard) have the same
result.

The same story is played twice, once with the compiled path closed, and every byte that every client receives must be
equal.
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
    # above the rate: several in one loop iteration, at 250 Hz, at 60 Hz
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
    """Four clients of different users, one with compact cursors. (Two tabs of one user share a budget: which of them
    gets a token that both wait for is not defined.)"""

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
            # the order of messages that two clients' timers release at one moment is not defined
            if tab is not self.last:
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
def test_the_compiled_path_sends_the_same_as_the_python_path(plan: list[tuple[Any, ...]]) -> None:
    compare(plan)


@pytest.mark.long
@given(st.lists(steps, max_size=25))
@settings(max_examples=500, deadline=None)
def test_the_compiled_path_sends_the_same_as_the_python_path_in_more_stories(plan: list[tuple[Any, ...]]) -> None:
    compare(plan)


def compare(plan: list[tuple[Any, ...]]) -> None:
    """Play a story on the compiled path and on the Python path. Errors: AssertionError when a client receives other
    bytes."""
    with pytest.MonkeyPatch.context() as patch:
        short = Story().play(plan)
        move = Session.move

        def move_and_shut(session: Session, event: str) -> None:
            move(session, event)
            session.rate_limiter.open = False

        patch.setattr(Session, "move", move_and_shut)
        assert Story().play(plan) == short


def test_the_compiled_path_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """The compiled path is really taken; otherwise the tests above would compare the Python path with itself."""
    world = World()
    ann, bob = world.person("ann"), world.person("bob")
    monkeypatch.setattr(Session, "dispatch", None)
    ann.send({"type": "cursor", "roomId": "video_123", "data": {"timestamp": 1, "x": 0.5, "y": 0.5}})
    assert bob.last("cursor_moved")["data"]["x"] == 0.5
