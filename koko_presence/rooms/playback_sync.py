"""Handles synchronised playback: playback commands, viewers' reports, and the requests for control [H, I]."""

from msgspec import UNSET, to_builtins

from koko_presence._fastpath.fanout import StreamFrame
from koko_presence.protocol.errors import PresenceError
from koko_presence.protocol.events import ControlDenied, ControlRequested, ViewerSync
from koko_presence.protocol.messages import (
    ControlCancel,
    ControlDeny,
    ControlGrant,
    ControlRelease,
    ControlRequest,
    MediaData,
    PlaybackData,
    PlaybackMessage,
)
from koko_presence.protocol.survey import SYSTEM

from .member import Member
from .message_handlers import Result, handles
from .playback import IN_STEP, Playback, Viewer, acted_at, is_too_old
from .presence_state import COALESCED_VALUES, CoalescedValue, spend, submit
from .room import Room
from .room_state import SYNCED_TYPES
from .snapshot_view import synced
from .wait import WAITS_AGAIN_S, Wait

LONGEST_AUTO_DELAY_S = 0.5


@handles(PlaybackMessage)
def handle_playback(room: Room, member: Member, message: PlaybackMessage, now: float) -> Result:
    """presence.syncPlayback. Errors: SYNC_DISABLED [H13], INVISIBLE [K3], NOT_CONTROLLER with the state [H1],
    FORBIDDEN, STALE with the state [H4, H16, H19], INVALID_DATA for a step without a frame rate [H21]."""
    data = message.data
    check_has_playback(room, member)
    if data.action in ("enable", "disable"):
        return _switch_sync(room, member, message, now)
    if not room.sync_enabled:
        raise PresenceError("SYNC_DISABLED")
    if data.action == "report":
        if is_too_old(data, room.context.wall, now):
            return {"success": True}
        submit(room, member, "report", (data, acted_at(data, room.context.wall, now)), now)
        return {"success": True}
    if data.action == "resync":
        _resync(room, member, now)
        return {"success": True}
    check_may_play(room, member)
    check_age(room, data, now)
    playback = room.playback
    is_late = isinstance(data.base_version, int) and playback is not None and playback.is_late(data.base_version)
    if is_late or room.targets.is_other(data.target, data.media_id):
        raise PresenceError("STALE", state=None if playback is None else playback.row(room.context.wall))
    at = acted_at(data, room.context.wall, now)
    if playback is None:
        playback = Playback(at, room.targets)
    if data.action == "step" and not playback.may_step(data.target if isinstance(data.target, str) else None, at):
        raise PresenceError(
            "INVALID_DATA", "A step needs a medium with a frame rate at this position: set it with media, frameRate."
        )
    room.playback = playback
    member.last_active_at = now
    playback.apply(data, at, _start_delay_s(room, data))
    room.schedule_end()
    if data.action not in ("seek", "rate"):  # a person has decided whether the video plays
        end_wait(room, now)
    if room.control.user_id == member.user_id and not member.leased:
        room.control.session_id = member.session_id  # another session of the controller takes over [H2]
    room.playback_waits = (member.user_id, member.session_id, data.action)
    release_playback(room, now)
    return {"success": True, **_state(playback, room)}


def repeated_answer(room: Room) -> Result:
    """Return the answer to a command that was done before the loss of the room's owner, and has arrived again."""
    return {"success": True, **({} if room.playback is None else _state(room.playback, room))}


def end_playback(room: Room, now: float) -> None:
    """Stop the room at its end and broadcast that, as user `system` [H20]. While synchronisation is off players are
    left alone, and nothing is broadcast."""
    assert room.playback is not None
    room.playback.stop_at_end()
    if not room.sync_enabled:
        return
    room.playback_waits = (SYSTEM, SYSTEM, "end")
    release_playback(room, now, at_once=True)


def release_playback(room: Room, now: float, *, at_once: bool = False) -> None:
    """Broadcast the state after the last command, or wait for its sender's budget: the state is coalesced, and later
    commands change it meanwhile [H11]. `at_once`: ignore the budget."""
    if room.playback_waits is None:
        return
    user_id, session_id, action = room.playback_waits
    person = room.people.get(user_id)  # a user who has left meanwhile has no budget to wait for
    budget = None if person is None else person.budgets["playback"]
    if budget is not None and not budget.take(now) and not at_once:
        room.context.deadlines.set(("playback", room.id, ""), budget.ready_at(now))
        return
    note_superseded(room)
    room.urgent = True
    data = synced(room, action, now)
    room.out.append(StreamFrame(room.frame(data, user_id, session_id, now, public=True)))


def note_superseded(room: Room) -> None:
    """Forget a broadcast that waits for its sender's budget: another event has the state [H11]."""
    room.playback_waits = None
    room.context.deadlines.cancel(("playback", room.id, ""))


def _start_delay_s(room: Room, data: PlaybackData) -> float:
    """Return by how many seconds a `play` is delayed. "auto": twice the longest round trip of a visible follower, as
    far as they are known, at most half a second [H10]."""
    if data.action != "play" or data.start_delay_ms is UNSET:
        return 0.0
    if data.start_delay_ms != "auto":
        return data.start_delay_ms / 1000.0
    longest_s = max((m.round_trip_s for m in room.members.values() if m.visible and _follows(m)), default=0.0)
    return min(LONGEST_AUTO_DELAY_S, 2.0 * longest_s)


def _resync(room: Room, member: Member, now: float) -> None:
    """Send the present state to this member only, for the "Resync" button [H15]."""
    if room.playback is not None:
        data = synced(room, "resync", now)
        frame = room.frame(data, member.user_id, member.session_id, now, public=False)
        room.out.append(StreamFrame(frame, only=member.session_id))


def _switch_sync(room: Room, member: Member, message: PlaybackMessage, now: float) -> Result:
    _check_visible(member)
    if not (member.moderator or (room.control.user_id == member.user_id)):
        raise PresenceError("NOT_CONTROLLER", "Only the controller or a moderator may switch synchronisation.")
    check_age(room, message.data, now)
    room.sync_enabled = message.data.action == "enable"
    if room.playback is None:
        room.playback = Playback(now, room.targets)
    if room.wait is not None:  # all players were asked to stop
        end_wait(room, now)
        room.playback.switch(now, plays=True)
        room.schedule_end()
    room.playback_waits = (member.user_id, member.session_id, message.data.action)
    release_playback(room, now)
    return {"success": True, "syncEnabled": room.sync_enabled}


def check_may_play(room: Room, member: Member) -> None:
    """Errors: INVISIBLE [K3], and with the state NOT_CONTROLLER [H1] and FORBIDDEN."""
    _check_visible(member)
    state = room.playback.row(room.context.wall) if room.playback is not None and room.playback.version else None
    if not member.may_play:
        raise PresenceError("FORBIDDEN", "Your token has no 'control' scope for this room.", state=state)
    mode = room.control_mode
    if room.control.user_id is not None:
        if room.control.user_id != member.user_id:
            raise PresenceError("NOT_CONTROLLER", state=state)
        return
    if mode == "controller" or (mode == "moderators" and not member.moderator):
        raise PresenceError("NOT_CONTROLLER", "Ask for control first, with control_request.", state=state)


def check_age(room: Room, data: PlaybackData | MediaData, now: float) -> None:
    """Errors: STALE with the state for a command that is older than its `max_age_ms` [H4]."""
    if is_too_old(data, room.context.wall, now):
        state = room.playback.row(room.context.wall) if room.playback is not None and room.playback.version else None
        raise PresenceError("STALE", "The command is older than its maxAgeMs. See state.", state=state)


def _state(playback: Playback, room: Room) -> dict[str, object]:
    """Return the state for an answer, as it is in snapshots."""
    return dict(to_builtins(playback.row(room.context.wall)))


# --- viewers [H6, H7] ---------------------------------------------------------------------------------------------


def _take_report(room: Room, member: Member, report: tuple[PlaybackData, float], now: float) -> None:
    data, at = report
    if member.viewer is None:
        member.viewer = Viewer()
    changed = member.viewer.take(data, room.playback, at, now)
    deadlines, limits = room.context.deadlines, room.context.limits
    deadlines.set(("report_stale", room.id, member.session_id), now + limits.report_fresh_s)
    # a paused video counts as watched while the user is active [D15]
    _set_watching(room, member, data.is_playing is True or member.person.profile.activity == "active", now)
    if changed:
        _emit_viewer(room, member, now)
    _wait_for(room, member, member.viewer, now)


def lapse_report(room: Room, member: Member, now: float) -> None:
    """Handle the lack of a report for 10 s: the viewer's state is unknown [D15, H7]."""
    _set_watching(room, member, False, now)
    if member.viewer is not None and member.viewer.lapse():
        _emit_viewer(room, member, now)
        _judge_viewer(room, member, now)


def _set_watching(room: Room, member: Member, watching: bool, now: float) -> None:
    if member.watching != watching:
        member.watching = watching
        room.emit_status(member, now)


def _emit_viewer(room: Room, member: Member, now: float) -> None:
    viewer = member.viewer
    assert viewer is not None
    synced, total = sync_totals(room)
    data = ViewerSync(
        state=viewer.sync,
        drift_ms=viewer.drift_ms,
        drift_frames=UNSET if viewer.drift_frames is None else viewer.drift_frames,
        synced=synced,
        total=total,
    )
    room.emit(member, data, now)


def sync_totals(room: Room) -> tuple[int, int]:
    """Return the number of visible users that are in sync, and of those that follow, for "Viewers synced 4/5". The
    controller is the reference and counts as synced unless its own reports differ [H7]."""
    synced = total = 0
    for person in room.people.values():
        sessions = [m for m in person.members.values() if m.visible and _follows(m)]
        if not sessions:
            continue
        total += 1
        states = {m.viewer.sync for m in sessions if m.viewer is not None} - {"unknown"}
        synced += not states.isdisjoint(IN_STEP) or (not states and person.user_id == room.control.user_id)
    return synced, total


def _follows(member: Member) -> bool:
    # a session without a socket receives no events to follow, unless its own reports contain that it does [M2]
    return not member.leased if member.viewer is None else member.viewer.following


COALESCED_VALUES["report"] = CoalescedValue(lambda member: member.report, _take_report, public=False)


# --- the room waits for viewers who buffer [H9] -------------------------------------------------------------------


def _wait_for(room: Room, member: Member, viewer: Viewer, now: float) -> None:
    """Stop the playback for a viewer who buffers while it plays, or add the viewer to those that are waited for: at
    most once in `WAITS_AGAIN_S` for each user, not for a newcomer, and within the limit of `WaitTimes`. A report of one
    that is waited for may end the wait."""
    wait, playback, person = room.wait, room.playback, member.person
    if wait is not None and member.session_id in wait.viewers:
        _judge_viewer(room, member, now)
        return
    if playback is None or not room.sync_enabled or viewer.is_newcomer or not _buffers(member):
        return
    if wait is not None and not wait.viewers.keys().isdisjoint(person.members):  # for another session of the user
        wait.viewers[member.session_id] = member.user_id
        return
    if now < person.waited_at + WAITS_AGAIN_S:
        return
    if wait is None:
        longest_s = room.wait_times.left_s(room.wait_for_viewers_s, now)
        if not (playback.is_playing and longest_s):
            return
        wait = room.wait = Wait(now, now + longest_s)
        room.context.deadlines.set(("wait", room.id, ""), wait.until)
    person.waited_at = now
    wait.viewers[member.session_id] = member.user_id
    if member.user_id in wait.users:  # else the event would be as the one before
        _switch_by_system(room, "wait", now, plays=False)


def _judge_viewer(room: Room, member: Member, now: float) -> None:
    """Remove a viewer that can play again from those that are waited for; go on playing when it was the last one."""
    if room.wait is not None and member.session_id in room.wait.viewers and not _buffers(member):
        del room.wait.viewers[member.session_id]
        judge_wait(room, now)


def judge_wait(room: Room, now: float) -> None:
    """Go on playing when no viewer is waited for any more, or time is up [H9]."""
    wait = room.wait
    if wait is None:
        return
    if now < wait.until and wait.viewers:
        room.context.deadlines.set(("wait", room.id, ""), wait.until)
        return
    end_wait(room, now)
    _switch_by_system(room, "play", now, plays=True)


def _buffers(member: Member) -> bool:
    """Return whether a viewer who sees the room's events and follows them has run out of data."""
    viewer = member.viewer
    if viewer is None or not (member.visible and member.connected) or member.leased:
        return False
    return viewer.following and viewer.sync == "buffering"


def end_wait(room: Room, now: float) -> None:
    """End the wait for viewers, if there is one; the playback stays as it is."""
    if room.wait is not None:
        room.wait_times.add(room.wait, now)
    room.wait = None
    room.context.deadlines.cancel(("wait", room.id, ""))


def _switch_by_system(room: Room, action: str, now: float, *, plays: bool) -> None:
    """Play or stop by the room itself, and broadcast that as user `system`."""
    assert room.playback is not None
    room.playback.switch(now, plays=plays)
    room.schedule_end()
    room.playback_waits = (SYSTEM, SYSTEM, action)
    release_playback(room, now, at_once=True)


# --- control [I] --------------------------------------------------------------------------------------------------


@handles(ControlRequest)
def handle_control_request(room: Room, member: Member, message: ControlRequest, now: float) -> Result:
    """presence.requestControl: granted at once when no user has control [I1], else recorded as a pending request
    [I5]."""
    _check_may_hold(room, member)
    spend(room, member, message, now)
    member.last_active_at = now
    control, user_id = room.control, member.user_id
    may_take = member.moderator or room.control_mode != "moderators"
    if control.user_id == user_id:
        control.session_id = member.session_id
    elif (control.user_id is None or room.holder_is_overdue(now)) and may_take:
        room.grant_control(member.person, None, now, to=member)
    else:
        lifetime_s = room.context.limits.control_request_s
        is_new = control.add_request(user_id, member.name, now, lifetime_s)
        room.context.deadlines.set(("control_request", room.id, user_id), now + lifetime_s)
        if is_new:
            room.urgent = True
            room.emit(member, ControlRequested(requester_name=member.name), now)
    return {"success": True, "granted": control.user_id == user_id, "controller": control.user_id}


@handles(ControlGrant)
def handle_control_grant(room: Room, member: Member, message: ControlGrant, now: float) -> Result:
    """presence.grantControl. Errors: NOT_CONTROLLER [I2], TARGET_NOT_IN_ROOM [I4], INVALID_DATA for the present
    controller [I5], FORBIDDEN when the target may not control."""
    _check_may_decide(room, member)
    target = message.data.to_user_id
    if target == room.control.user_id:
        raise PresenceError("INVALID_DATA", "That user has control already. Use control_release to give it up.")
    person = room.people.get(target)
    session = room.best_session(person) if person is not None else None
    if person is None or session is None:
        raise PresenceError("TARGET_NOT_IN_ROOM")
    if not session.may_hold:
        raise PresenceError("FORBIDDEN", "That user's token has no 'control' scope for this room.")
    spend(room, member, message, now)
    member.last_active_at = now
    room.context.deadlines.cancel(("control_request", room.id, target))
    room.grant_control(person, member, now)
    return {"success": True, "controller": target}


@handles(ControlDeny)
def handle_control_deny(room: Room, member: Member, message: ControlDeny, now: float) -> Result:
    """Refuse a pending request [I5]. Errors: NOT_CONTROLLER, TARGET_NOT_IN_ROOM when that user has no pending
    request."""
    _check_may_decide(room, member)
    target = message.data.to_user_id
    if not room.control.withdraw(target):
        raise PresenceError("TARGET_NOT_IN_ROOM", "That user has no pending request.")
    member.last_active_at = now
    room.context.deadlines.cancel(("control_request", room.id, target))
    room.urgent = True
    room.emit(member, ControlDenied(to_user_id=target, reason="denied"), now)
    return {"success": True}


@handles(ControlRelease)
def handle_control_release(room: Room, member: Member, message: ControlRelease, now: float) -> Result:
    """Give control up [I5]. Errors: NOT_CONTROLLER, INVISIBLE for an invisible session of the controller [K3]."""
    _check_visible(member)
    if room.control.user_id != member.user_id:
        raise PresenceError("NOT_CONTROLLER", "You do not have control.")
    spend(room, member, message, now)
    member.last_active_at = now
    room.release_control(member, "released", now)
    return {"success": True}


@handles(ControlCancel)
def handle_control_cancel(room: Room, member: Member, message: ControlCancel, now: float) -> Result:
    """Withdraw the member's own request [I5]; the room receives a `control_denied` with reason `cancelled`. Errors:
    INVISIBLE, because a request is a visible session's [K3]."""
    _check_visible(member)
    if room.control.withdraw(member.user_id):
        end_request(room, member, "cancelled", now)
    return {"success": True}


def lose_control(room: Room, member: Member, now: float) -> None:
    """Take control, or the pending request, from a member whose new token lacks the `control` scope [A4]. Nothing is
    done for an invisible member: only a visible session holds or requests control [K3]."""
    if not member.visible:
        return
    if room.control.session_id == member.session_id:
        room.pass_control_on(member, "revoked", now)
    if any(each.may_hold and each.visible for each in member.person.members.values()):
        return  # the request is the user's, and another session may get control
    if room.control.withdraw(member.user_id):
        end_request(room, member, "cancelled", now)


def end_request(room: Room, member: Member, reason: str, now: float) -> None:
    """Emit the end of a pending request without a grant, with reason `cancelled` or `expired`."""
    room.context.deadlines.cancel(("control_request", room.id, member.user_id))
    room.urgent = True
    room.emit(member, ControlDenied(to_user_id=member.user_id, reason=reason), now)


def check_has_playback(room: Room, member: Member) -> None:
    """Errors: SYNC_DISABLED in a room of a type without playback [H13]."""
    room_type = room.type_for(member.person)
    if room_type not in SYNCED_TYPES:
        raise PresenceError("SYNC_DISABLED", f"A {room_type} room has no playback.")


def _check_may_hold(room: Room, member: Member) -> None:
    check_has_playback(room, member)
    _check_visible(member)
    if not member.may_play:
        raise PresenceError("FORBIDDEN", "Your token has no 'control' scope for this room.")
    if member.leased:  # it would not receive the events of its control
        raise PresenceError("FORBIDDEN", "A session held over HTTP cannot have control. Connect by WebSocket.")


def _check_may_decide(room: Room, member: Member) -> None:
    _check_visible(member)
    if not (member.moderator or room.control.user_id == member.user_id):
        raise PresenceError("NOT_CONTROLLER", "Only the controller or a moderator may do that.")


def _check_visible(member: Member) -> None:
    if not member.visible:
        raise PresenceError("INVISIBLE")
