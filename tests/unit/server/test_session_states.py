"""The states of a session are a table; this test walks each cell of it."""

import pytest

from koko_presence.server.session_states import TRANSITIONS
from tests.world import World

STATES = ("new", "verifying", "opening", "open", "closed")
EVENTS = ("auth", "verified", "opened", "over", "end")


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("event", EVENTS)
def test_every_cell(state: str, event: str) -> None:
    session = World().client().session
    session.state = state
    if (state, event) in TRANSITIONS:
        session.move(event)
        assert session.state == TRANSITIONS[state, event]
    else:
        with pytest.raises(KeyError):
            session.move(event)
        assert session.state == state


def test_the_table_is_whole() -> None:
    assert {state for state, _ in TRANSITIONS} | set(TRANSITIONS.values()) == set(STATES)
    assert {event for _, event in TRANSITIONS} == set(EVENTS)
    assert all((state, "end") in TRANSITIONS for state in STATES if state != "closed"), "everything can end"
    assert not any(state == "closed" for state, _ in TRANSITIONS), "and nothing comes after"


def test_the_life_of_a_session() -> None:
    client = World().client()
    assert client.session.state == "new"
    client.auth("ann")
    assert client.session.state == "open"
    client.hang_up(1000)
    assert client.session.state == "closed"
    client.session.on_text(b'{"type":"heartbeat"}')
    client.session.on_close(1006, False)
    assert client.session.state == "closed"
