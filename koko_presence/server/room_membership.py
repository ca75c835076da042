"""Defines the membership of one session in one room, as the edge of the session sees it: a table of its states, and one
object with all that belongs to it.

A block of `TRANSITIONS` is one event. `Memberships` alone takes the steps and carries out the actions; the hub and the
room's subscription send it the events. A session has one `RoomMembership` for each room that it is in, joins or has
left lately; one that holds nothing any more is dropped (`is_over`).
"""

from __future__ import annotations

from koko_presence._fastpath.flush_scheduler import CursorRoute
from koko_presence.protocol.commands import ChangeGrant, EnterRoom, LeaveRoom
from koko_presence.protocol.messages import CursorMessage, SelectionMessage

from .held_messages import HeldBytes, HeldQueue

# Longer than a worker that hangs is kept. So long a leave is remembered after it was sent: the room's owner answers it,
# and the user's owner may be lost before another worker has the leave. So long the second answer to a join that was
# repeated after the loss of an owner may arrive.
LEAVING_S = 10.0

ABSENT = "absent"  # neither in the room nor joining it; a leave may be without an answer
CHECKING = "checking"  # the access check of a join has no answer yet
JOINING = "joining"  # a join was sent to the owner, which has not answered
JOINED = "joined"  # a member without the room's stream, as after a resume [C4]
REJOINING = "rejoining"  # the same, and a join was sent
SUBSCRIBED = "subscribed"  # a member that receives the room's stream
LEAVING = "leaving"  # not a member any more; the stream has not ended
EXPELLED = "expelled"  # not a member any more; all of the room is dropped until its stream has ended
# a new join, while the stream of the earlier membership has not ended
CHECKING_LEAVING = "checking, leaving"
JOINING_LEAVING = "joining, leaving"
CHECKING_EXPELLED = "checking, expelled"

STATES = (
    ABSENT, CHECKING, JOINING, JOINED, REJOINING, SUBSCRIBED, LEAVING, EXPELLED, CHECKING_LEAVING, JOINING_LEAVING,
    CHECKING_EXPELLED,
)  # fmt: skip

IN_ROOM = frozenset((JOINED, REJOINING, SUBSCRIBED))  # the client may act in the room
HOLDING = frozenset((CHECKING, JOINING, CHECKING_LEAVING, JOINING_LEAVING, CHECKING_EXPELLED))  # messages are held
STREAMING = frozenset((SUBSCRIBED, LEAVING, CHECKING_LEAVING, JOINING_LEAVING))  # the room's stream is delivered
DISCARDING = frozenset((EXPELLED, CHECKING_EXPELLED))  # what arrives of the room is dropped

# (state, event) -> (next state, action of `Memberships`); "": no action. A pair that is not in the table cannot occur.
# tests/unit/server/test_room_membership.py has the reason for each of these.
TRANSITIONS: dict[tuple[str, str], tuple[str, str]] = {
    # the session was resumed with this room
    (ABSENT, "resumed"): (JOINED, ""),
    # the client's join; its messages for the room are held from now on, unless it is in the room
    (ABSENT, "join"): (CHECKING, "check"),
    (JOINED, "join"): (JOINED, "check"),
    (REJOINING, "join"): (REJOINING, "check"),
    (SUBSCRIBED, "join"): (SUBSCRIBED, "check"),
    (LEAVING, "join"): (CHECKING_LEAVING, "check"),
    (EXPELLED, "join"): (CHECKING_EXPELLED, "check"),
    # the same, while a join that was sent in the membership before has no answer
    (ABSENT, "join_again"): (JOINING, "check"),
    # the access check permits the join
    (ABSENT, "granted"): (ABSENT, ""),  # left, or expelled, during the check
    (CHECKING, "granted"): (JOINING, "send_join"),
    (JOINING, "granted"): (JOINING, "send_join"),  # the check of an earlier join of the same room
    (JOINED, "granted"): (REJOINING, "send_join"),
    (REJOINING, "granted"): (REJOINING, "send_join"),
    (SUBSCRIBED, "granted"): (SUBSCRIBED, "send_join"),
    (LEAVING, "granted"): (LEAVING, ""),
    (EXPELLED, "granted"): (EXPELLED, ""),
    (CHECKING_LEAVING, "granted"): (JOINING_LEAVING, "send_join"),
    (JOINING_LEAVING, "granted"): (JOINING_LEAVING, "send_join"),
    (CHECKING_EXPELLED, "granted"): (JOINING, "send_join"),
    # the access check does not permit the join
    (ABSENT, "denied"): (ABSENT, ""),
    (CHECKING, "denied"): (ABSENT, "deny"),
    (JOINING, "denied"): (ABSENT, "deny"),
    (JOINED, "denied"): (JOINED, "deny"),
    (REJOINING, "denied"): (JOINED, "deny"),
    (SUBSCRIBED, "denied"): (SUBSCRIBED, "deny"),
    (LEAVING, "denied"): (LEAVING, ""),
    (EXPELLED, "denied"): (EXPELLED, ""),
    (CHECKING_LEAVING, "denied"): (LEAVING, "deny"),
    (JOINING_LEAVING, "denied"): (LEAVING, "deny"),
    (CHECKING_EXPELLED, "denied"): (EXPELLED, "deny"),
    # the first frame of the room's stream has been written: the answer to a join of the client, or of a call [M1]
    (ABSENT, "attached"): (SUBSCRIBED, "subscribe"),
    (CHECKING, "attached"): (SUBSCRIBED, "subscribe"),
    (JOINING, "attached"): (SUBSCRIBED, "subscribe"),
    (JOINED, "attached"): (SUBSCRIBED, "subscribe"),
    (REJOINING, "attached"): (SUBSCRIBED, "subscribe"),
    (SUBSCRIBED, "attached"): (SUBSCRIBED, "subscribe"),
    (LEAVING, "attached"): (SUBSCRIBED, "subscribe"),
    (CHECKING_LEAVING, "attached"): (SUBSCRIBED, "subscribe"),
    (JOINING_LEAVING, "attached"): (SUBSCRIBED, "subscribe"),
    # the same, by a join that was repeated after the loss of an owner, and that the client knows as refused
    (ABSENT, "attached_after_refusal"): (LEAVING, "take_back"),
    (LEAVING, "attached_after_refusal"): (LEAVING, "take_back"),
    # the last frame of the room's stream has been written
    (ABSENT, "detached"): (ABSENT, ""),
    (CHECKING, "detached"): (CHECKING, ""),
    (JOINING, "detached"): (JOINING, ""),
    (JOINED, "detached"): (JOINED, ""),
    (REJOINING, "detached"): (REJOINING, ""),
    (SUBSCRIBED, "detached"): (ABSENT, "note_left"),
    (LEAVING, "detached"): (ABSENT, "note_left"),
    (EXPELLED, "detached"): (ABSENT, "note_left"),
    (CHECKING_LEAVING, "detached"): (CHECKING, "note_left"),
    (JOINING_LEAVING, "detached"): (JOINING, ""),
    (CHECKING_EXPELLED, "detached"): (CHECKING, "note_left"),
    # the client's leave
    (JOINED, "leave"): (ABSENT, "send_leave"),
    (REJOINING, "leave"): (ABSENT, "send_leave"),
    (SUBSCRIBED, "leave"): (LEAVING, "send_leave"),
    # the owner's answer to a leave, without a stream
    (ABSENT, "left"): (ABSENT, "tell_left"),
    (CHECKING, "left"): (CHECKING, "tell_left"),
    (JOINED, "left"): (ABSENT, "leave_resumed"),
    (SUBSCRIBED, "left"): (ABSENT, "tell_left"),
    (LEAVING, "left"): (ABSENT, "tell_left"),
    (EXPELLED, "left"): (EXPELLED, "tell_left"),
    (CHECKING_LEAVING, "left"): (CHECKING, "tell_left"),
    (CHECKING_EXPELLED, "left"): (CHECKING_EXPELLED, "tell_left"),
    # the session is expelled; only a stream or a join that was sent has anything to discard
    (CHECKING, "expel"): (ABSENT, "expel"),
    (JOINING, "expel"): (EXPELLED, "expel"),
    (JOINED, "expel"): (ABSENT, "expel"),
    (REJOINING, "expel"): (EXPELLED, "expel"),
    (SUBSCRIBED, "expel"): (EXPELLED, "expel"),
    (CHECKING_LEAVING, "expel"): (EXPELLED, "expel"),
    (JOINING_LEAVING, "expel"): (EXPELLED, "expel"),
    (CHECKING_EXPELLED, "expel"): (EXPELLED, "expel"),
    # the owner refuses the join, and the session is not a member
    (ABSENT, "refused"): (ABSENT, "tell_refusal"),
    (CHECKING, "refused"): (ABSENT, "tell_refusal"),
    (JOINING, "refused"): (ABSENT, "tell_refusal"),
    (JOINED, "refused"): (ABSENT, "tell_refusal"),
    (REJOINING, "refused"): (ABSENT, "tell_refusal"),
    (SUBSCRIBED, "refused"): (SUBSCRIBED, "tell_refusal"),  # the end of the stream is still on its way
    (LEAVING, "refused"): (LEAVING, "tell_refusal"),
    (EXPELLED, "refused"): (ABSENT, "end_join"),
    (CHECKING_LEAVING, "refused"): (LEAVING, "tell_refusal"),
    (JOINING_LEAVING, "refused"): (LEAVING, "tell_refusal"),
    (CHECKING_EXPELLED, "refused"): (ABSENT, "end_join"),
    # the owner refuses the join, and the membership before remains
    (ABSENT, "refused_in_room"): (ABSENT, "tell_refusal"),
    (CHECKING, "refused_in_room"): (ABSENT, "tell_refusal"),
    (JOINING, "refused_in_room"): (ABSENT, "tell_refusal"),
    (JOINED, "refused_in_room"): (JOINED, "tell_refusal"),
    (REJOINING, "refused_in_room"): (JOINED, "tell_refusal"),
    (SUBSCRIBED, "refused_in_room"): (SUBSCRIBED, "tell_refusal"),
    (LEAVING, "refused_in_room"): (LEAVING, "tell_refusal"),
    (EXPELLED, "refused_in_room"): (ABSENT, "end_join"),
    (CHECKING_LEAVING, "refused_in_room"): (LEAVING, "tell_refusal"),
    (JOINING_LEAVING, "refused_in_room"): (LEAVING, "tell_refusal"),
    (CHECKING_EXPELLED, "refused_in_room"): (ABSENT, "end_join"),
    # the user may see the room (getActive of a room that the session is not in)
    (ABSENT, "seen"): (ABSENT, ""),
    (CHECKING, "seen"): (CHECKING, ""),
    (JOINING, "seen"): (JOINING, ""),
    (JOINED, "seen"): (JOINED, ""),
    (REJOINING, "seen"): (REJOINING, ""),
    (SUBSCRIBED, "seen"): (SUBSCRIBED, ""),
    (LEAVING, "seen"): (LEAVING, ""),
    (EXPELLED, "seen"): (ABSENT, ""),
    (CHECKING_LEAVING, "seen"): (CHECKING_LEAVING, ""),
    (JOINING_LEAVING, "seen"): (JOINING_LEAVING, ""),
    (CHECKING_EXPELLED, "seen"): (CHECKING, ""),
    # an owner was lost: it sends nothing more, so nothing of the room is left to be dropped
    (ABSENT, "owner_lost"): (ABSENT, ""),
    (CHECKING, "owner_lost"): (CHECKING, ""),
    (JOINING, "owner_lost"): (JOINING, ""),
    (JOINED, "owner_lost"): (JOINED, ""),
    (REJOINING, "owner_lost"): (REJOINING, ""),
    (SUBSCRIBED, "owner_lost"): (SUBSCRIBED, ""),
    (LEAVING, "owner_lost"): (LEAVING, ""),
    (EXPELLED, "owner_lost"): (ABSENT, ""),
    (CHECKING_LEAVING, "owner_lost"): (CHECKING_LEAVING, ""),
    (JOINING_LEAVING, "owner_lost"): (JOINING_LEAVING, ""),
    (CHECKING_EXPELLED, "owner_lost"): (CHECKING, ""),
    # an owner was lost before it answered a leave: the next one may not have the member, and then sends no `left`
    (SUBSCRIBED, "leave_unanswered"): (JOINED, "acknowledge_leave"),
    (LEAVING, "leave_unanswered"): (ABSENT, "acknowledge_leave"),
    (CHECKING_LEAVING, "leave_unanswered"): (CHECKING, "acknowledge_leave"),
}

EVENTS = tuple(dict.fromkeys(event for _, event in TRANSITIONS))

# the stages of a leave
SENT, ACKNOWLEDGED, ANSWERED = "sent", "acknowledged", "answered"


class RoomMembership:
    """One session's membership in one room. Written by the session's `Memberships`.

    `state` is one of `STATES`. `began_at` is the monotonic second of the join that is not completed. `join`: the join
    that was sent and has no answer. `repeated_at`: when it was repeated after the loss of an owner, so that a second
    answer may arrive; `refused_at`: when the first of two answers refused it. `leave`: the last leave, sent at
    `leave_at`, and its stage `leave_stage`: `SENT`, `ACKNOWLEDGED` to the client by the edge, or `ANSWERED` by the
    owner. `superseded_leave`: the leave before the join that was sent, in case the join is refused. `grant`: the last
    change of permissions, sent at `granted_at`; it has no answer. `undecided`: the last access check had no answer.
    `outdated`: the join was sent with an earlier token. `held`: the client's messages for the room that wait for the
    join. `cursor` and `selection`: the newest values that wait for the session's rates [E2]. `route`: the compiled
    route of the session's cursors. `hidden_presence`: its presence object was changed while it was invisible [P3].
    """

    __slots__ = (
        "began_at", "cursor", "grant", "granted_at", "held", "hidden_presence", "join", "leave", "leave_at",
        "leave_stage", "outdated",
        "refused_at", "repeated_at", "room_id", "route", "selection", "state", "superseded_leave", "undecided",
    )  # fmt: skip

    def __init__(self, room_id: str) -> None:
        self.room_id = room_id
        self.state = ABSENT
        self.began_at: float | None = None
        self.join: EnterRoom | None = None
        self.repeated_at: float | None = None
        self.refused_at: float | None = None
        self.leave: LeaveRoom | None = None
        self.leave_at = 0.0
        self.leave_stage = ""
        self.superseded_leave: LeaveRoom | None = None
        self.grant: ChangeGrant | None = None
        self.granted_at = 0.0
        self.undecided = False
        self.outdated = False
        self.held: HeldQueue | None = None
        self.cursor: CursorMessage | None = None
        self.selection: SelectionMessage | None = None
        self.route: CursorRoute | None = None
        self.hidden_presence = False

    def move(self, event: str) -> str:
        """Change the state by the table and return the action. Errors: KeyError for a pair that is not in the table, a
        fault of the caller."""
        self.state, action = TRANSITIONS[self.state, event]
        return action

    # --- queries --------------------------------------------------------------------------------------------------

    @property
    def is_current(self) -> bool:
        """True when the session is in the room or joins it."""
        return self.state in IN_ROOM or self.state in HOLDING

    @property
    def is_present(self) -> bool:
        """True when the edge reports the session to the room's next owner: it is in the room, receives its stream, or
        has sent a join that is not answered."""
        return self.state in IN_ROOM or self.state in STREAMING or self.join is not None

    @property
    def is_superseded(self) -> bool:
        """True when an answer to a leave is out of date: the client has the acknowledgement, or joins again. A session
        that was resumed with the room, and joins it, may get the answer to a leave of an earlier connection. Behind an
        acknowledgement the next owner may have shown the room once more, before it had the leave."""
        joins = self.join is not None or (self.state == JOINED and self.began_at is not None)
        return joins or (self.leave_stage == ACKNOWLEDGED and self.state != SUBSCRIBED)

    def left_reason(self, now: float) -> str | None:
        """The reason of a leave that was sent within LEAVING_S and is answered; None without one."""
        if self.leave is None or self.leave_stage != ANSWERED or now - self.leave_at >= LEAVING_S:
            return None
        return self.leave.reason

    def is_over(self, now: float) -> bool:
        """True when the membership holds nothing any more."""
        return (
            self.state == ABSENT
            and self.join is None
            and (self.leave is None or now - self.leave_at >= LEAVING_S)
            and (self.refused_at is None or now - self.refused_at >= LEAVING_S)
            and (self.repeated_at is None or now - self.repeated_at >= LEAVING_S)
        )

    # --- joins ----------------------------------------------------------------------------------------------------

    def begin(self, now: float) -> None:
        """Record a join of the client."""
        self.began_at = now

    def note_wait(self, seconds: float) -> None:
        """Exclude a wait for the authoriser from the duration of the join."""
        if self.began_at is not None:
            self.began_at += seconds

    def note_outdated(self) -> None:
        """Record that the pending join, if there is one, was requested with an earlier token."""
        if self.began_at is not None:
            self.outdated = True

    def note_join_sent(self, command: EnterRoom) -> None:
        """Record a join that is sent; it carries its own permissions, and it supersedes an earlier leave."""
        self.join = command
        self.repeated_at = self.refused_at = self.grant = None
        if self.leave_stage == SENT:
            self.superseded_leave = self.leave
        self._forget_leave()

    def note_repeated(self, now: float) -> None:
        """Record that the join is sent once more, after the loss of an owner."""
        self.repeated_at = now

    def note_refused(self, now: float) -> bool:
        """Record that the owner refuses a join. Returns False when the join was repeated and its first answer has
        entered the room."""
        if self.repeated_at is not None:
            self.repeated_at = None
            if self.join is None:
                return False
            self.refused_at = now
        return True

    def take_refusal(self, now: float) -> bool:
        """True when the first answer to a repeated join refused it within LEAVING_S; the record is removed."""
        refused_at, self.refused_at = self.refused_at, None
        return refused_at is not None and now - refused_at < LEAVING_S

    def take_began_at(self) -> float | None:
        """Remove and return the monotonic second at which the client began to join; None without a pending join."""
        began_at, self.began_at = self.began_at, None
        return began_at

    def end_join(self) -> None:
        """Record that the join is refused, by the owner or by the access check. While the stream of the membership
        before has not ended, the leave before the join has no answer: it counts again, and is repeated when an owner is
        lost."""
        self.began_at = None
        self.outdated = False
        if self.state == LEAVING and self.leave is None and self.superseded_leave is not None:
            self.leave, self.leave_stage = self.superseded_leave, SENT

    def note_entered(self) -> None:
        """Drop the record of an answered leave: the session is in the room again, over its socket or by a call."""
        if self.leave_stage == ANSWERED:
            self._forget_leave()

    def take_outdated(self) -> bool:
        """True when the join was requested with an earlier token; the mark is removed."""
        outdated, self.outdated = self.outdated, False
        return outdated

    # --- leaves and permissions -----------------------------------------------------------------------------------

    def note_leave_sent(self, command: LeaveRoom, now: float) -> None:
        """Record a leave that is sent; it supersedes a join."""
        self.join = self.began_at = None
        self.leave, self.leave_at, self.leave_stage = command, now, SENT
        self.superseded_leave = None

    def note_acknowledged(self) -> None:
        """Record that the edge has acknowledged the leave to the client before the owner."""
        self.leave_stage = ACKNOWLEDGED

    def note_left(self) -> None:
        """Record the owner's answer to a leave."""
        if self.leave is not None:
            self.leave_stage = ANSWERED

    def _forget_leave(self) -> None:
        self.leave, self.leave_stage = None, ""

    def note_granted(self, command: ChangeGrant, now: float) -> None:
        """Record new permissions that are sent."""
        self.grant, self.granted_at = command, now

    def set_undecided(self, *, undecided: bool) -> None:
        """Record whether the last access check had no answer."""
        self.undecided = undecided

    def expire(self, now: float) -> None:
        """Drop a leave and permissions that were sent LEAVING_S ago."""
        if self.leave is not None and now - self.leave_at >= LEAVING_S:
            self._forget_leave()
        if self.grant is not None and now - self.granted_at >= LEAVING_S:
            self.grant = None

    def forget_member(self) -> bool:
        """Drop what belongs to a member only. Returns True when a cursor or selection waited."""
        waited = self.cursor is not None or self.selection is not None
        self.cursor = self.selection = self.grant = None
        self.undecided = self.outdated = self.hidden_presence = False
        if self.join is None:
            self.began_at = None
        return waited

    # --- held messages and waiting values -------------------------------------------------------------------------

    def held_queue(self, budget: HeldBytes) -> HeldQueue:
        """The queue of held messages, which is made with the first one."""
        if self.held is None:
            self.held = HeldQueue(budget)
        return self.held

    def take_held(self) -> list[bytes]:
        """Remove and return the held messages, oldest first; the join has been answered."""
        self.join = None
        held, self.held = self.held, None
        return [] if held is None else held.take()

    def waiting(self, kind: str) -> CursorMessage | SelectionMessage | None:
        """The waiting "cursor" or "selection"; None without one."""
        return self.cursor if kind == "cursor" else self.selection

    def hold_waiting(self, message: CursorMessage | SelectionMessage) -> bool:
        """Keep a value as the waiting one of its kind. Returns True when it has replaced another one."""
        if isinstance(message, CursorMessage):
            before: CursorMessage | SelectionMessage | None = self.cursor
            self.cursor = message
        else:
            before, self.selection = self.selection, message
        return before is not None

    def drop_waiting(self, kind: str) -> None:
        """Drop the waiting "cursor" or "selection"."""
        if kind == "cursor":
            self.cursor = None
        else:
            self.selection = None

    def note_hidden_presence(self) -> None:
        """Record that the presence object was changed while the session is invisible."""
        self.hidden_presence = True

    def take_hidden_presence(self) -> bool:
        """True when the presence object was changed while the session was invisible; the record is removed."""
        hidden, self.hidden_presence = self.hidden_presence, False
        return hidden

    def replace_route(self, route: CursorRoute | None) -> CursorRoute | None:
        """Set the cursor route, None for none, and return the one before."""
        before, self.route = self.route, route
        return before
