"""Access to rooms by a token's claims: patterns, scopes, room types by name."""

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from koko_presence.access.policy import REFUSED, AllowAll, ClaimsAccess, room_type_of, scopes_for
from koko_presence.auth.hmac_jwt import Identity

ROOMS = {
    "video_1": ("join",),
    "video_*": ("join", "control", "broadcast"),
    "video_secret_*": (),
    "project_*": ("join", "moderate"),
    "half": ("control",),
}


def who(rooms: dict[str, tuple[str, ...]]) -> Identity:
    return Identity(user_id="ann", name="Ann", image=None, expires_at_s=1, rooms=rooms)


@pytest.mark.parametrize(
    ("room", "allow", "control", "broadcast", "moderator"),
    [
        ("video_1", True, False, False, False),  # the exact id takes precedence over any pattern
        ("video_2", True, True, True, False),
        ("video_", True, True, True, False),
        ("video_secret_9", False, False, False, False),  # the longest prefix counts, even if it grants less
        ("project_x", True, False, False, True),  # moderate implies nothing else
        ("half", False, False, False, False),  # without join no access
        ("video", False, False, False, False),
        ("elsewhere", False, False, False, False),
        ("", False, False, False, False),
        ("my_video_1", False, False, False, False),  # a prefix matches at the beginning only
    ],
)
def test_a6_claims(room: str, allow: bool, control: bool, broadcast: bool, moderator: bool) -> None:
    grant = ClaimsAccess().check(who(ROOMS), room, None)
    assert (grant.allow, grant.can_control, grant.can_broadcast, grant.moderator) == (
        allow,
        control,
        broadcast,
        moderator,
    )
    assert grant.reason == ("" if allow else REFUSED)


@pytest.mark.parametrize(
    ("room", "lacking"), [("elsewhere", "no entry for it"), ("half", "an entry for it without the scope join")]
)
def test_the_log_of_level_debug_says_what_a_token_lacks(
    room: str, lacking: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "koko_presence.access")
    assert ClaimsAccess().check(who(ROOMS), "video_2", None).allow and not caplog.messages
    assert ClaimsAccess().check(who(ROOMS), room, None).reason == REFUSED
    assert caplog.messages == [f"no access to the room {room}: the claim rooms of the token of ann has {lacking}"]


@given(
    st.dictionaries(st.text("ab*", max_size=4).filter(lambda p: "*" not in p[:-1]), st.sampled_from([("join",), ()])),
    st.text("ab", max_size=6),
)
def test_a6_the_longest_match_as_the_rule_is_written(rooms: dict[str, tuple[str, ...]], room: str) -> None:
    matching = [pattern for pattern in rooms if pattern.endswith("*") and room.startswith(pattern[:-1])]
    expected = rooms[room] if room in rooms else rooms[max(matching, key=len)] if matching else None
    assert scopes_for(who(rooms), room) == expected


def test_a_token_full_of_patterns_costs_no_more_look_ups_than_the_room_id_is_long() -> None:
    class Counting(dict[str, tuple[str, ...]]):
        looked = 0

        def get(self, key: str, default: object = None) -> object:  # type: ignore[override]
            self.looked += 1
            return super().get(key, default)  # type: ignore[call-overload]

    rooms = Counting({f"p{n}_*": ("join",) for n in range(700)})
    assert scopes_for(who(rooms), "x" * 128) is None
    assert rooms.looked == 130


def test_a6_no_such_room_and_not_allowed_are_one_answer() -> None:
    closed = ClaimsAccess().check(who(ROOMS), "video_secret_9", None)
    assert closed == ClaimsAccess().check(who(ROOMS), "elsewhere", "video")
    assert "Ask your application" in closed.reason


def test_a6_without_a_rooms_claim_nothing_is_open() -> None:
    assert not ClaimsAccess().check(who({}), "video_1", "video").allow
    assert ClaimsAccess().check(who({"*": ("join",)}), "anything", None).allow


def test_allow_all_leaves_moderation_to_the_token() -> None:
    grant = AllowAll().check(who({}), "video_1", None)
    assert grant.allow and grant.can_control and grant.can_broadcast and not grant.moderator
    assert AllowAll().check(who(ROOMS), "project_1", None).moderator


@pytest.mark.parametrize(
    ("room", "type_"),
    [("video_1", "video"), ("project_1", "project"), ("comment_thread_1", "comment_thread"), ("comparison_1", "comparison"),
     ("thread_1", "comment_thread"), ("comment_1", "comment_thread"), ("comments_1", None), ("Video_1", None),
     ("video", None), ("my_video_1", None), ("", None)],
)  # fmt: skip
def test_c1_prefixes(room: str, type_: str | None) -> None:
    assert room_type_of(room) == type_
