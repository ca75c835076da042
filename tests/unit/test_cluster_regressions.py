"""Regression tests for faults of several workers that reviews found, one test per fault."""

from typing import Any, NamedTuple

import pytest
from msgspec import structs

from koko_presence.access.policy import ClaimsAccess
from koko_presence.cluster import wire_messages
from koko_presence.cluster.cluster_bus import ClusterBus
from koko_presence.cluster.peer import PeerConnection
from koko_presence.cluster.placement import Peer, Ring, View, room_key, user_key
from koko_presence.cluster.unconfirmed import Unconfirmed
from koko_presence.cluster.view_change import PATIENCE_S, QUIESCED, SYNCED, TRANSFERRED, ViewChange
from koko_presence.owner.reconcile import reconcile, record_of
from koko_presence.owner.shard import Shard
from koko_presence.owner.takeover import GatheredRoom, take_over_room
from koko_presence.protocol.codec import BadMessage
from koko_presence.protocol.commands import (
    AdmitMember,
    ApplyProfile,
    Command,
    ConfirmMember,
    EndSession,
    EnterRoom,
    LeaveRoom,
    Profile,
    RemoveMember,
    RenewUserInfo,
    ReplyTo,
    ResumeMember,
    RoomAction,
    SessionInfo,
    UserInfo,
)
from koko_presence.protocol.edge_messages import EdgeMessage, Reply
from koko_presence.protocol.snapshots import Presence, RoomPresence
from koko_presence.protocol.webhook_events import UserLeft
from koko_presence.rooms.context import ShardContext
from koko_presence.rooms.deadlines import Deadlines
from koko_presence.server.room_membership import LEAVING_S, RoomMembership
from tests.world import Client, FakeLink, Node, World


def ring_of(world: World) -> Ring:
    """The placement that all workers use once the world is quiet."""
    return Ring(world.next_view())


def bus_of(node: Node) -> ClusterBus:
    assert isinstance(node.bus, ClusterBus)
    return node.bus


def test_a_room_that_is_created_again_is_not_sent_repeatedly() -> None:
    """A room that is created again under the same id causes one snapshot per join. An edge kept its position in the
    stream of a room whose members there had all disconnected; the next room of that id began with 1, and each of its
    flushes sent every member a new snapshot, whose flush did the same, without end."""
    world = World(workers=4)
    owner = ring_of(world).owner(room_key("video_1"))
    hub = next(node.hub for number, node in world.nodes.items() if number != owner)
    first = Client(world, hub).auth("ada").join("video_1")
    for n in range(20):
        first.send(type="typing", roomId="video_1", data={"isTyping": n % 2 == 0})
        world.sleep(1.0)
    first.hang_up(1006)
    world.sleep(world.limits.grace_s + world.limits.room_linger_s + 1.0)
    assert not world.shard.rooms
    ada = Client(world, hub).auth("ada").join("video_1")
    Client(world, hub).auth("bob").join("video_1")
    world.sleep(2.0)
    assert len(ada.of("joined")) == 1


def test_positions_of_rooms_without_subscribers_are_dropped() -> None:
    """An edge drops its position in a room's stream with the last member. It kept the position of every room whose last
    member there disconnected, without bound."""
    world = World(workers=4)
    for n in range(400):
        client = world.client().auth("ada").join(f"video_{n}")
        client.hang_up(1006)
        world.sleep(world.limits.grace_s + 0.1)
    world.sleep(world.limits.room_linger_s)
    assert max(len(bus_of(node).received_seqs) for node in world.nodes.values()) <= 65


def test_a_room_does_not_end_the_record_of_a_user_whom_it_does_not_own() -> None:
    """A room's owner must not end the replica of a user that it does not own. After it received a user's new status, it
    notified the user's backup owner that the user is gone: with the user's owner the manual status, the message and the
    hidden state were lost [N-b, D8]."""
    world = World(workers=4)
    ring = ring_of(world)
    owner, backup = ring.owner(user_key("ada")), ring.backup_owner(user_key("ada"))
    rooms = [f"video_{n}" for n in range(40)]
    room = next(room for room in rooms if ring.owner(room_key(room)) not in (owner, backup))
    edge = next(node for number, node in world.nodes.items() if number not in (owner, backup))
    ada = Client(world, edge.hub).auth("ada").join(room)
    ada.send(type="status", data={"status": "busy", "statusMessage": "in a call"})
    world.sleep(0.1)
    assert bus_of(world.nodes[backup]).replicas.users["ada"].manual == "busy"
    del world.nodes[owner]
    world.publish()
    world.sleep(1.0)
    assert world.shard.users["ada"].profile.status_message == "in a call"


def test_a_retried_leave_ends_no_later_membership() -> None:
    """A retried leave must not end a later membership. The owner of a room was lost just after a leave and the next
    join of the same session: the user's owner retried the leave with the next owner, which removed the session, with a
    user_left for all members [N-b]."""
    world = World(workers=4)
    ring = ring_of(world)
    user_owner = ring.owner(user_key("ada"))
    room = next(f"video_{n}" for n in range(40) if ring.owner(room_key(f"video_{n}")) != user_owner)
    room_owner = ring.owner(room_key(room))
    edge = next(node for number, node in world.nodes.items() if number not in (user_owner, room_owner))
    ada = Client(world, edge.hub).auth("ada").join(room)
    bob = Client(world, edge.hub).auth("bob").join(room)
    world.sleep(1.0)
    ada.send(type="leave", roomId=room)
    ada.join(room)
    for client in (ada, bob):
        client.take()
    del world.nodes[room_owner]
    world.publish()
    world.sleep(1.0)
    assert ada.session_id in world.shard.rooms[room].members
    assert not ada.take("left") and not bob.take("user_left")


def test_a_stage_of_a_later_view_does_not_count_for_this_one() -> None:
    """A stage of a later view counts for that view only. A worker that received the next view first announced its stage
    QUIESCED in that one. Others took it for SYNCED in theirs, and its silence for the absence of all its clients: a
    false user_left at the end of the grace period [N-b]."""
    peers = tuple(Peer(id=id, slot=id, address="") for id in (1, 2))
    change = ViewChange(me=1)
    change.begin(View(epoch=1, peers=peers), 0.0)
    for stage in (QUIESCED, TRANSFERRED, SYNCED):
        change.enter(stage, 0.0)
        change.note(2, 1, stage)
        assert change.may_advance(0.0)
    change.settle()
    change.begin(View(epoch=2, peers=peers), 1.0)
    change.note(2, 3, QUIESCED)
    assert not change.may_advance(1.0) and change.reporting_edges() == {1}
    assert change.may_advance(1.0 + PATIENCE_S)
    change.give_up_missing()
    assert change.gave_up
    change.begin(View(epoch=3, peers=peers), 1.1)
    assert change.may_advance(1.1) and not change.missing() and not change.gave_up, "what it said early still counts"


def test_messages_may_be_missing_of_previous_owners_that_were_given_up_or_lost_in_this_change() -> None:
    """The last messages of a previous owner may be missing when it was given up, also for a view that was replaced
    since, or has left during the change; not those of other workers, nor after the change."""

    def view(epoch: int, *ids: int) -> View:
        return View(epoch=epoch, peers=tuple(Peer(id=each, slot=each, address="", owns=True) for each in ids))

    def changing() -> ViewChange:
        change = ViewChange(1)
        change.begin(view(1, 1, 2, 3), 0.0)
        change.settle()
        change.begin(view(2, 1, 2, 3, 4), 0.0)
        return change

    owners = changing().rings
    moved = {}
    for key in (room_key(f"video_{n}") for n in range(1000)):
        if owners[0].owner(key) != owners[1].owner(key):
            moved.setdefault(owners[0].owner(key), key)
    of_2, of_3 = moved[2], moved[3]
    kept = next(
        key for key in map(room_key, map(str, range(1000))) if owners[0].owner(key) == owners[1].owner(key) == 2
    )

    change = changing()
    change.note(3, 2, QUIESCED)
    change.note(4, 2, QUIESCED)
    assert not change.may_have_missed(of_2)
    change.give_up_missing()
    assert [change.may_have_missed(key) for key in (of_2, of_3, kept)] == [True, False, False]
    change.begin(view(3, 1, 2, 3, 4, 5), 1.0)  # worker 2 is awaited again, but was not in the first change
    assert not change.gave_up and change.may_have_missed(of_2)
    change.settle()
    assert not change.may_have_missed(of_2)

    change = changing()
    change.forget([3])
    assert [change.may_have_missed(key) for key in (of_2, of_3)] == [False, True]

    change = changing()
    change.settle()
    change.forget([3])  # between changes: the next one begins without it, and its keys have another owner
    change.begin(view(3, 1, 2, 4), 1.0)
    assert not any(change.may_have_missed(key) for key in (of_2, of_3))


def test_a_key_that_moves_back_is_given_up_until_the_change_is_over() -> None:
    """A key that was given up in a change of owners is given up until the end of the change, also when the change begins
    again and the key moves back. Its worker took commands for it meanwhile, and made a room anew, with numbers that its
    members had received, beside the record that it had given up."""
    one, two = Peer(id=1, slot=1, address=""), Peer(id=2, slot=2, address="")
    leaving = Peer(id=1, slot=1, address="", owns=False)
    change = ViewChange(me=1)
    change.begin(View(epoch=1, peers=(one, two)), 0.0)
    change.settle()
    kept = next(f"r:{n}" for n in range(100) if change.target.owner(f"r:{n}") == 2)
    given = next(f"r:{n}" for n in range(100) if change.target.owner(f"r:{n}") == 1)
    change.begin(View(epoch=2, peers=(leaving, two)), 1.0)
    assert change.moved(given) and not change.has_released(given)
    change.release()
    change.begin(View(epoch=3, peers=(one, two)), 1.1)
    assert change.target.owner(given) == 1 and change.has_released(given)
    assert not change.has_released(kept)
    change.begin(View(epoch=4, peers=(one,)), 1.2)
    assert change.moved(kept) and not change.has_released(kept), "it has moved since"
    change.settle()
    assert not change.has_released(given)


def test_a_retried_resume_does_not_restore_an_old_connection() -> None:
    """A retried ResumeMember of an earlier connection changes nothing. It gave the member back to that connection's
    edge: when that edge was lost, so was the member, though it was connected elsewhere [N-b, D16]."""
    world = World(workers=1)
    first = world.client().auth("ada").join("video_1")
    member = world.shard.rooms["video_1"].members[first.session_id]
    old = ResumeMember(
        room_id="video_1", session_id=first.session_id, user_id="ada", edge=member.edge, connection=member.connection,
        version=member.session_version, membership_id=member.membership_id,
    )  # fmt: skip
    first.hang_up(1006)
    second = world.client().auth("ada", resumeToken=first.resume_token).join("video_1")
    world.bus.send(old, world.now)
    world.settle()
    assert member.connection == second.session.connection
    second.send(type="typing", roomId="video_1", data={"isTyping": True})
    assert member.attached and member.typing is not None


def test_the_next_owner_sends_its_own_clients_what_the_last_owner_could_not() -> None:
    """The next owner sends its own clients the events that the last owner could not. The last owner had notified one
    edge of a join, but not the edge that was to be the next owner: the clients there never received the new member
    [N-b, C4]."""
    world = World(workers=4)
    ring = ring_of(world)
    owner, backup = ring.owner(room_key("video_1")), ring.backup_owner(room_key("video_1"))
    edge = next(node for number, node in world.nodes.items() if number not in (owner, backup))
    user = next(f"u{n}" for n in range(40) if ring.owner(user_key(f"u{n}")) == edge.number)
    bob = Client(world, world.nodes[backup].hub).auth("bob").join("video_1")
    world.sleep(1.0)
    world.nodes[owner].links[backup].cut = True
    newcomer = Client(world, edge.hub).auth(user).join("video_1")
    assert newcomer.of("joined") and not bob.of("user_joined")
    del world.nodes[owner]
    world.publish()
    world.sleep(1.0)
    assert {row["userId"] for row in bob.last("joined")["room"]["users"]} == {"bob", user}


def test_a_retried_play_does_not_set_the_video_back() -> None:
    """A retried play keeps its time. The owner of a room was lost just after a play; the edge retried it with the next
    owner, which started the playback at that moment, so that the video jumped back by the time in between [N-b, H4]."""
    world = World(workers=4)
    ring = ring_of(world)
    owner = ring.owner(room_key("video_1"))
    edge = next(node for number, node in world.nodes.items() if number != owner)
    ada = Client(world, edge.hub).auth("ada").join("video_1")
    ada.send(type="control_request", roomId="video_1")
    world.sleep(1.0)
    began_at = world.now
    ada.send(type="playback", roomId="video_1", data={"action": "play", "currentTime": 10.0})
    world.nodes[owner].dead = True
    del world.nodes[owner]
    world.sleep(0.25)
    world.publish()
    world.sleep(1.0)
    playback = world.shard.rooms["video_1"].playback
    assert abs(playback.position(world.now) - (10.0 + world.now - began_at)) < 0.01


def test_the_number_of_a_lost_command_is_not_given_again() -> None:
    """The version of a command lost with its owner is not assigned again. An owner was killed just after it had sent a
    seek to its own clients: the next owner assigned the same version to the next command, and clients with the first
    one dropped the second as known, 10 s apart from the others [N-b, H16]."""
    world = World(workers=4)
    owner = ring_of(world).owner(room_key("video_1"))
    edge = next(node for number, node in world.nodes.items() if number != owner)
    ada = Client(world, edge.hub).auth("ada").join("video_1")
    ada.send(type="control_request", roomId="video_1")
    ada.send(type="playback", roomId="video_1", data={"action": "seek", "currentTime": 10.0})
    before = ada.last("playback_synced")["data"]["version"]
    granted = ada.last("control_granted")["data"]["version"]
    world.kill(world.nodes[owner])
    world.sleep(1.0)
    ada.send(type="playback", roomId="video_1", data={"action": "seek", "currentTime": 20.0})
    assert ada.last("playback_synced")["data"]["version"] > before + 1
    assert world.shard.rooms["video_1"].control.version > granted + 1


def test_a_late_announcement_of_an_edge_does_not_stop_the_delivery_to_a_new_member() -> None:
    """A late announcement of an edge does not stop the delivery to a session that has joined since. An edge that had
    been delayed announced "no snapshot yet" for a session whose join had been answered meanwhile: that session received
    no event of the room any more, for as long as it was a member [N-b, C4]."""
    world = World(workers=1)
    ada = world.person("ada")
    bob = world.person("bob")
    room = world.shard.rooms["video_123"]
    member = room.members[ada.session_id]
    presence = Presence(edge=member.edge, sessions={ada.session_id: (False, member.connection, None)})
    assert reconcile(room, presence, (member.edge,), world.now, delayed=True) == []
    ada.take()
    bob.send(type="typing", roomId="video_123", data={"isTyping": True})
    assert ada.take("typing_started")


def test_the_record_of_a_worker_stopped_during_a_view_change_is_older_than_the_next_owners() -> None:
    """The versions of a worker that was stopped during a view change are lower than those of the next owner. Records
    were numbered by the clock: a worker that resumed late transferred its stale room with the highest number, and if
    the live owner was lost next, the stale room was restored [N-b]."""
    world = World(workers=1)
    old, new = (ShardContext(world.limits, world.options, world.wall, Deadlines()) for _ in range(2))
    old.begin_epoch(4)
    new.begin_epoch(5)
    stale = max(old.next_version() for _ in range(1000))
    live = new.next_version(stale - 1)
    assert live > old.next_version(stale)
    assert new.next_version() > live, "a room that begins anew does not begin below its predecessor"


def test_a_member_that_a_late_edge_does_not_name_is_held_for_the_grace_period() -> None:
    """A member that a late edge does not announce is held for the grace period. A worker that was given up had reported
    a disconnect to a former owner: the record restored the session, and the late announcement had no effect. The ghost
    was never removed [N-b]."""
    world = World(workers=1)
    ada = world.person("ada")
    bob = world.person("bob")
    room = world.shard.rooms["video_123"]
    world.shard.context.begin_epoch(7)
    unconfirmed = Unconfirmed()
    unconfirmed.note_room(world.shard, room.id, {}, set())
    unconfirmed.note_user(world.shard, "ada", {}, set())
    edge = room.members[ada.session_id].edge
    unconfirmed.confirm_room(room.id, Presence(edge=edge, sessions={bob.session_id: (True, 0, None)}))
    assert not unconfirmed.settle(world.shard, edge, 6, world.now), "it says nothing of this change"
    assert unconfirmed.settle(world.shard, edge, 7, world.now)
    assert not room.members[ada.session_id].connected and room.members[bob.session_id].connected
    assert not world.shard.users["ada"].sessions[ada.session_id].connected
    assert not unconfirmed.settle(world.shard, edge, 8, world.now)


def test_a_session_that_has_joined_again_is_not_disconnected_by_a_late_edge() -> None:
    """A late announcement does not disconnect a session that has joined again: a join may overtake it on another route
    [N-b]."""
    world = World(workers=1)
    ada = world.person("ada")
    room = world.shard.rooms["video_123"]
    unconfirmed = Unconfirmed()
    unconfirmed.note_room(world.shard, room.id, {}, set())
    ada.join()
    unconfirmed.settle(world.shard, room.members[ada.session_id].edge, 0, world.now)
    assert room.members[ada.session_id].connected


def test_a_status_outlives_its_users_owner_and_backup_owner() -> None:
    """A status survives the loss of its user's owner and backup owner. Both replicas were lost at once: the rooms
    showed "busy" for ever, and the new owner had no status. It now restores what the rooms show [N-b, D8]."""
    world = World(workers=4)
    ring = ring_of(world)
    owner, backup = ring.owner(user_key("ada")), ring.backup_owner(user_key("ada"))
    rest = [number for number in world.nodes if number not in (owner, backup)]
    room = next(f"video_{n}" for n in range(80) if ring.owner(room_key(f"video_{n}")) in rest)
    ada = Client(world, world.nodes[rest[0]].hub).auth("ada").join(room)
    ada.send(type="status", data={"status": "busy", "statusMessage": "in a call"})
    world.sleep(0.1)
    del world.nodes[owner], world.nodes[backup]
    world.publish()
    world.sleep(1.0)
    profile = world.shard.users["ada"].profile
    assert (profile.status, profile.status_message) == ("busy", "in a call")
    assert world.shard.rooms[room].people["ada"].profile.shows == profile.shows


def test_a_retried_older_status_changes_nothing() -> None:
    """A retried older status changes nothing. A lost worker's last status message reached the room's next owner after a
    newer one [N-b, D10]."""
    world = World(workers=1)
    world.person("ada")
    room = world.shard.rooms["video_123"]
    session_id = next(iter(room.members))
    for version, status in ((20, "busy"), (19, "away")):
        profile = Profile(status=status, version=(1 << 40) + version)  # type: ignore[arg-type]
        update = ApplyProfile(room_id=room.id, user_id="ada", session_id=session_id, profile=profile)
        world.bus.send(update, world.now)
    assert room.people["ada"].profile.status == "busy"


def test_a_leave_of_an_unknown_membership_ends_no_later_one() -> None:
    """A leave without a known membership ends no later one. A second leave, for which the user's owner had no
    membership, was retried with the room's next owner, which removed a session that had joined again [N-b]."""
    world = World(workers=1)
    ada = world.person("ada")
    user = world.shard.users["ada"]
    leave = LeaveRoom(user_id="ada", room_id="video_123", session_id=ada.session_id)
    user.leave(leave)
    user.leave(leave)
    *_, late = world.shard.take_effects()
    assert isinstance(late, RemoveMember) and late.membership_id > 0
    ada.send(type="leave", roomId="video_123")
    ada.join()
    world.bus.send(late, world.now)
    world.settle()
    assert ada.session_id in world.shard.rooms["video_123"].members


def test_a_leave_of_earlier_memberships_ends_no_later_one() -> None:
    """A leave with `before` ends a membership that began before this version only, also when it is repeated after a
    second join or a second time; it is not answered when there is none."""
    world = World(workers=1)
    ada = world.person("ada")
    user = world.shard.users["ada"]
    membership_id = user.sessions[ada.session_id].rooms["video_123"]

    def removals(before: int) -> list[int]:
        user.leave(LeaveRoom(user_id="ada", room_id="video_123", session_id=ada.session_id, before=before))
        return [each.membership_id for each in world.shard.take_effects() if isinstance(each, RemoveMember)]

    assert removals(membership_id - 1) == []
    assert removals(membership_id) == []
    assert "video_123" in user.sessions[ada.session_id].rooms
    assert removals(membership_id + 1) == [membership_id]
    assert removals(membership_id + 1) == []


def test_a_membership_begun_by_call_after_a_resume_outlives_the_loss_of_any_worker() -> None:
    """A session is resumed in a room; a call ends that membership, and another call begins a new one. Then a worker
    dies. The edge repeated the leave of the earlier membership and told the client that it had left, while the room
    kept it as a member."""
    world = World(workers=4)
    bob = world.person("bob")
    ada = world.person("ada")
    world.sleep(1.0)
    ada.hang_up(1006)
    world.sleep(0.2)
    resumed = world.client()
    resumed.send(type="auth", token="ada", resumeToken=ada.resume_token)
    world.sleep(0.1)
    http = world.http("ada", ada.session_id)
    for procedure in ("leave", "join"):
        http.call(procedure, roomId="video_123")
        world.sleep(0.1)
    assert [message["type"] for message in resumed.take("left", "joined")] == ["left", "joined"]
    needed = {resumed.session.hub.edge_id, bob.session.hub.edge_id}
    world.kill(next(node for node in world.nodes.values() if node.number not in needed))
    world.sleep(1.0)
    bob.send(type="typing", roomId="video_123", data={"isTyping": True})
    world.sleep(0.1)
    assert [message["type"] for message in resumed.take("left", "typing_started")] == ["typing_started"]
    assert world.shard.rooms["video_123"].members[resumed.session_id].attached


def test_a_join_of_an_older_membership_does_not_restore_an_old_connection() -> None:
    """A join of an older membership changes nothing. An AdmitMember of an earlier connection came late, from an owner
    that had been delayed, and restored that connection [N-b, D16]."""
    world = World(workers=1)
    first = world.client().auth("ada").join("video_1")
    member = world.shard.rooms["video_1"].members[first.session_id]
    session_info = SessionInfo(edge=member.edge, session_id=first.session_id, user_id="ada")
    enter = EnterRoom(user_id="ada", room_id="video_1", session_info=session_info, room_type="video")
    late = AdmitMember(room_id="video_1", enter=enter, membership_id=member.membership_id, profile=Profile())
    first.hang_up(1006)
    second = world.client().auth("ada", resumeToken=first.resume_token).join("video_1")
    world.bus.send(late, world.now)
    world.settle()
    assert member.connection == second.session.connection


def test_a_join_that_was_refused_and_accepted_on_a_retry_is_revoked() -> None:
    """A join that was refused and then accepted on a retry is revoked. An owner was lost between the two: the client
    had received ROOM_FULL, and was in the room nevertheless [C6, N-b]."""
    world = World(workers=1, max_users_per_room=1)
    bob = world.person("bob")
    ada = world.client().auth("ada")
    commands: list[Command] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ada.session.hub.bus, "send", lambda command, now: commands.append(command))
        ada.join()
        ada.session.memberships.retry_pending(world.now)
    first, second = (command for command in commands if isinstance(command, EnterRoom))
    world.bus.send(first, world.now)
    world.settle()
    assert ada.last("error")["code"] == "ROOM_FULL"
    bob.send(type="leave", roomId="video_123")
    world.bus.send(second, world.now)
    world.settle()
    assert "video_123" not in world.shard.rooms and ada.got[-1]["type"] == "left"


def test_a_refusal_that_arrives_after_the_join_was_accepted_is_not_sent() -> None:
    """A refusal that arrives after the join was accepted is not sent to the client. The client was a member and
    received ROOM_FULL [C6, N-b]."""
    membership = RoomMembership("video_1")
    session_info = SessionInfo(edge=1, session_id="s", user_id="ada")
    join = EnterRoom(user_id="ada", room_id="video_1", session_info=session_info)
    membership.note_join_sent(join)
    membership.note_repeated(0.0)
    membership.take_held()  # the join is answered
    assert not membership.note_refused(1.0)
    assert membership.note_refused(1.0), "a later join has its own answer"
    membership.note_join_sent(join)
    membership.note_repeated(2.0)
    membership.note_join_sent(join)
    assert membership.note_refused(3.0) and not membership.take_refusal(3.0), "as has one that was not repeated"


def test_an_owner_that_still_holds_a_room_does_not_deliver_the_next_owners_events_first() -> None:
    """An owner that still holds a room does not forward the next owner's events of it before its own. Worker 1 was
    stopped while its room moved. It resumed, sent its clients the next owner's events and then its own: seq went back
    from 2012 to 1012 [N-b, A3]."""
    world = World(workers=3)
    ring = ring_of(world)
    owner = ring.owner(room_key("video_1"))
    node = world.nodes[owner]
    other = next(number for number in world.nodes if number != owner)
    ada = Client(world, node.hub).auth("ada").join("video_1")
    world.sleep(0.5)
    bus = bus_of(node)
    peers = [Peer(id=number, slot=world.slots[number], address="", owns=number != owner) for number in world.nodes]
    node.bus.on_view(View(epoch=ring.view.epoch + 1, peers=tuple(peers)), world.now)  # type: ignore[union-attr]
    assert bus.transfer.recovering and "video_1" in bus.shard.rooms
    assert not bus.fence.admit(other, "video_1", ring.view.epoch, b"")
    assert ada.of("joined")


def test_no_alarm_rings_after_the_end() -> None:
    """A stopped bus has no timers left. It still confirmed commands, and gave up workers that did not answer."""
    world = World(workers=2)
    node = world.nodes[1]
    bus = bus_of(node)
    bus._acknowledge_alarm.schedule(world.now + 1.0)
    bus.transfer._alarm.schedule(world.now + 1.0)
    bus.stop()
    assert bus._acknowledge_alarm._handle is None and bus.transfer._alarm._handle is None


def test_a_join_that_arrives_after_the_end_of_its_connection_does_not_connect_it_again() -> None:
    """A join that arrives after the end of its connection does not connect the session. The join had waited for the
    next owner, the end of the connection had not: the session stayed connected for ever [N-b, D2]."""
    world = World(workers=1)
    ada = world.person("ada")
    session = world.shard.users["ada"].sessions[ada.session_id]
    session_info = SessionInfo(
        edge=session.edge, session_id=ada.session_id, user_id="ada",
        connection=session.connection, session_version=session.session_version,
    )  # fmt: skip
    ada.hang_up(1006)
    world.bus.send(EnterRoom(user_id="ada", room_id="video_9", session_info=session_info, room_type="video"), world.now)
    world.sleep(world.limits.grace_s + 0.1)
    assert "ada" not in world.shard.users and not world.shard.rooms.get("video_9")


@pytest.mark.parametrize("how", ["put away", "invisible", "not shared", "presence off"])
@pytest.mark.parametrize("dies", [True, False])
def test_a_cursor_that_was_put_away_is_not_shown_again_by_the_next_owner(how: str, dies: bool) -> None:
    """A cursor that has been hidden is not sent by the next owner. An edge reported to the next owner the last cursor
    of the compiled path, though a later message on the Python path or a change of privacy had hidden it: at each rolling
    reload the cursors of all clients whose mouse had left the page appeared again."""
    world = World(workers=3, status_hz=100.0, status_burst=100)
    owner = ring_of(world).owner(room_key("video_1"))
    bob_hub, hub = (node.hub for number, node in world.nodes.items() if number != owner)
    bob = Client(world, bob_hub).auth("bob").join("video_1")
    ann = Client(world, hub).auth("ann").join("video_1")
    world.sleep(1.0)
    ann.send(type="cursor", roomId="video_1", data={"timestamp": 55, "x": 0.1, "y": 0.1})
    route = ann.session.memberships.rooms["video_1"].route
    assert route is not None and route.last() is not None, "by the short way, or this shows nothing"
    ann.send(type="typing", roomId="video_1", data={"isTyping": True})  # the room's record has the cursor, too
    world.sleep(1.0)
    for hidden in (True, False):
        if how == "put away":
            ann.send(type="cursor", roomId="video_1", data=None)
        elif how == "presence off":
            world.verifier.presence = not hidden
            ann.auth("ann")
        else:
            ann.send(type="privacy", data={"invisible": hidden} if how == "invisible" else {"shareCursor": not hidden})
        world.sleep(1.0)
    bob.take()
    if dies:
        world.kill(world.nodes[owner])
    else:
        world.publish(frozenset([owner]))
    world.sleep(1.0)
    assert not any("x" in message["data"] for message in bob.take("cursor_moved"))
    bob.join("video_1")
    world.sleep(0.1)
    assert len(bob.last("joined")["room"]["users"]) == 2
    assert not any("cursor" in row for row in bob.last("joined")["room"]["users"])


def test_a_status_that_an_invisible_session_has_missed_is_repeated_by_the_next_owner() -> None:
    """The only session of a user in a room is invisible. An event of it has no number, and that of its status was lost
    with the room's owner: the next owner repeated nothing to users with a single session [D10, K7]."""
    world = World(workers=3)
    owner = world.nodes[ring_of(world).owner(room_key("video_1"))]
    edge = next(node for node in world.nodes.values() if node is not owner)
    Client(world, edge.hub).auth("bob").join("video_1")
    ann = Client(world, edge.hub).auth("ann", privacy={"invisible": True}).join("video_1")
    world.sleep(1.0)
    ann.take()
    world.link_delay_s = lambda *link: 60.0 if link == (owner.number, edge.number) else 0.0
    ann.send(type="status", data={"status": "busy"})
    world.sleep(0.1)
    assert not ann.take("status_changed")
    world.kill(owner)
    world.sleep(1.0)
    (row,) = (each for each in ann.last("joined")["room"]["users"] if each["userId"] == "ann")
    assert row["status"] == "busy"


def test_new_permissions_that_a_client_has_missed_are_repeated_by_the_next_owner() -> None:
    """The snapshot with a session's new permissions has no number, and was lost with the room's owner, of which the
    backup owner had the change: the client went on to offer what was refused [A6]."""
    world = World(workers=3, access=ClaimsAccess())
    owner = world.nodes[ring_of(world).owner(room_key("video_1"))]
    edge, other = (node for node in world.nodes.values() if node is not owner)
    names = ("ann", "amy", "abe", "ada", "al", "art", "ava", "axel", "amos", "anna")
    name = next(name for name in names if ring_of(world).owner(user_key(name)) == other.number)
    ann = Client(world, edge.hub).auth(f'{name}:{name}:{{"*":["join","control"]}}').join("video_1")
    world.sleep(1.0)
    assert ann.last("joined")["rights"]["control"]
    world.link_delay_s = lambda *link: 60.0 if link == (owner.number, edge.number) else 0.0
    ann.auth(f'{name}:{name}:{{"*":["join"]}}')
    world.sleep(0.1)
    ann.take()
    world.kill(owner)
    world.sleep(1.0)
    assert not ann.last("joined")["rights"]["control"]


def test_a_selection_that_waited_is_kept_when_its_edge_dies() -> None:
    """A selection that waits for its budget is shown when the worker of its connection dies. It was dropped: only a
    connection that was lost alone applied it [C5, E1]."""
    world = World(workers=4)
    owner = world.nodes[ring_of(world).owner(room_key("video_123"))]
    edge = next(node for node in world.nodes.values() if node is not owner)
    bob = Client(world, owner.hub).auth("bob").join()
    ann = Client(world, edge.hub).auth("ann").join()
    tab = Client(world, owner.hub).auth("ann").join()  # takes some of the budget, which is per user
    for end in range(1, 6):
        tab.post({"type": "selection", "roomId": "video_123", "data": {"startTime": 0, "endTime": end}})
        ann.post({"type": "selection", "roomId": "video_123", "data": {"startTime": 0, "endTime": 10 + end}})
    world.settle()
    world.kill(edge)
    world.sleep(0.1)
    ends = [e["data"]["endTime"] for e in bob.take("selection_changed") if e["sessionId"] == ann.session_id]
    assert ends[-1] == 15


def test_a_plain_cursor_on_the_python_path_is_the_last_one_for_the_next_owner() -> None:
    world = World(workers=3)
    owner = ring_of(world).owner(room_key("video_1"))
    hub = next(node.hub for number, node in world.nodes.items() if number != owner)
    ann = Client(world, hub).auth("ann").join("video_1")
    world.sleep(1.0)
    ann.send(type="cursor", roomId="video_1", data={"timestamp": 1, "x": 0.1, "y": 0.1})
    world.sleep(1.0)
    ann.session.on_text(b'{"type":"cursor","roomId":"video_1","data":{"timestamp":2,"x":0.2,"y":0.2}}')
    world.sleep(1.0)
    world.kill(world.nodes[owner])
    world.sleep(1.0)
    ann.join("video_1")
    world.sleep(0.1)
    assert ann.last("joined")["room"]["users"][0]["cursor"] == {"timestamp": 2.0, "x": 0.2, "y": 0.2}


def test_a_peer_message_that_fails_does_not_lose_those_read_with_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An exception in one message does not lose the messages read with it. All but a few kinds of errors left the rest
    of a read unhandled, and it is not sent again: joins, leaves and answers of other clients were lost."""
    world = World(workers=2)
    node, sender = world.nodes[1], 2
    bus = bus_of(node)
    ada = Client(world, node.hub).auth("ada")
    message = wire_messages.encode(Reply(session_id=ada.session_id, payload=b'{"type":"pong"}'))

    faults = iter([AttributeError("a fault of ours")])

    def fail(message: EdgeMessage, now: float) -> None:
        hub_on_edge_message(message, now)
        for fault in faults:
            raise fault

    hub_on_edge_message = node.hub.on_edge_message
    monkeypatch.setattr(node.hub, "on_edge_message", fail)
    bus.on_peer_messages(sender, [(wire_messages.EDGE_MESSAGE, message)] * 3)
    world.settle()
    assert len(ada.of("pong")) == 3
    assert [record.message for record in caplog.records] == ["failed to handle a message from worker 2"]


def test_a_command_that_waits_for_a_view_is_not_confirmed_until_it_is_done() -> None:
    """A command that waits for a view is confirmed when it is handled. Confirmed earlier, its sender would not retry it
    with the backup owner of a worker that dies meanwhile."""
    world = World(workers=3)
    before = ring_of(world).view
    after = Ring(View(epoch=2, peers=tuple(peer for peer in before.peers if peer.id != 3)))
    names = (f"user{number}" for number in range(1000))
    user_id = next(
        name for name in names if ring_of(world).owner(user_key(name)) == 3 and after.owner(user_key(name)) == 2
    )
    ahead, late = world.nodes[1], world.nodes[2]
    mine = Client(world, ahead.hub).auth(user_id).join()
    world.sleep(0.5)
    world.nodes[3].dead = True
    del world.nodes[3]
    view = world.next_view(frozenset())
    assert isinstance(ahead.bus, ClusterBus) and isinstance(late.bus, ClusterBus)
    ahead.bus.on_view(view, ahead.clock())
    world.sleep(0.5)
    mine.hang_up(1006)
    world.sleep(0.3)
    assert any(isinstance(each, EndSession) for each in ahead.bus.peers[2].unacknowledged)
    late.bus.on_view(view, late.clock())
    world.sleep(0.5)
    assert not ahead.bus.peers[2].unacknowledged


def test_a_late_record_is_sent_on_to_the_next_owner_and_not_to_the_lost_one() -> None:
    """A worker sends on a late record to the owner by the newest view. While owners changed it sent it to the previous
    owner, which may be gone: the record was lost, when its sender had kept no copy."""
    world = World(workers=4)
    before = ring_of(world).view
    after = View(epoch=before.epoch + 1, peers=tuple(peer for peer in before.peers if peer.id != 4))
    old, new = Ring(before), Ring(after)
    Client(world, world.nodes[1].hub).auth("ada").join("video_1")
    world.sleep(0.5)
    record = record_of(world.shard.rooms["video_1"])
    moved = next(f"r{n}" for n in range(1000) if [ring.owner(room_key(f"r{n}")) for ring in (old, new)] == [4, 3])
    world.nodes[4].dead = True
    del world.nodes[4]
    ahead, late = bus_of(world.nodes[1]), bus_of(world.nodes[2])
    ahead.on_view(after, world.now)
    message = wire_messages.RoomReplica(moved, late.me, record)
    late.peers[ahead.me].outgoing.put(wire_messages.ROOM, wire_messages.encode(message))
    world.settle()
    for number in (2, 3):
        bus_of(world.nodes[number]).on_view(after, world.now)
    world.sleep(1.0)
    assert moved in world.nodes[3].shard.rooms


def test_an_edges_report_that_was_sent_on_does_not_replace_its_later_one() -> None:
    """The latest report of an edge counts. A worker that was to own a room sent on the edge's report by that view, which
    arrived behind the report by the next view: a member whose join had been answered between the two received no events
    of the room."""
    world = World(workers=3)
    before = ring_of(world).view
    after = View(epoch=before.epoch + 1, peers=tuple(peer for peer in before.peers if peer.id != 3))
    old, new = Ring(before), Ring(after)
    room = next(f"r{n}" for n in range(1000) if [ring.owner(room_key(f"r{n}")) for ring in (old, new)] == [3, 1])
    ada = Client(world, world.nodes[2].hub).auth("ada").join(room)
    world.sleep(0.5)
    connection = world.shard.rooms[room].members[ada.session_id].connection
    world.nodes[3].dead = True
    del world.nodes[3]
    bus = bus_of(world.nodes[1])
    bus.on_view(after, world.now)
    for epoch, subscribed in ((after.epoch, True), (before.epoch, False)):
        presence = Presence(edge=2, sessions={ada.session_id: (subscribed, connection, None)}, epoch=epoch)
        message = RoomPresence(room_id=room, presence=presence)
        bus.transfer.on_peer_message(2, wire_messages.PRESENCE, message, world.now)
    for stage in (QUIESCED, TRANSFERRED, SYNCED):
        bus.transfer.on_peer_message(2, wire_messages.STAGE, wire_messages.Stage(after.epoch, stage), world.now)
    assert not bus.transfer.recovering
    assert world.nodes[1].shard.rooms[room].members[ada.session_id].attached


def test_other_workers_are_written_to_before_the_owners_own_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    """An owner that dies between its writes must not have sent its own clients an event that no other worker has."""
    world = World(workers=2)
    owner = world.nodes[ring_of(world).owner(room_key("video_1"))]
    other = next(node for node in world.nodes.values() if node is not owner)
    here = Client(world, owner.hub).auth("ada").join("video_1")
    there = Client(world, other.hub).auth("bob").join("video_1")
    world.sleep(1.0)
    written: list[str] = []
    link_write, client_write = FakeLink.write, Client.send_frames

    def to_worker(link: FakeLink, data: bytes) -> None:
        if b'"typing_started"' in data and link.sender == owner.number:
            written.append("worker")
        link_write(link, data)

    def to_client(client: Client, data: bytes) -> None:
        if b'"typing_started"' in data:
            written.append("own client" if client is here else "other's client")
        client_write(client, data)

    monkeypatch.setattr(FakeLink, "write", to_worker)
    monkeypatch.setattr(Client, "send_frames", to_client)
    there.send(type="typing", roomId="video_1", data={"isTyping": True})
    world.sleep(0.5)
    assert written == ["worker", "own client"]


class Apart(NamedTuple):
    """A user whose owner, its backup owner, the room's owner and the session's edge are four workers."""

    world: World
    user: str
    room: str
    owner: Node
    backup: Node
    room_owner: Node
    edge: Node


def apart() -> Apart:
    world = World(workers=6)
    ring = ring_of(world)
    for number in range(10_000):
        user, room = f"user{number}", f"video_{number}"
        at = [ring.owner(user_key(user)), ring.backup_owner(user_key(user)), ring.owner(room_key(room))]
        if len(set(at)) == 3:
            edge = next(node for each, node in world.nodes.items() if each not in at)
            return Apart(world, user, room, *(world.nodes[each] for each in at), edge)
    raise AssertionError("no such names")


@pytest.mark.parametrize("by_the_edge", [True, False])
def test_a_join_by_call_that_its_edge_has_not_received_is_no_leave(by_the_edge: bool) -> None:
    """A join by call that the session's edge has not received is not taken for a leave. A call for a connected session
    joins a room, and the user's owner dies before the session's edge has the answer."""
    it = apart()
    bob = Client(it.world, it.backup.hub).auth("bob").join(it.room)
    ada = Client(it.world, it.edge.hub).auth(it.user)
    it.world.sleep(1.0)
    bob.take()
    it.room_owner.links[it.edge.number].cut = True
    hub = it.edge.hub if by_the_edge else it.backup.hub
    call = it.world.http(it.user, ada.session_id).start("join", {"roomId": it.room, "roomType": "video"}, hub=hub)
    it.world.sleep(0.05)
    it.world.kill(it.owner)
    it.world.sleep(0.5)
    it.room_owner.links[it.edge.number].mend()
    it.world.sleep(8.0)
    assert call.done and ada.session_id in it.world.shard.rooms[it.room].members
    assert [message["type"] for message in bob.take("user_joined", "user_left")] == ["user_joined"]
    assert not ada.of("left")


@pytest.mark.parametrize("stands_s", [0.0, 0.5, 1.0])
def test_an_expelled_session_gets_nothing_of_the_room_from_its_next_owners(stands_s: float) -> None:
    """The room's next owners send nothing to a session that was expelled. Its user's owner and backup owner die as it
    is expelled, and its edge stops for a moment: the room confirms it to the next owner."""
    it = apart()
    bob = Client(it.world, it.room_owner.hub).auth("bob").join(it.room)
    ada = Client(it.world, it.edge.hub).auth(it.user).join(it.room)
    it.world.sleep(1.0)
    ada.take()
    bob.take()
    for node in (it.owner, it.backup):
        node.dead = True
    ada.session.memberships.expel(it.room, "out", it.world.now)
    it.edge.stopped = []
    for node in (it.owner, it.backup):
        del it.world.nodes[node.number]
    view = it.world.next_view()
    for node in list(it.world.nodes.values()):
        node.do(lambda node=node: bus_of(node).on_view(view, node.clock()), first=True)
    it.world.sleep(stands_s)
    it.edge.go_on()
    it.world.sleep(8.0)
    assert ada.session_id not in it.world.shard.rooms[it.room].members
    assert [message["type"] for message in ada.take() if message["type"] in ("joined", "left", "kicked")] == ["kicked"]
    assert [message["data"]["reason"] for message in bob.take("user_left")] == ["kicked"]


def test_unknown_fields_of_a_clients_message_are_not_relayed_and_not_kept() -> None:
    """The owner receives what it reads. A `control_cancel` with 15 kB of unknown fields was relayed and kept until it was
    acknowledged, with all of them."""
    it = apart()
    ada = Client(it.world, it.edge.hub).auth(it.user).join(it.room)
    it.world.sleep(1.0)
    ada.take()
    peer = bus_of(it.edge).peers[it.room_owner.number]
    for junk in ("x" * 15_000, "x"):
        before = peer.outgoing.put_bytes
        ada.post({"type": "control_cancel", "roomId": it.room, "id": len(junk), "junk": junk})
        assert peer.outgoing.put_bytes - before < 300
        (kept,) = peer.unacknowledged
        assert isinstance(kept, RoomAction) and (junk == "x") == (b"junk" in kept.raw)
        it.world.sleep(1.0)
        assert [message["id"] for message in ada.take("ack")] == [len(junk)] and not peer.unacknowledged


def test_a_relayed_message_that_its_owner_cannot_decode_is_answered(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The client gets INVALID_MESSAGE, over its socket and for a call. The owner dropped the message with a traceback,
    and the client waited for an answer."""
    it = apart()
    ada = Client(it.world, it.edge.hub).auth(it.user).join(it.room)
    it.world.sleep(1.0)
    ada.take()

    def refuse(data: bytes) -> None:
        raise BadMessage("INVALID_JSON", "The message is nested too deeply.", type="control_cancel")

    monkeypatch.setattr(wire_messages, "decode_message", refuse)
    ada.post({"type": "control_cancel", "roomId": it.room, "id": 5})
    http = it.world.http(it.user, ada.session_id)
    call = http.start("requestControl", {"roomId": it.room}, hub=it.edge.hub)
    it.world.sleep(1.0)
    (error,) = ada.take("error")
    assert (error["code"], error["id"], error["roomId"]) == ("INVALID_MESSAGE", 5, it.room)
    assert call.done and "INVALID_MESSAGE" in str(call.error)
    assert not caplog.records and not bus_of(it.edge).peers[it.room_owner.number].unacknowledged


def test_leaves_are_known_for_a_while_after_their_answer() -> None:
    """The edge keeps leaves for a while after their answer: the room has answered, and the user's owner may be lost
    before another worker has received it."""
    membership = RoomMembership("video_1")
    leave = LeaveRoom(user_id="ada", room_id="video_1", session_id="s", reply_to=ReplyTo(1, "s", 7), reason="kicked")
    membership.note_leave_sent(leave, 10.0)
    assert membership.left_reason(11.0) is None and not membership.is_over(11.0)
    membership.note_left()
    assert membership.left_reason(12.0) == "kicked" and not membership.is_over(12.0)
    assert membership.left_reason(10.0 + LEAVING_S) is None and membership.is_over(10.0 + LEAVING_S)
    membership.note_leave_sent(leave, 30.0)
    membership.note_left()
    membership.note_entered()
    assert membership.left_reason(31.0) is None and membership.is_over(31.0)


def test_a_peer_that_confirms_nothing_is_noticed_and_one_that_confirms_is_not() -> None:
    class Wire:
        def write(self, data: bytes) -> None: ...

        def close(self) -> None: ...

    peer = PeerConnection(Wire(), lambda: None)
    command = EndSession(user_id="ada", session_id="s", connection=1, grace=True, reason="left")
    assert peer.stuck_since is None
    peer.send_command(command, 2.0)
    peer.send_command(command, 2.5)
    peer.note_progress(3.0)
    assert peer.stuck_since == 2.0
    peer.on_acknowledged(1)
    for now in (4.0, 5.0):
        peer.note_progress(now)
        assert peer.stuck_since == 4.0
    peer.on_acknowledged(2)
    peer.note_progress(6.0)
    assert peer.stuck_since is None


def shard_without_records() -> Shard:
    """A worker that has lost all records of its users; its versions are above those that rooms have."""
    shard = World().shard
    for _ in range(5):
        shard.context.next_version()
    return shard


def statement_of_room(profile: Profile) -> ConfirmMember:
    """What the room `video_1` states about its only member, session `s1` of the user `ada`."""
    return ConfirmMember(
        user_id="ada",
        room_id="video_1",
        session_id="s1",
        membership_id=5,
        connection=7,
        profile=profile,
        session_info=SessionInfo(edge=1, session_id="s1", user_id="ada", connection=7, session_version=1),
    )


def test_an_ended_session_is_not_restored_for_a_room_that_stood_still() -> None:
    """A user whose records are lost is restored from the statement of a room. Its only session ends, and with it the
    user. A later statement of a room that stood still, about the same session, removes the member there. It restored
    the session, which then was shown as away until the end of its grace period."""
    shard = shard_without_records()

    def confirm() -> list[Command | tuple[int, EdgeMessage]]:
        shard.handle(statement_of_room(Profile(version=1)), 1.0)
        return list(shard.take_effects())

    confirm()
    assert list(shard.users["ada"].sessions) == ["s1"]
    shard.handle(EndSession(user_id="ada", session_id="s1", connection=7, edge=1, grace=False, reason="left"), 2.0)
    shard.take_effects()
    assert "ada" not in shard.users
    (removal,) = (each for each in confirm() if isinstance(each, RemoveMember))
    assert (removal.session_id, removal.reason) == ("s1", "left")
    assert "ada" not in shard.users


def test_a_leave_that_a_restored_room_has_sent_is_not_reported_again() -> None:
    """The leave of a member reaches the next owner of the room before the room's record. The restored room sends it,
    once, also when another owner has a record of the same room."""
    world = World(workers=2, telling=True)
    first = next(iter(world.nodes.values()))
    ann = Client(world, first.hub).auth("ann").join("video_1")
    bob = Client(world, first.hub).auth("bob").join("video_1")
    world.sleep(1.0)
    shard = world.owner_of("video_1").shard
    room = shard.rooms.pop("video_1")
    record = record_of(room)
    room.release()
    world.sleep(0.1)
    membership_id = record.members[ann.session_id].membership_id
    now, before = world.now, len(world.webhook_events)
    shard.handle(
        RemoveMember(room_id="video_1", session_id=ann.session_id, reason="left", membership_id=membership_id), now
    )
    gathered = GatheredRoom()
    gathered.add_record(1, record)
    competing_head = structs.replace(record.head, created_at=record.head.created_at - 0.5)
    gathered.add_record(2, structs.replace(record, revision=record.revision - 1, head=competing_head))
    take_over_room(shard, "video_1", gathered, [], [1, 2], now)
    world.sleep(1.0)
    assert bob.session_id in shard.rooms["video_1"].members
    left = [each for each in world.webhook_events[before:] if isinstance(each, UserLeft)]
    assert [(each.user_id, each.reason) for each in left] == [("ann", "left")]


def test_the_last_frames_of_ended_rooms_can_be_flushed_ahead_and_keep_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rooms end, and their last frames wait for the flush window. `flush_ended` sends them at once, in the order in
    which the rooms have ended, and those of a room that ends by that. After a flush no ended room is kept."""
    world = World(workers=2)
    ring, owner = ring_of(world), next(iter(world.nodes.values()))
    rooms = [room for room in (f"video_{n}" for n in range(64)) if ring.owner(room_key(room)) == owner.number][:4]
    name = next(name for name in ("ann", "bob", "cat", "dan", "eve") if ring.owner(user_key(name)) == owner.number)
    ann = Client(world, owner.hub).auth(name)
    for room in rooms:
        ann.join(room)
    world.sleep(1.0)
    ann.take()
    bus, hub = bus_of(owner), owner.hub
    on_flush = hub.on_flush

    def end_another(flush: Any, now: float) -> None:
        on_flush(flush, now)
        if flush.room_id == rooms[0]:
            ann.post({"type": "leave", "roomId": rooms[2]})

    monkeypatch.setattr(hub, "on_flush", end_another)
    ann.post({"type": "leave", "roomId": rooms[0]})
    ann.post({"type": "leave", "roomId": rooms[1]})
    bus.flush_ended(world.now)
    bus.edge.on_flushed(world.now)
    assert [message["roomId"] for message in ann.take("left")] == rooms[:3]
    ann.post({"type": "leave", "roomId": rooms[3]})
    assert [room.id for room in bus._ended] == [rooms[3]]
    world.sleep(1.0)
    assert [message["roomId"] for message in ann.take("left")] == [rooms[3]]
    assert not bus._ended


def test_a_room_whose_recorded_members_have_left_ends_behind_all_that_any_worker_has_received() -> None:
    """The leave of the last member reaches the next owner of the room before the room's records, of which an older one
    has received more events. All records are deleted, by a delta that is behind those events. With the `seq` of the
    newest record, an edge could take the deletion for that of another room, and end its sessions."""
    world = World(workers=2)
    ann = world.person("ann", "video_1")
    world.sleep(1.0)
    shard = world.owner_of("video_1").shard
    room = shard.rooms.pop("video_1")
    record = record_of(room)
    room.release()
    membership_id = record.members[ann.session_id].membership_id
    shard.handle(
        RemoveMember(room_id="video_1", session_id=ann.session_id, reason="left", membership_id=membership_id),
        world.now,
    )
    gathered = GatheredRoom()
    gathered.add_record(1, record)
    gathered.add_record(2, structs.replace(record, revision=record.revision - 1, seq=record.seq + 4))
    take_over_room(shard, "video_1", gathered, [], [1, 2], world.now)
    (ended,) = shard.take_freed()
    assert "video_1" not in shard.rooms
    assert not ended.members
    assert ended.replica_holders == {1, 2}
    assert ended.flushed_seq == record.seq + 4
    assert ended.revision >= record.revision


def test_a_route_that_arrives_after_the_leave_does_not_outlive_the_refused_join() -> None:
    """A route that arrived while the session left the room was kept. When the next join was refused, the rate limiter
    still took cursors for the room, and one that waited there raised KeyError out of a cursor for another room."""
    world = World(workers=2, max_users_per_room=1)
    edge, owner = world.nodes.values()
    owned = [f"video_{number}" for number in range(64)]
    owned = [room for room in owned if ring_of(world).owner(room_key(room)) == owner.number]
    room, other = owned[:2]
    ann = Client(world, edge.hub).auth("ann")
    world.sleep(0.5)
    ann.join(other)
    late: list[tuple[str, Any]] = []
    hub: Any = edge.hub
    on_route, hub.on_route = hub.on_route, lambda session_id, route: late.append((session_id, route))
    ann.join(room)
    world.sleep(1.0)
    assert [route.key.decode() for _, route in late] == [room]
    name = next(
        name for name in ("bob", "cat", "dan", "eve", "fay") if ring_of(world).owner(user_key(name)) == owner.number
    )
    bob = Client(world, owner.hub).auth(name)
    world.sleep(0.5)
    world.link_delay_s = lambda sender, receiver: 0.3 if sender == owner.number else 0.0
    ann.take()
    ann.post({"type": "leave", "roomId": room, "id": 3})
    hub.on_route = on_route
    for session_id, route in late:
        hub.on_route(session_id, route)
    world.timers.advance(0.05)
    bob.post({"type": "join", "roomId": room, "roomType": "video", "id": 4})  # takes the only place
    world.timers.advance(0.05)
    ann.post({"type": "join", "roomId": room, "roomType": "video", "id": 5})  # before the stream has ended
    world.sleep(2.0)
    assert [(message["type"], message.get("code")) for message in ann.take()] == [
        ("left", None),
        ("error", "ROOM_FULL"),
    ]

    def show(room_id: str, **more: Any) -> None:
        ann.post({"type": "cursor", "roomId": room_id, "data": {"timestamp": 1.0, "x": 0.5, "y": 0.5, **more}})
        world.timers.advance(0.005)

    for n in range(40):
        show(room, x=n / 100)
        show(other, x=n / 100, target="t")
    world.sleep(1.0)
    assert ann.closed is None
    assert {message["code"] for message in ann.take("error")} == {"NOT_IN_ROOM"}


def test_of_two_names_of_the_same_second_the_later_one_outlives_the_statement_of_a_room_that_stood_still() -> None:
    """A user whose records are lost is restored from the statement of a room, and gets a token with another name,
    issued in the same second. A room that stood still then reports the earlier name. It replaced the later one in all
    rooms."""
    shard = shard_without_records()

    def confirm(name: str, version: int) -> None:
        shard.handle(statement_of_room(Profile(user_info=UserInfo(name, None, 7.0), version=version)), 1.0)

    confirm("Ada", 2)
    confirm("Ada King", 3)
    assert shard.users["ada"].user_info.name == "Ada King", "a room that has more of the lost owner"
    renewed = RenewUserInfo(user_id="ada", session_id="s1", user_info=UserInfo("Ada Lovelace", None, 7.0))
    shard.handle(renewed, 2.0)
    confirm("Ada King", 3)
    assert shard.users["ada"].user_info.name == "Ada Lovelace"
