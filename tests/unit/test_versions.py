"""Messages that arrive late, twice, or from a former owner: of each value the highest version counts [N-b].

docs/architecture.md defines which versions are compared.
"""

from dataclasses import replace
from typing import Any

import pytest
from msgspec import Struct, structs

from koko_presence.cluster import wire_messages
from koko_presence.cluster.placement import Ring, room_key, user_key
from koko_presence.owner import reconcile
from koko_presence.owner.takeover import GatheredUser, take_over_user
from koko_presence.protocol import commands, edge_messages, snapshots
from koko_presence.protocol.commands import (
    AdmitMember,
    ApplyPrivacy,
    ChangeGrant,
    ChangePrivacy,
    ConfirmMember,
    EnterRoom,
    ResumeMember,
    SuspendMember,
    UpdatePermissions,
)
from koko_presence.protocol.edge_messages import SessionActed
from koko_presence.protocol.models import Privacy
from koko_presence.protocol.snapshots import SessionRecord
from koko_presence.protocol.webhook_events import UserEntered, UserLeft
from koko_presence.rooms.context import EPOCH_BITS
from tests import clocks
from tests.script import write
from tests.sim import Broken, Story
from tests.world import Client, World


@pytest.fixture
def world() -> World:
    return World(workers=1, status_hz=100.0, status_burst=100)


def send(world: World, command: Any) -> None:
    world.bus.send(command, world.now)
    world.settle()


def privacy_command(member: Any, version: int, *, invisible: bool) -> ApplyPrivacy:
    return ApplyPrivacy(
        room_id="video_123", session_id=member.session_id, version=version, invisible=invisible, disabled=False,
        share_cursor=True, share_selection=True,
    )  # fmt: skip


def test_the_epoch_counts_more_than_any_count(world: World) -> None:
    """A version of a later epoch is newer than any version of an earlier one: an owner that was stopped during a view
    change may have counted further than the next one."""
    context = world.shard.context
    old = max(context.next_version() for _ in range(1000))
    context.epoch += 1
    assert context.next_version() > old and context.next_version() >> EPOCH_BITS == context.epoch


# --- to rooms


def test_a_late_message_on_privacy_makes_no_hidden_member_visible(world: World) -> None:
    """A late privacy message does not make a hidden member visible. ApplyPrivacy carried no version: a retry with the
    room's next owner arrived after a newer one."""
    ada, bob = world.person("ada"), world.person("bob")
    member = world.shard.rooms["video_123"].members[ada.session_id]
    ada.send(type="privacy", data={"invisible": True})
    bob.take()
    send(world, privacy_command(member, member.privacy_version - 1, invisible=False))
    assert not member.visible and not bob.take("user_joined")
    send(world, privacy_command(member, member.privacy_version + 1, invisible=False))
    assert member.visible and bob.take("user_joined")


def test_a_late_message_on_rights_restores_no_right(world: World) -> None:
    """A late message on rights restores none. A Regrant of an older token, retried with the room's next owner, arrived
    after that of the newest token."""
    ada = world.person("ada")
    member = world.shard.rooms["video_123"].members[ada.session_id]
    rights = UpdatePermissions(
        room_id="video_123", session_id=ada.session_id, version=member.granted + 2, can_control=False,
        can_broadcast=False, moderator=False,
    )  # fmt: skip
    send(world, rights)
    send(world, structs.replace(rights, version=rights.version - 1, can_control=True))
    assert not member.may_play
    ada.join()  # a join carries the rights of its own time
    assert member.may_play and member.granted == member.membership_id


def test_a_message_of_the_previous_connection_changes_no_rights(world: World) -> None:
    """A message of the previous connection changes no rights. The client has returned with a token that allows less;
    the message about the last token was delayed."""
    first = world.person("ada")
    old = first.session.version
    first.hang_up(1006)
    second = world.client().auth("ada", resumeToken=first.resume_token).join()
    member = world.shard.rooms["video_123"].members[second.session_id]
    late = ChangeGrant(
        user_id="ada", room_id="video_123", session_id=second.session_id, connection=first.session.connection,
        session_version=old, can_control=False, can_broadcast=False, moderator=False,
    )  # fmt: skip
    send(world, late)
    assert member.may_play
    send(world, structs.replace(late, connection=second.session.connection, session_version=second.session.version))
    assert not member.may_play


@pytest.mark.parametrize("late", ["drop", "resume"])
def test_a_late_message_on_a_members_connection_changes_nothing(world: World, late: str) -> None:
    ada = world.person("ada")
    member = world.shard.rooms["video_123"].members[ada.session_id]
    where = {"room_id": "video_123", "session_id": ada.session_id, "version": member.session_version - 1}
    if late == "drop":
        send(world, SuspendMember(connection=member.connection, grace_until=world.now + 5.0, **where))
    else:
        send(
            world,
            ResumeMember(
                user_id="ada",
                edge=member.edge,
                connection=member.connection + 1,
                membership_id=member.membership_id,
                **where,
            ),
        )
    assert member.connected and member.connection == ada.session.connection and member.attached


def test_a_join_that_arrives_after_its_leave_makes_no_member(world: World) -> None:
    """A join that arrives after its leave makes no member. It had waited at a stopped worker, and the leave had gone to
    the room's new owner at once."""
    ada = world.person("ada")
    member = world.shard.rooms["video_123"].members[ada.session_id]
    session_info = reconcile.session_info_of(member)
    enter = EnterRoom(user_id="ada", room_id="video_123", session_info=session_info, room_type="video")
    late = AdmitMember(
        room_id="video_123", enter=enter, membership_id=member.membership_id, profile=member.person.profile
    )
    world.shard.users["ada"].forget(ada.session_id, "left")
    for effect in world.shard.take_effects():
        send(world, effect)
    send(world, late)
    assert "video_123" not in world.shard.rooms
    send(world, structs.replace(late, membership_id=late.membership_id + 1000))
    assert "video_123" in world.shard.rooms, "a later one is another stay"


def test_two_memberships_begun_in_one_loop_iteration_have_different_ids() -> None:
    """Two memberships that begin in one loop iteration have different ids. Their webhook events had the same ids: a
    back end takes the second for a repeat of the first."""
    world = World(workers=1, telling=True)
    ada = world.client().auth("ada")
    world.settle()
    for _ in range(3):
        ada.post({"type": "join", "roomId": "video_123", "roomType": "video"})
        ada.post({"type": "leave", "roomId": "video_123"})
    world.settle()
    assert world.webhook_events is not None
    ids = [event.id for event in world.webhook_events if isinstance(event, UserEntered | UserLeft)]
    assert len(ids) == len(set(ids)) == 6


# --- to edges


def three_workers() -> tuple[World, Client, int, int]:
    """Ann with two tabs, where the owner of her user is not the worker of the first tab. Also returns the two
    workers."""
    world = World(workers=3, status_hz=100.0, status_burst=100)
    ring = Ring(world.next_view())
    owner = ring.owner(user_key("ann"))
    edge = next(n for n in world.nodes if n not in (owner, ring.owner(room_key("video_123"))))
    ann = Client(world, world.nodes[edge].hub).auth("ann").join()
    world.client().auth("ann").join()
    return world, ann, owner, edge


@pytest.mark.parametrize("second", ["socket", "http"])
def test_the_owners_echo_does_not_undo_a_newer_change_at_the_edge(second: str) -> None:
    """The owner's acknowledgement does not undo a newer change at the edge. Of two changes of privacy, the
    acknowledgement of the first arrived after the edge had applied the second, and undid it until the next one, so that
    a hidden cursor was sent [K3, K5]."""
    world, ann, owner, edge = three_workers()
    ann.send(type="privacy", data={"shareCursor": False})
    world.sleep(1.0)
    world.link_delay_s = lambda sender, receiver: 0.2 if (sender, receiver) == (owner, edge) else 0.0
    ann.post(type="privacy", data={"shareCursor": True})
    world.sleep(0.1)
    if second == "socket":
        ann.post(type="privacy", data={"shareCursor": False})
    else:
        http = world.http("ann", session=ann.session_id)
        http.start("setPrivacy", hub=world.nodes[edge].hub, shareCursor=False)
    for _ in range(20):
        world.sleep(0.02)
        assert ann.session.privacy.share_cursor is False
    assert not ann.session.unacknowledged_privacy
    assert world.shard.users["ann"].sessions[ann.session_id].share_cursor is False


def test_another_tabs_change_counts_for_what_the_tab_itself_has_not_changed() -> None:
    """Another tab's change applies to what the tab itself has not changed: the owner's message and the unacknowledged
    changes are merged, switch by switch."""
    world, ann, owner, edge = three_workers()
    world.link_delay_s = lambda sender, receiver: 0.2 if (sender, receiver) == (owner, edge) else 0.0
    other = world.client().auth("ann")
    other.send(type="privacy", data={"shareSelection": False, "shareCursor": True, "scope": "user"})
    ann.post(type="privacy", data={"shareCursor": False})
    world.sleep(1.0)
    privacy = ann.session.privacy
    assert (privacy.share_cursor, privacy.share_selection) == (False, False)


def test_what_the_owner_refuses_is_taken_back_at_the_edge() -> None:
    """A change that the owner refuses is reverted at the edge, which applies a change when it forwards it."""
    world, ann, _, _ = three_workers()
    user = world.shard.users["ann"]
    for session_id in user.sessions:
        user.set_disabled(session_id, True)
    user.change_privacy(ChangePrivacy(user_id="ann", session_id=ann.session_id, privacy=Privacy(invisible=True)))
    world.sleep(0.1)
    user.send_privacy_to_edge(ann.session_id)
    world.owner_of(user_id="ann").bus.dispatch_effects(world.now)  # type: ignore[union-attr]
    world.sleep(0.1)
    assert ann.session.privacy.invisible is True
    ann.send(type="privacy", data={"invisible": False})
    world.sleep(0.1)
    assert ann.last("error")["code"] == "FORBIDDEN"
    assert ann.session.privacy.invisible is True and not ann.session.unacknowledged_privacy


def test_an_older_message_of_an_owner_changes_nothing_at_the_edge(world: World) -> None:
    """A message of an owner that was stopped during a change of owners changes nothing at the edge."""
    ada = world.person("ada")
    ada.send(type="privacy", data={"invisible": True})
    user = world.shard.users["ada"]
    user.send_privacy_to_edge(ada.session_id)
    ((_, edge_message),) = world.shard.take_effects()
    assert isinstance(edge_message, SessionActed)
    world.hub.on_edge_message(edge_message, world.now)
    late = structs.replace(
        edge_message, privacy=Privacy(invisible=False), privacy_version=edge_message.privacy_version - 1
    )
    world.hub.on_edge_message(late, world.now)
    assert ada.session.privacy.invisible is True


# --- to the user's owner


def test_a_retried_change_is_not_applied_after_a_newer_one(world: World) -> None:
    """A retried change is not applied after a newer one. A backup owner received both changes again that the lost owner
    had handled, and showed for a moment what the second had hidden."""
    ada, bob = world.person("ada"), world.person("bob")
    said = []
    send_command = world.bus.send
    world.bus.send = lambda command, now: (said.append(command), send_command(command, now))  # type: ignore[func-returns-value]
    ada.send(type="privacy", id=1, data={"invisible": False})
    ada.send(type="privacy", id=2, data={"invisible": True})
    del world.bus.send
    bob.take()
    ada.take()
    for command in said:
        send(world, command)
    assert not bob.take("user_joined")
    assert [ack["id"] for ack in ada.take("ack")] == [1, 2], "answered all the same"


def test_a_change_of_the_previous_connection_is_not_applied_after_that_of_the_present_one(world: World) -> None:
    first = world.person("ada")
    late = ChangePrivacy(
        user_id="ada", session_id=first.session_id, privacy=Privacy(invisible=False),
        connection=first.session.connection, session_version=first.session.version, privacy_seq=1,
    )  # fmt: skip
    first.hang_up(1006)
    second = world.client().auth("ada", resumeToken=first.resume_token, privacy={"invisible": True}).join()
    send(world, late)
    assert world.shard.users["ada"].sessions[second.session_id].invisible
    second.hang_up(1006)
    third = world.client().auth("ada", resumeToken=first.resume_token).join()
    late = structs.replace(late, privacy=Privacy(share_cursor=False))
    send(world, late)
    session = world.shard.users["ada"].sessions[third.session_id]
    assert not session.share_cursor, "when the present one has said nothing of it, the last word is the older one's"


def confirmation_of(world: World, client: Client, **changes: Any) -> ConfirmMember:
    """The message by which a room confirms a session to the next owner of its user."""
    room = world.shard.rooms["video_123"]
    member = room.members[client.session_id]
    session_info = structs.replace(reconcile.session_info_of(member), **changes)
    return ConfirmMember(
        user_id=member.user_id, room_id=room.id, session_id=member.session_id, membership_id=member.membership_id,
        connection=member.connection, connected=member.connected, grace_until=member.grace_until,
        profile=member.person.profile, session_info=session_info,
    )  # fmt: skip


def test_the_newer_privacy_of_room_and_record_counts(world: World) -> None:
    ada = world.person("ada")
    member = world.shard.rooms["video_123"].members[ada.session_id]
    session = world.shard.users["ada"].sessions[ada.session_id]
    newer = session.privacy_version + 1
    send(world, confirmation_of(world, ada, invisible=True, privacy_version=newer))
    assert session.invisible and session.privacy_version == newer and ada.session.privacy.invisible is True
    member.invisible = False  # as if a message had been lost with an owner
    send(world, confirmation_of(world, ada, privacy_version=newer - 1))
    assert member.invisible


def test_a_session_that_only_rooms_hold_is_restored_hidden(world: World) -> None:
    """A session that only rooms hold is restored with its privacy. After the loss of owner, backup owner and edge the
    session returned to an owner that had no record of what it had hidden."""
    ada, bob = world.person("ada"), world.person("bob")
    ada.send(type="privacy", data={"invisible": True})
    confirmation = confirmation_of(world, ada)
    world.shard.users["ada"].sessions.clear()
    del world.shard.users["ada"]
    send(world, confirmation)
    session = world.shard.users["ada"].sessions[ada.session_id]
    assert session.invisible and not session.connected and session.grace_until == world.now + 5.0 - 0.006
    bob.take()
    again = world.client().auth("ada", resumeToken=ada.resume_token).join()
    assert again.last("authenticated")["resumed"] and session.invisible
    assert not bob.take("user_joined", "status_changed")


def test_a_session_that_only_rooms_hold_ends_with_its_grace_period(world: World) -> None:
    ada = world.person("ada")
    confirmation = confirmation_of(world, ada)
    del world.shard.users["ada"]
    send(world, confirmation)
    world.sleep(world.limits.grace_s + 0.1)
    world.sleep(world.limits.room_linger_s)
    assert "ada" not in world.shard.users and "video_123" not in world.shard.rooms


def test_a_late_replica_takes_precedence_over_what_rooms_showed(world: World) -> None:
    """A replica that arrives late takes precedence over what the rooms showed. The backup owner was stopped while the
    others continued: its replica is the only one with what the user hides everywhere."""
    ada = world.person("ada")
    ada.send(type="status", data={"status": "busy", "statusMessage": "in a call"})
    ada.send(type="privacy", data={"shareSelection": False, "scope": "user"})
    user = world.shard.users["ada"]
    user.revision = world.shard.context.next_version()
    record = reconcile.user_record(user)
    records = [structs.replace(each, rooms={"video_123": 1}) for each in record.sessions]
    del world.shard.users["ada"]
    gathered = GatheredUser()
    gathered.add_sessions(records[0].edge, records, records[0].connection)
    take_over_user(world.shard, "ada", gathered, {records[0].edge}, {records[0].edge}, delayed=False, now=world.now)
    assert world.shard.users["ada"].restored_empty_version and world.shard.users["ada"].manual is None
    late = GatheredUser()
    late.add_record(record)
    take_over_user(world.shard, "ada", late, set(), {records[0].edge}, delayed=True, now=world.now)
    user = world.shard.users["ada"]
    assert (user.manual, user.status_message, user.privacy_defaults.share_selection) == ("busy", "in a call", False)
    assert not user.restored_empty_version


def record_of(record: SessionRecord, **changes: Any) -> SessionRecord:
    return structs.replace(record, **changes)


def test_of_two_edges_that_name_a_session_that_of_the_later_opening_has_it(world: World) -> None:
    """Of two edges that announce a session, that of the later session version has it, independently of their clocks."""
    ada = world.person("ada")
    user = world.shard.users["ada"]
    mine = reconcile.session_record(ada.session_id, user.sessions[ada.session_id])
    later = record_of(
        mine, edge=7, connection=77, session_version=mine.session_version + 1, accepted_at=mine.accepted_at - 500.0
    )
    replaced = reconcile.merge_live_session(user, later, notify_rooms=False)
    assert replaced is not None and replaced.connection == mine.connection
    assert reconcile.merge_live_session(user, mine, notify_rooms=False) is mine
    assert user.sessions[ada.session_id].connection == 77


# --- clocks


@pytest.mark.deep
@pytest.mark.parametrize("apart_s", [1.0, 500.0])
@pytest.mark.parametrize("seed", [1, 2, 3, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(4, 13))])
def test_stories_hold_with_clocks_apart(seed: int, apart_s: float) -> None:
    """Clocks order nothing: further seeds with `python -m tests.sim 1 5000 --clocks 500`."""
    Story(replace(write(seed), clocks_s=apart_s)).run()


@pytest.mark.deep
def test_a_time_that_is_not_translated_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted fault: a grace period that ends by another worker's clock."""
    times = {kind: tuple(name for name in names if name != "grace_until") for kind, names in clocks.TIMES.items()}
    monkeypatch.setattr(clocks, "TIMES", times)
    with pytest.raises(Broken):
        for seed in range(1, 40):
            Story(replace(write(seed), clocks_s=500.0)).run()


def test_every_monotonic_second_that_travels_is_listed() -> None:
    """Every float between workers that is no monotonic time is a position in a video, a rate, or the issue or the end of
    a token. A new time has to be listed."""
    kinds = {
        kind
        for module in (commands, edge_messages, wire_messages, snapshots)
        for kind in vars(module).values()
        if isinstance(kind, type)
    }
    found = {
        (kind.__name__, field.name)
        for kind in kinds
        if issubclass(kind, Struct)
        and kind.__module__ in {each.__name__ for each in (commands, edge_messages, wire_messages, snapshots)}
        for field in structs.fields(kind)
        if field.type is float
    }
    listed = {(kind.__name__, name) for kind, names in clocks.TIMES.items() for name in names}
    assert found - listed == {
        ("PlaybackRecord", "current_time"),
        ("PlaybackRecord", "playback_rate"),
        ("UserInfo", "issued_at_s"),  # of the issuer's clock
        ("BeatStream", "expires_at_s"),
        ("SessionActed", "expires_at_s"),
    }
    assert listed <= found
