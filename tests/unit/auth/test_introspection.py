"""Session ids that the application verifies: presets, valid answers, and how long answers are cached."""

import asyncio
import json
from collections.abc import Coroutine
from typing import Any

import pytest
from msgspec import structs

from koko_presence.auth import introspection
from koko_presence.auth.factory import Verifiers
from koko_presence.auth.identity import Identity, TokenRefused, TooManyQueries, VerifierUnavailable, hash_of
from koko_presence.auth.introspection import Endpoint, IntrospectVerifier, Question, Verdict, VerdictCache
from koko_presence.auth.ttl_cache import CachedValue
from koko_presence.config.schema import Auth, Config, load
from koko_presence.protocol.models import RoomSettings
from koko_presence.server.http.trpc_http import unauthorized
from tests.unit.config.test_schema import written
from tests.waiting import until

from .fakes import NOW, FakeHttpClient

SESSION = {
    "session": {"token": "abc", "userId": "ann", "expiresAt": "2023-11-14T22:33:20.000Z"},  # NOW + 1200
    "user": {"id": "ann", "name": "Ann", "email": "ann@x.example", "image": "https://x.example/ann.png"},
}
BETTER_AUTH = Question(
    url="https://app.example/api/auth/get-session", method="GET", token_in="cookie", token_name="better-auth.session_token",
    id="user.id", name="user.name", image="user.image", expires="session.expiresAt", rooms="",
)  # fmt: skip
GENERIC = Question(
    url="https://id.example/introspect", method="POST", token_in="form", token_name="token",
    id="sub", name="name", image="picture", expires="exp", rooms="rooms", settings="settings", presence="presence", authorization="Basic c2VjcmV0",
)  # fmt: skip


def verifier(http_client: FakeHttpClient, question: Question = BETTER_AUTH, **more: Any) -> IntrospectVerifier:
    return IntrospectVerifier(
        question,
        (Endpoint(http_client), Endpoint(more.pop("kept", http_client))),
        VerdictCache(100),
        **({"cache_s": 30.0, "session_s": 3600.0} | more),
    )  # type: ignore[arg-type]


def answering(said: Any, status: int = 200) -> FakeHttpClient:
    return FakeHttpClient(json.dumps(said).encode(), status)


def told(introspector: IntrospectVerifier, token: str = "abc.def", now_s: float = NOW) -> Identity:
    answer = introspector.verify(token, now_s)
    return asyncio.run(answer) if isinstance(answer, Coroutine) else answer  # type: ignore[arg-type,return-value]


def test_better_auth_by_cookie_is_sent_under_every_name_that_it_may_have() -> None:
    http_client = answering(SESSION)
    who = told(verifier(http_client))
    assert (who.user_id, who.name, who.image, who.expires_at_s) == (
        "ann",
        "Ann",
        "https://x.example/ann.png",
        NOW + 1200,
    )
    ((url, headers, body),) = http_client.requests
    assert (url, body) == ("https://app.example/api/auth/get-session", b"")
    sent = headers["cookie"].split("; ")
    assert {"better-auth.session_token=abc.def", "__Secure-better-auth.session_token=abc.def"} <= set(sent)
    assert "authorization" not in headers


def test_better_auth_by_bearer_token() -> None:
    http_client = answering(SESSION)
    assert told(verifier(http_client, structs.replace(BETTER_AUTH, token_in="bearer"))).user_id == "ann"
    assert http_client.requests[0][1] == {"authorization": "Bearer abc.def"}


@pytest.mark.parametrize(
    ("token_in", "headers", "body"),
    [
        ("form", {"authorization": "Basic c2VjcmV0", "content-type": "application/x-www-form-urlencoded"}, b"token=a%2Bb%26c%3D"),
        ("json", {"authorization": "Basic c2VjcmV0", "content-type": "application/json"}, b'{"token":"a+b&c="}'),
        ("header", {"authorization": "Basic c2VjcmV0", "token": "a+b&c="}, b""),
    ],
)  # fmt: skip
def test_a_token_goes_where_the_application_expects_it(token_in: str, headers: dict[str, str], body: bytes) -> None:
    http_client = answering({"active": True, "sub": "ann", "exp": NOW + 60, "rooms": {"video_*": ["join", "fly"]}})
    who = told(verifier(http_client, structs.replace(GENERIC, token_in=token_in)), "a+b&c=")
    assert http_client.requests == [("https://id.example/introspect", headers, body)]
    assert (who.user_id, who.name, who.expires_at_s, who.rooms) == ("ann", "ann", NOW + 60, {"video_*": ("join",)})


@pytest.mark.parametrize(
    "said",
    [
        None,
        {},
        {"session": None, "user": None},
        {"user": {}},
        {"user": {"id": ""}},
        {"user": "ann"},
        {"user": {"id": None}},
    ],
)
def test_an_unknown_token_is_refused_and_cached_for_a_moment(said: Any) -> None:
    http_client = answering(said)
    introspector = verifier(http_client)
    for at, questions in ((0, 1), (4.9, 1), (5.0, 2)):
        with pytest.raises(TokenRefused, match="knows no such session") as refused:
            told(introspector, now_s=NOW + at)
        assert not isinstance(refused.value, VerifierUnavailable) and len(http_client.requests) == questions


@pytest.mark.parametrize("status", [401, 403])
def test_a_refusal_by_status_is_a_refusal(status: int) -> None:
    with pytest.raises(TokenRefused, match="knows no such session"):
        told(verifier(answering({"error": "no"}, status)))


def test_an_answer_may_switch_presence_off_q11() -> None:
    for said, shown in (
        ({"presence": False}, False),
        ({"presence": True}, True),
        ({"presence": None}, True),
        ({}, True),
    ):
        assert told(verifier(answering({"active": True, "sub": "ann", **said}), GENERIC)).presence is shown


def test_an_answer_may_have_the_settings_of_rooms() -> None:
    said = {"active": True, "sub": "ann", "settings": {"video_*": {"title": "Cut 3", "later": 1}}}
    assert told(verifier(answering(said), GENERIC)).settings == {"video_*": RoomSettings(title="Cut 3")}
    assert told(verifier(answering({"active": True, "sub": "ann"}), GENERIC)).settings == {}


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"active": False, "sub": "ann"}, "knows no such session"),
        ({"active": True, "sub": "system"}, "reserved"), ({"active": True, "sub": "x" * 129}, "longer than 128"), ({"active": True, "sub": "a\nb"}, "control characters"),
        ({"active": True, "sub": ["ann"]}, "names no user"), ({"active": True, "sub": True}, "names no user"), ({"active": True, "sub": 1.5}, "names no user"),
        ({"active": True, "sub": "ann", "exp": NOW}, "has expired"), ({"active": True, "sub": "ann", "exp": "2023-11-14T22:13:20Z"}, "has expired"),
        ({"active": True, "sub": "ann", "exp": "soon"}, "is not a valid time"), ({"active": True, "sub": "ann", "exp": -1}, "is not a valid time"),
        ({"active": True, "sub": "ann", "exp": 1e308}, "is not a valid time"), ({"active": True, "sub": "ann", "exp": True}, "is not a valid time"), ({"active": True, "sub": "ann", "exp": []}, "is not a valid time"),
        ({"active": True, "sub": "ann", "rooms": ["video_1"]}, "rooms must be an object"), ({"active": True, "sub": "ann", "rooms": {"a*b": []}}, "only at its end"),
        ({"active": True, "sub": "ann", "settings": ["video_1"]}, "settings must be an object"),
        ({"active": True, "sub": "ann", "presence": "off"}, "presence must be true or false"),
        ({"active": True, "sub": "ann", "settings": {"video_1": {"maxUsers": 0}}}, "settings of a room are not usable.*maxUsers"),
    ],
)  # fmt: skip
def test_an_invalid_answer_authenticates_no_client(said: dict[str, Any], reason: str) -> None:
    with pytest.raises(TokenRefused, match=reason):
        told(verifier(answering(said), GENERIC))


@pytest.mark.parametrize(
    ("exp", "expires_at_s"),
    [(NOW + 60, NOW + 60), (NOW * 1000 + 60_000, NOW + 60), ("2023-11-14T22:14:20Z", NOW + 60), ("2023-11-14T23:14:20+01:00", NOW + 60),
     ("2023-11-14T22:14:20", NOW + 60), (NOW + 9_999_999, NOW + 3600), (None, NOW + 3600), (NOW + 60.9, NOW + 60)],
)  # fmt: skip
def test_an_end_in_any_writing_and_an_hour_at_most(exp: Any, expires_at_s: int) -> None:
    assert told(verifier(answering({"active": True, "sub": 17, "exp": exp}), GENERIC)).expires_at_s == expires_at_s


@pytest.mark.parametrize(
    ("body", "status"),
    [(None, 200), (b"", 200), (b"<html>", 200), (b"[]", 200), (b'"ann"', 200), (b"[" * 5000, 200), (b"\xff", 200), (b"{}", 500), (b"{}", 404), (b"{}", 429), (b"{}", 201)],
)  # fmt: skip
def test_without_an_answer_no_client_is_accepted_and_all_may_retry(body: bytes | None, status: int) -> None:
    http_client = FakeHttpClient(body, status)
    introspector = verifier(http_client)
    for _ in range(2):
        with pytest.raises(VerifierUnavailable, match="gave no usable answer"):
            told(introspector)
    assert len(http_client.requests) == 2, "a failure is not remembered"


def test_an_answer_is_cached_for_its_ttl_and_never_past_the_sessions_end() -> None:
    http_client = answering({"sub": "ann", "exp": NOW + 50})
    introspector = verifier(http_client, GENERIC)
    for at, questions in ((0, 1), (29, 1), (30, 2), (49, 2)):
        assert told(introspector, now_s=NOW + at).user_id == "ann" and len(http_client.requests) == questions
    with pytest.raises(TokenRefused, match="has expired"):
        told(introspector, now_s=NOW + 50)
    assert len(http_client.requests) == 3


def test_many_clients_with_one_token_are_one_request_and_two_tokens_are_two() -> None:
    async def test() -> None:
        http_client = answering(SESSION)
        introspector = verifier(http_client)
        answers = [introspector.verify(token, NOW) for token in ("abc",) * 50 + ("def",) * 50]
        assert all([await answer for answer in answers])  # type: ignore[misc]
        assert len(http_client.requests) == 2
        assert isinstance(introspector.verify("abc", NOW), Identity), "at once, from now on"

    asyncio.run(test())


@pytest.mark.parametrize(
    "token", ["", "a b", "a\r\nx-evil: 1", "a;b", "a,b", 'a"b', "é", "a\x00", "\ud800", "x" * 8193]
)
def test_a_text_that_is_no_session_id_causes_no_request(token: str) -> None:
    http_client = answering(SESSION)
    with pytest.raises(TokenRefused):
        told(verifier(http_client), token)
    assert http_client.requests == []


def test_the_cache_holds_no_token() -> None:
    verdicts: Any = VerdictCache(100)
    introspector: Any = verifier(answering(SESSION), forwards=True)
    introspector._verdicts = verdicts
    told(introspector, "s3cret.token")
    assert len(verdicts._identities) == 1 and "s3cret" not in repr([vars(each) for each in vars(verdicts).values()])


def test_the_application_gets_the_users_credentials() -> None:
    http_client = answering(SESSION)
    assert told(verifier(http_client)).forward == ()
    by_cookie = told(verifier(http_client, forwards=True)).forward
    assert by_cookie[0][0] == "cookie" and "better-auth.session_token=abc.def" in by_cookie[0][1]
    bearer = structs.replace(BETTER_AUTH, token_in="bearer")
    assert told(verifier(http_client, bearer, forwards=True)).forward == (("authorization", "Bearer abc.def"),)
    header = structs.replace(BETTER_AUTH, token_in="header", token_name="X-Session")
    assert told(verifier(http_client, header, forwards=True)).forward == (("x-session", "abc.def"),)


def test_no_repr_shows_the_authorization() -> None:
    assert "c2VjcmV0" not in repr(GENERIC)


@pytest.mark.parametrize(
    ("toml", "sent"),
    [
        ('preset = "better-auth-cookie"', ("GET", "cookie", "better-auth.session_token", "user.id", "session.expiresAt")),
        ('preset = "better-auth-bearer"', ("GET", "bearer", "better-auth.session_token", "user.id", "session.expiresAt")),
        ('preset = "generic"', ("POST", "form", "token", "sub", "exp")),
        ('token_in = "json"\nid = "data.uid"\ntoken_name = "sid"', ("POST", "json", "sid", "data.uid", "exp")),
    ],
)  # fmt: skip
def test_presets_and_what_is_set_beside_them(tmp_path: Any, toml: str, sent: tuple[str, ...]) -> None:
    text = f'[auth]\nverifiers = ["introspect"]\n[auth.introspect]\nurl = "https://app.example/x"\n{toml}'
    introspector: Any = Verifiers().make(load(written(tmp_path, text), {}))
    asked = introspector._question
    assert (asked.method, asked.token_in, asked.token_name, asked.id, asked.expires) == sent


def test_the_cookie_that_browsers_send_is_the_one_that_the_application_reads(tmp_path: Any) -> None:
    text = '[server]\norigins = ["https://app.example"]\n[auth]\nverifiers = ["introspect"]\ncookie = "koko.session_token"\n'
    text += '[auth.introspect]\npreset = "better-auth-cookie"\nurl = "https://app.example/x"'
    introspector: Any = Verifiers().make(load(written(tmp_path, text), {}))
    assert introspector._question.token_name == "koko.session_token"


def test_the_default_is_no_introspection() -> None:
    assert "introspect" not in Config(auth=Auth(secret="s" * 32)).auth.verifiers


def test_made_up_tokens_do_not_pile_up_as_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(introspection, "MAX_QUESTIONS", 10)

    async def story() -> None:
        http_client = answering(None)
        http_client.hold = asyncio.Event()
        introspector = verifier(http_client)
        waiting = [asyncio.ensure_future(introspector.verify(f"token{n}", NOW)) for n in range(200)]  # type: ignore[arg-type]
        await until(lambda: sum(each.done() for each in waiting) == 190)
        await asyncio.sleep(0.01)
        done = [each for each in waiting if each.done()]
        assert len(http_client.requests) == 10 and len(done) == 190
        assert all(isinstance(each.exception(), VerifierUnavailable) for each in done)
        http_client.hold.set()
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert {type(each) for each in results} == {TokenRefused, VerifierUnavailable}
        with pytest.raises(TokenRefused, match="no such session"):
            await introspector.verify("token199", NOW)  # type: ignore[misc]

    asyncio.run(story())


@pytest.mark.parametrize("active", ["false", "true", 0, 1, None, [], {}, False])
@pytest.mark.parametrize("question", [GENERIC, BETTER_AUTH])
def test_active_is_true_or_the_token_is_refused(active: Any, question: Question) -> None:
    """RFC 7662 section 2.2: `active` is a boolean; "false", 0 and null were accepted as true."""
    said = {"active": active, "sub": "ann", **SESSION}
    with pytest.raises(TokenRefused, match="knows no such session"):
        told(verifier(answering(said), question))
    assert told(verifier(answering(said | {"active": True}), question)).user_id == "ann"


def test_the_generic_preset_wants_active_and_better_auth_has_none(tmp_path: Any) -> None:
    text = "[auth]\nverifiers = ['introspect']\n[auth.introspect]\nurl = 'https://app.example/x'\npreset = '%s'"
    said = {"sub": "ann", **SESSION}
    for preset, counts in (("generic", False), ("better-auth-cookie", True), ("better-auth-bearer", True)):
        made: Any = Verifiers().make(load(written(tmp_path, text % preset), {}))
        introspector = verifier(answering(said), made._question)
        if counts:
            assert told(introspector).user_id == "ann"
        else:
            with pytest.raises(TokenRefused, match="knows no such session"):
                told(introspector)


def test_made_up_tokens_displace_no_signed_in_user() -> None:
    """Refusals do not displace the cached answers of signed-in users. 20,000 refusals displaced all of them."""
    http_client = answering(SESSION)
    introspector = verifier(http_client, questions_hz=10_000.0)
    assert told(introspector, "good").user_id == "ann"
    http_client.body = b"null"
    for number in range(500):  # the cache holds 100
        with pytest.raises(TokenRefused):
            told(introspector, f"made up {number}".replace(" ", "_"))
    asked = len(http_client.requests)
    assert told(introspector, "good").user_id == "ann" and len(http_client.requests) == asked


def test_unknown_tokens_have_a_request_budget_and_those_accepted_before_need_none() -> None:
    """Requests for unknown tokens have a budget; tokens accepted before need none. One connection caused 1,413 requests
    a second with made-up tokens."""
    http_client, kept = answering(SESSION), answering(SESSION)
    introspector = verifier(http_client, kept=kept, questions_hz=10.0)
    assert told(introspector, "good").user_id == "ann"
    http_client.body, refused = b"null", []
    for number in range(1000):
        with pytest.raises(TokenRefused) as error:
            told(introspector, f"made_up_{number}")
        refused.append(isinstance(error.value, VerifierUnavailable))
    assert refused.count(False) == 49 and refused[-1], "five seconds' worth, less the first"
    assert isinstance(error.value, VerifierUnavailable) and not error.value.is_silence, "they were not asked about"
    later = NOW + 31.0
    assert told(introspector, "good", later).user_id == "ann" and len(kept.requests) == 1, (
        "by connections that are kept for it"
    )
    kept.body = b"null"
    with pytest.raises(TokenRefused):
        told(introspector, "good", later + 31.0)
    before = len(http_client.requests)
    with pytest.raises(TokenRefused):
        told(introspector, "good", later + 62.0)
    assert len(http_client.requests) == before + 1, "it was somebody's, and is unknown now"


def test_an_address_that_has_caused_too_many_requests_causes_no_more_q5() -> None:
    http_client, allowed = answering(SESSION), [True, False, False]
    introspector = verifier(http_client)

    def told_to(token: str) -> Identity:
        answer = introspector.verify(token, NOW, allowed.pop)
        return asyncio.run(answer) if isinstance(answer, Coroutine) else answer  # type: ignore[arg-type,return-value]

    allowed.reverse()
    assert told_to("abc").user_id == "ann"
    assert told_to("abc").user_id == "ann", "known: no question"
    with pytest.raises(TooManyQueries) as caught:
        told_to("def")
    assert not caught.value.is_silence
    assert caught.value.retry_after_s == 1.0 and len(http_client.requests) == 1 and allowed == [False]
    http_client.body = None
    allowed += [False, True]
    with pytest.raises(VerifierUnavailable):
        told_to("def")
    with pytest.raises(TooManyQueries) as caught:
        told_to("ghi")
    assert caught.value.is_silence, "nobody answered when it was asked last"
    error = unauthorized(caught.value)
    assert (error.code, error.reason, error.retry_after_s) == ("TOO_MANY_REQUESTS", "RATE_LIMITED", 1)


# --- between workers


def passing_on(http_client: FakeHttpClient) -> tuple[IntrospectVerifier, list[tuple[bytes, CachedValue[Verdict]]]]:
    told_on: list[tuple[bytes, CachedValue[Verdict]]] = []
    verdicts = VerdictCache(100, lambda key, kept: told_on.append((key, kept)))
    endpoint = Endpoint(http_client)  # type: ignore[arg-type]
    return IntrospectVerifier(BETTER_AUTH, (endpoint, endpoint), verdicts, cache_s=30.0, session_s=3600.0), told_on


def test_an_answer_shared_by_another_worker_expires_at_the_same_time() -> None:
    introspector, told_on = passing_on(answering(SESSION))
    assert told(introspector).user_id == "ann"
    ((key, kept),) = told_on
    assert kept.until == NOW + 30
    successor, _ = passing_on(FakeHttpClient(None))
    successor._verdicts.learn(key, kept, NOW + 20)
    assert told(successor, now_s=NOW + 29).name == "Ann"
    with pytest.raises(VerifierUnavailable):
        told(successor, now_s=NOW + 30)
    late, _ = passing_on(FakeHttpClient(None))
    late._verdicts.learn(key, kept, NOW + 30)
    with pytest.raises(VerifierUnavailable):
        told(late, now_s=NOW + 30)


def test_a_signed_out_user_is_refused_everywhere_even_while_the_provider_does_not_answer() -> None:
    http_client = answering(SESSION)
    introspector, told_on = passing_on(http_client)
    told(introspector)
    http_client.body = b"null"
    with pytest.raises(TokenRefused, match="knows no such session"):
        told(introspector, now_s=NOW + 30)
    successor, _ = passing_on(FakeHttpClient(None))
    for key, kept in told_on:
        successor._verdicts.learn(key, kept, NOW + 31)
    for one in (introspector, successor):
        assert one.was_refused("abc.def", NOW + 31) and one.was_refused("abc.def", NOW + 3600)
        assert not one.was_refused("another", NOW + 31)
        assert one.has_refused(hash_of("abc.def"), NOW + 31) and not one.has_refused(hash_of("another"), NOW + 31)
    with pytest.raises(VerifierUnavailable) as silence:
        told(successor, now_s=NOW + 40)
    assert silence.value.is_silence
    http_client.body = json.dumps(SESSION).encode()
    told(introspector, now_s=NOW + 50)
    assert not introspector.was_refused("abc.def", NOW + 51), "it has signed in again"


def test_an_older_acceptance_by_another_worker_does_not_undo_a_refusal() -> None:
    introspector, told_on = passing_on(answering(SESSION))
    told(introspector)
    other, _ = passing_on(answering(None))
    with pytest.raises(TokenRefused):
        told(other, now_s=NOW + 1)
    other._verdicts.learn(*told_on[0], NOW + 1.1)
    with pytest.raises(TokenRefused):
        told(other, now_s=NOW + 1.2)


def test_unknown_tokens_cause_no_message_to_other_workers() -> None:
    introspector, told_on = passing_on(answering(None))
    for number in range(50):
        with pytest.raises(TokenRefused):
            told(introspector, f"made-up-{number}")
    assert told_on == []
