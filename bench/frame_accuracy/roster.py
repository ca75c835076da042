"""Judges who is listed in a room: no ghost, all who are there, and the same identity after each return.

Times are wall times in ms. Each user has one session at a time. `Roster` is told what the users' own clients say, and
compares that with the room's sessions as another member receives them. Pure.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

NOTICE_MS = 3000.0  # until others have received a change, on a busy machine


@dataclass(frozen=True)
class Identity:
    """What others recognise a user by."""

    session_id: str
    color: str


@dataclass(frozen=True)
class Return:
    """A client's word after a loss of its connection: whether others have seen no leave, and how long it was away."""

    resumed: bool
    away_ms: float


class Roster:
    """The users of one room. `grace_ms`: how long the place of a lost connection is kept."""

    def __init__(self, grace_ms: float) -> None:
        self._grace_ms = grace_ms
        self._identities: dict[str, Identity] = {}  # by user: the last one, whether present or not
        self._left: set[str] = set()  # sessions that have ended on purpose
        self._unexpected: dict[str, float] = {}  # listed sessions of nobody who is there: since when
        self._missing: dict[str, float] = {}  # sessions of users who are there and not listed: since when
        self.violations: list[str] = []
        self.new_identities = 0  # after long absences

    def session_of(self, user: str) -> str | None:
        """Return the user's last known session."""
        known = self._identities.get(user)
        return None if known is None else known.session_id

    def leave(self, user: str) -> None:
        """Record that a user has ended the session: another one follows, without a grace period."""
        known = self._identities.pop(user, None)
        if known is not None:
            self._left.add(known.session_id)

    def note(self, user: str, identity: Identity, returns: Iterable[Return] = ()) -> None:
        """Record who a user is, and the client's returns since the last time. The identity may change only by an
        absence of about the grace period or more, and then the client has to say so."""
        before = self._identities.get(user)
        self._identities[user] = identity
        if before is None:
            return
        returns = list(returns)
        if before.session_id != identity.session_id:
            self.new_identities += 1
            if not any(not each.resumed and each.away_ms >= self._grace_ms - NOTICE_MS for each in returns):
                self.violations.append(f"{user} was {before} and is {identity}, with {returns}")
        elif before.color != identity.color:
            self.violations.append(f"{user} has changed from {before} to {identity}")
        elif any(not each.resumed for each in returns):
            self.violations.append(f"{user} is {identity} as before, and says {returns}")

    def judge(self, present: Iterable[str], silent: Iterable[str], listed: Mapping[str, str], at: float) -> None:
        """Compare the users who are there with the listed sessions, each with its user. The `silent` ones cannot say
        whether they are there: they may be listed."""
        expected = {self._identities[user].session_id: user for user in present if user in self._identities}
        possible = {self._identities[user].session_id for user in silent if user in self._identities}
        self._unexpected = {
            session_id: self._unexpected.get(session_id, at)
            for session_id in listed
            if session_id not in expected and session_id not in possible
        }
        for session_id, since in self._unexpected.items():
            limit_ms = NOTICE_MS + (0.0 if session_id in self._left else self._grace_ms)
            if at - since > limit_ms:
                self.violations.append(f"{session_id} of {listed[session_id]} is a ghost, for {at - since:.0f} ms")
        self._missing = {
            session_id: self._missing.get(session_id, at)
            for session_id, user in expected.items()
            if listed.get(session_id) != user
        }
        for session_id, since in self._missing.items():
            if at - since > NOTICE_MS:
                self.violations.append(f"{expected[session_id]} is not listed as {session_id}")
