"""Messages between workers: equal on both sides, however the stream is cut into reads."""

import contextlib

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from koko_presence._fastpath.fanout import RoomFlush, StreamFrame
from koko_presence._fastpath.wire import FrameDecoder, PeerBuffer, PeerMessageTooLong, pack_flush, unpack_flush
from koko_presence.cluster import wire_messages
from koko_presence.cluster.peer import PeerConnection
from koko_presence.protocol import commands as c
from koko_presence.protocol.codec import decode
from koko_presence.protocol.delivery import Delivery
from koko_presence.protocol.errors import PresenceError
from koko_presence.protocol.messages import ROOM_MESSAGES, ControlCancel, StatusData
from koko_presence.protocol.models import Privacy
from koko_presence.protocol.settings import SettingsChange
from tests.examples import FULL

PROFILE = c.Profile(status="busy", status_message="hi 👍", activity="idle")
SESSION_INFO = c.SessionInfo(edge=3, session_id="s", user_id="ü", connection=3 << 32, session_version=7)
ENTER = c.EnterRoom(
    user_id="ü",
    room_id="r",
    session_info=SESSION_INFO,
    room_type="video",
    reply_to=c.ReplyTo(3, "s", 7),
    privacy=Privacy(invisible=True),
)
CALL = c.ReplyTo(edge=3, number=1 << 40)
AUTHORITY = c.Authority(user_id="ü", can_control=True, can_broadcast=False, moderator=True, presence=False)
COMMANDS: list[c.Command] = [
    c.OpenSession(
        user_id="u",
        edge=1,
        connection=(1 << 32) + 5,
        accepted_at=2.0,
        new_session_id="f",
        resume="g",
        privacy=Privacy(),
    ),
    ENTER,
    c.LeaveRoom(user_id="u", room_id="r", session_id="s", reply_to=c.ReplyTo(3, "s", "x"), reason="kicked"),
    c.EndSession(user_id="u", session_id="s", connection=5, grace=True, reason="left"),
    c.ReportActivity(user_id="u", session_id="s", activity="away", interacted=True, at=1.5),
    c.ChangeStatus(
        user_id="u",
        session_id="s",
        activity="idle",
        data=StatusData(status="busy"),
        at=1.5,
        reply_to=c.ReplyTo(3, "s", 1),
    ),
    c.ChangePrivacy(user_id="u", session_id="s", privacy=Privacy(share_cursor=False, scope="user"), disabled=False),
    c.RoomLeft(user_id="u", room_id="r", session_id="s", membership_id=4),
    c.ConfirmMember(
        user_id="u",
        room_id="r",
        session_id="s",
        membership_id=4,
        connection=9,
        grace_until=1.5,
        profile=PROFILE,
        session_info=SESSION_INFO,
    ),
    c.ChangeGrant(
        user_id="u",
        room_id="r",
        session_id="s",
        connection=9,
        session_version=1 << 41,
        can_control=True,
        can_broadcast=False,
        moderator=False,
    ),
    c.AdmitMember(room_id="r", enter=ENTER, membership_id=3, profile=PROFILE),
    c.RemoveMember(room_id="r", session_id="s", reason="left", reply_to=c.ReplyTo(3, "s", "a")),
    c.SuspendMember(room_id="r", session_id="s", connection=4, grace_until=12.5, version=1 << 42),
    c.ResumeMember(
        room_id="r", session_id="s", user_id="u", edge=2, connection=8, version=3, membership_id=1, subscribed=True
    ),
    c.RenewUserInfo(user_id="ü", session_id="s", user_info=c.UserInfo("Ann", "https://a.example/a.png", 7.0)),
    c.ApplyProfile(room_id="r", user_id="u", session_id="s", profile=PROFILE),
    c.ApplyPrivacy(
        room_id="r", session_id="s", version=9, invisible=True, disabled=False, share_cursor=True, share_selection=False
    ),
    c.ApplyUserPresence(room_id="r", user_id="u"),
    c.UpdatePermissions(room_id="r", session_id="s", version=9, can_control=True, can_broadcast=False, moderator=True),
    c.QueryActive(room_id="r", user_id="u", session_id="s", room_type="video", reply_to=c.ReplyTo(1, "s", 3)),
    c.WatchRoom(room_id="r", edge=2, number=7, watches=True, room_type="video"),
    c.QuerySummary(room_id="r", room_type="project", reply_to=CALL),
    c.ChangeSettings(room_id="r", change=SettingsChange(title="Cut 3", max_users=None)),
    c.ServerBroadcast(room_id="r", data=b'{"a":1}', to=["u"]),
    c.SpendQueryBudget(user_id="u", reply_to=CALL),
    c.QueryLeases(user_id="u", session_id="s", reply_to=CALL),
    c.RenewLeases(user_id="u", sessions=["s"], presence=[False], activity="idle", reply_to=CALL),
    c.BeatStream(user_id="u", session_id="s", activity="away", token="t", expires_at_s=5.0, reply_to=CALL),
    c.BeatStream(user_id="u", session_id="s", activity=None, token="", cookie=("sid", "v"), expires_at_s=5.0),
    c.RenewLease(room_id="r", session_id="s", user_id="u", membership_id=3, lease_until=90.5, reply_to=CALL, renewed=2),
]
TEXTS = [
    *(msgspec.json.encode(FULL[type_]) for type_ in ROOM_MESSAGES),
    b'{"type":"cursor","roomId":"r","data":null}',
    b'{"type":"playback","roomId":"r","id":4,"data":{"action":"seek","currentTime":3}}',
    '{"type":"broadcast","roomId":"r","data":{"type":"reaction","emoji":"👍","n":[1,2.50]},"to":["b"]}'.encode(),
]


def test_every_command_is_here() -> None:
    assert {type(command) for command in COMMANDS} | {c.RoomAction} == set(c.COMMANDS)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: type(command).__name__)
def test_a_command_is_the_same_on_the_other_side(command: c.Command) -> None:
    again = wire_messages.decode_command(wire_messages.encode_command(command))
    assert again == command and wire_messages.key_of(again) == wire_messages.key_of(command)


@pytest.mark.parametrize(
    "command",
    [command for command in COMMANDS if "reply_to" in command.__struct_fields__],
    ids=lambda command: type(command).__name__,
)
def test_the_reply_address_is_the_same_on_the_other_side(command: c.Command) -> None:
    asked = msgspec.structs.replace(command, reply_to=CALL)
    assert asked.by_call and asked.message_id is None
    assert wire_messages.decode_command(wire_messages.encode_command(asked)) == asked


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: msgspec.json.decode(text)["type"])
def test_a_clients_message_is_the_same_on_the_other_side(text: bytes) -> None:
    message = decode(text)
    act = c.RoomAction(room_id="r", session_id="s", reply_to=c.ReplyTo(1, "s"), message=message, raw=text)  # type: ignore[arg-type]
    again = wire_messages.decode_command(wire_messages.encode_command(act))
    assert again == act
    act.reply_to, act.authority = CALL, AUTHORITY
    assert wire_messages.decode_command(wire_messages.encode_command(act)) == act
    assert isinstance(again, c.RoomAction) and msgspec.json.encode(again.message) == msgspec.json.encode(act.message)


def test_a_clients_message_is_carried_as_the_client_has_sent_it() -> None:
    """The edge does not encode it again; a message that the server has made or changed has no such text."""
    text = b'{ "roomId":"r", "type":"control_request", "unknown":1 }'
    act = c.RoomAction(room_id="r", session_id="s", message=decode(text), raw=text)  # type: ignore[arg-type]
    assert text in wire_messages.encode_command(act)
    made = msgspec.structs.replace(act, raw=b"")
    assert text not in wire_messages.encode_command(made)
    again = wire_messages.decode_command(wire_messages.encode_command(made))
    assert again == msgspec.structs.replace(made, raw=msgspec.json.encode(made.message))


def test_a_relayed_action_has_the_fields_of_the_action() -> None:
    assert {*wire_messages.RelayedAction.__struct_fields__, "message"} == set(c.RoomAction.__struct_fields__)


def test_a_clients_message_that_cannot_be_decoded_is_an_error_with_its_address() -> None:
    raw = b'{"type":"control_cancel","roomId":"r","junk":' + b"[" * 5000 + b"]" * 5000 + b"}"
    act = c.RoomAction(
        room_id="r", session_id="s", reply_to=c.ReplyTo(1, "s", 7), message=ControlCancel(room_id="r"), raw=raw
    )
    with pytest.raises(wire_messages.UndecodableAction) as error:
        wire_messages.decode_command(wire_messages.encode_command(act))
    assert (error.value.code, error.value.id, error.value.room_id) == ("INVALID_MESSAGE", 7, "r")
    assert error.value.reply_to == act.reply_to


def test_what_may_be_done_twice_is_kept_and_nothing_else() -> None:
    acts = {
        msgspec.json.decode(text)["type"]: c.RoomAction(
            room_id="r", session_id="s", reply_to=c.ReplyTo(1, "s"), message=decode(text)
        ).delivery  # type: ignore[arg-type]
        for text in TEXTS
    }
    assert {kind for kind, delivery in acts.items() if delivery is Delivery.AT_MOST_ONCE} == {"cursor", "broadcast"}
    assert set(acts.values()) == {Delivery.AT_MOST_ONCE, Delivery.BUS_REPEATS}
    found = {type(command).__name__: command.delivery for command in COMMANDS}
    assert {name for name, delivery in found.items() if delivery is Delivery.AT_MOST_ONCE} == {"ServerBroadcast"}
    assert {name for name, delivery in found.items() if delivery is Delivery.SENDER_REPEATS} == {
        "OpenSession", "EnterRoom", "LeaveRoom", "ConfirmMember", "WatchRoom",
    }  # fmt: skip
    unnamed = c.LeaveRoom(user_id="u", room_id="r", session_id="")
    assert unnamed.delivery is Delivery.AT_MOST_ONCE, "it could match another session the second time"


def test_a_command_without_a_delivery_cannot_be_declared() -> None:
    with pytest.raises(TypeError, match="Forgetful declares no delivery"):

        class Forgetful(c.RoomCommand, kw_only=True):
            session_id: str


@given(st.binary(max_size=200))
@settings(max_examples=300)
def test_garbage_is_refused_with_a_documented_error(body: bytes) -> None:
    for read in (
        wire_messages.decode_command,
        lambda data: wire_messages.decode(wire_messages.EDGE_MESSAGE, data),
        unpack_flush,
    ):
        with contextlib.suppress(msgspec.MsgspecError, PresenceError, ValueError):
            read(body)


ITEMS = [
    StreamFrame(b"\x81\x01a", skip="s1", merge="cs1", compact=b"[1,2]"),
    StreamFrame(b"\x81\x01b", skip="s1", merge="ss1"),
    StreamFrame(b"\x81\x01c", only="s2", attach=True),
    StreamFrame(b"", only="s2", detach=True),
    StreamFrame(b"\x81\x01d", only="s3", refusal=True),
    StreamFrame(b"x" * 70_000),
]


def fields(item: StreamFrame) -> tuple[object, ...]:
    names = ("frame", "skip", "only", "merge", "compact", "attach", "detach", "refusal")
    return tuple(getattr(item, name) for name in names)


def test_a_flush_is_the_same_on_the_other_side() -> None:
    body = pack_flush(RoomFlush("röom", ITEMS, "2025-01-15T10:30:00.000Z"), 7, 41, 43, b"delta")
    flush, epoch, before, seq, delta = unpack_flush(body)
    assert (flush.room_id, flush.timestamp, epoch, before, seq, delta) == (
        "röom", "2025-01-15T10:30:00.000Z", 7, 41, 43, b"delta",
    )  # fmt: skip
    assert [fields(item) for item in flush.items] == [fields(item) for item in ITEMS]


def test_a_flush_that_ends_too_early_is_refused() -> None:
    body = pack_flush(RoomFlush("r", ITEMS[:5], "t"), 1, 2, 3, b"")
    whole = unpack_flush(body)[0].items
    for size in range(len(body)):
        with contextlib.suppress(ValueError):
            assert len(unpack_flush(body[:size])[0].items) < len(whole)  # cut between two items


@given(st.lists(st.tuples(st.integers(2, 255), st.binary(max_size=50)), max_size=20), st.integers(1, 40))
@settings(max_examples=100)
def test_peer_messages_are_decoded_whole_in_any_cut_of_the_stream(sent: list[tuple[int, bytes]], step: int) -> None:
    out = PeerBuffer(lambda: None)
    for kind, body in sent:
        out.put(kind, body)
    data, decoder, got = out.take(), FrameDecoder(1000), []
    for at in range(0, len(data), step):
        got += decoder.feed(data[at : at + step])
    assert got == sent


def test_a_peer_message_that_is_too_long_is_an_error() -> None:
    out = PeerBuffer(lambda: None)
    out.put(5, b"x" * 1000)
    with pytest.raises(PeerMessageTooLong):
        FrameDecoder(999).feed(out.take())


class Wire:
    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def close(self) -> None:
        self.closed = True


def test_commands_are_kept_until_the_other_side_has_confirmed_them_in_order() -> None:
    peer = PeerConnection(Wire(), lambda: None)
    drops = [
        c.SuspendMember(room_id="r", session_id=str(n), connection=n, grace_until=12.5, version=n) for n in range(3)
    ]
    for drop in drops:
        peer.send_command(drop, 0.0)
    peer.send_command(COMMANDS[1], 0.0)  # retried by its edge, so it is not kept here
    assert list(peer.unacknowledged) == drops
    peer.on_acknowledged(2)
    assert list(peer.unacknowledged) == drops[2:]
    peer.on_acknowledged(2)
    peer.on_acknowledged(3)
    assert not peer.unacknowledged


def test_what_a_command_has_caused_is_written_before_it_is_confirmed() -> None:
    wire = Wire()
    peer = PeerConnection(wire, lambda: None)
    peer.on_reliable_command()
    assert peer.acknowledge() is True and peer.outgoing.take() == b"", "its room's flush may still be to come"
    assert peer.acknowledge() is False
    ((kind, body),) = FrameDecoder(100).feed(peer.outgoing.take())
    assert kind == wire_messages.ACKNOWLEDGED and wire_messages.decode(kind, body) == 1
