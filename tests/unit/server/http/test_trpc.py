"""tRPC's HTTP protocol without HTTP: requests in, answers out [M6, M6b]."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from koko_presence.protocol.errors import ERRORS, PresenceError
from koko_presence.server.http import trpc
from koko_presence.server.http.trpc import Answer, ProcedureKind, RawRequest, Request, TrpcError
from koko_presence.server.rpc import Procedures

KINDS: dict[str, ProcedureKind] = {**Procedures.KINDS, "onEvent": "subscription"}
ACTIVE, JOIN, LEAVE = "presence.getActive", "presence.join", "presence.leave"
DATA = {"users": [], "totalCount": 0}


def get(paths: str = ACTIVE, input: Any = None, **fields: Any) -> RawRequest:
    return RawRequest("GET", paths, fields.pop("batch", False), None if input is None else json.dumps(input), **fields)


def post(
    paths: str = JOIN, body: Any = None, content_type: str | None = "application/json", **fields: Any
) -> RawRequest:
    data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    return RawRequest("POST", paths, fields.pop("batch", False), None, data, content_type, **fields)


def answered(raw_request: RawRequest, *outcomes: Any) -> Answer:
    request = Request(raw_request, KINDS)
    results = [call.refusal or outcome for call, outcome in zip(request.calls, outcomes, strict=True)]
    return trpc.answer(raw_request, request, results)


def refusal(raw_request: RawRequest) -> TrpcError:
    with pytest.raises(TrpcError) as caught:
        Request(raw_request, KINDS)
    return caught.value


def bad(code: str, **fields: Any) -> TrpcError:
    return trpc.from_presence(PresenceError(code, **fields))


# --- one call -----------------------------------------------------------------------------------------------------


def test_a_query_is_answered_with_the_recorded_bytes() -> None:
    answer = answered(get(), DATA)
    assert (answer.status, answer.body) == (200, b'{"result":{"data":{"users":[],"totalCount":0}}}')
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["vary"] == "trpc-accept, accept, Origin"


def test_a_procedure_that_returns_nothing_has_no_data() -> None:
    assert answered(post(LEAVE), UNSET).body == b'{"result":{}}'


def test_an_error_has_the_recorded_shape_and_our_own_code_beside_it() -> None:
    answer = answered(post(), bad("INVALID_MESSAGE", message="Invalid enum value 'nope' - at `$.roomType`"))
    assert answer.status == 400
    assert json.loads(answer.body) == {
        "error": {
            "message": "Invalid enum value 'nope' - at `$.roomType`",
            "code": -32600,
            "data": {
                "code": "BAD_REQUEST",
                "httpStatus": 400,
                "path": "presence.join",
                "reason": "INVALID_MESSAGE",
            },
        }
    }


@pytest.mark.parametrize("code", ERRORS)
def test_every_error_of_ours_has_a_number_and_a_status_m6b(code: str) -> None:
    answer = answered(post(), bad(code))
    error = json.loads(answer.body)["error"]
    assert answer.status == error["data"]["httpStatus"] == ERRORS[code].http_status == trpc.CODES[ERRORS[code].trpc][1]
    assert error["data"]["code"] == ERRORS[code].trpc
    assert error["code"] == trpc.CODES[ERRORS[code].trpc][0]


def test_only_rate_limited_has_a_time_to_retry_m6b() -> None:
    answer = answered(post(), bad("RATE_LIMITED", retry_after_s=1.25))
    assert answer.headers["retry-after"] == "2"
    assert json.loads(answer.body)["error"]["data"]["retryAfter"] == 1.25
    full = answered(post(), bad("ROOM_FULL"))
    assert full.status == 429 and "retry-after" not in full.headers
    assert "retryAfter" not in json.loads(full.body)["error"]["data"]


def test_what_a_client_needs_to_snap_back_is_in_the_error_h16() -> None:
    answer = answered(post("presence.syncPlayback"), bad("STALE", state={"version": 4}))
    assert json.loads(answer.body)["error"]["data"]["state"] == {"version": 4}


@pytest.mark.parametrize(
    "path", ["presence.nope", "getActive", "presence.", "presence.call", "x.y", "", "presence.KINDS"]
)
def test_an_unknown_procedure_is_not_found(path: str) -> None:
    answer = answered(get(path), DATA)
    assert answer.status == 404
    error = json.loads(answer.body)["error"]
    assert error["message"] == f'No procedure found on path "{path}"'
    assert (error["code"], error["data"]["code"], error["data"]["path"]) == (-32004, "NOT_FOUND", path)


def test_get_never_does_a_mutation() -> None:
    answer = answered(get(JOIN), DATA)
    assert (answer.status, answer.headers["allow"]) == (405, "POST")
    assert json.loads(answer.body)["error"]["message"] == (
        'Unsupported GET-request to mutation procedure at path "presence.join"'
    )


def test_a_query_may_come_by_post() -> None:
    request = Request(post(ACTIVE, {"roomId": "video_1"}), KINDS)
    assert request.calls[0].refusal is None
    assert request.input(0) == {"roomId": "video_1"}


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "TRACE"])
def test_other_methods_are_refused(method: str) -> None:
    answer = answered(RawRequest(method, ACTIVE, False, None), DATA)
    assert (answer.status, answer.headers["allow"]) == (405, "GET, POST")


def test_a_subscription_is_not_for_http() -> None:
    assert answered(get("presence.onEvent"), DATA).status == 405


@pytest.mark.parametrize(
    "content_type", [None, "", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x",
                     "application/jsonx", "text/json", "application/octet-stream"],
)  # fmt: skip
def test_a_post_that_a_form_could_send_is_refused(content_type: str | None) -> None:
    error = refusal(post(content_type=content_type))
    answer = trpc.refuse(error)
    assert answer.status == 415
    assert "path" not in json.loads(answer.body)["error"]["data"]


@pytest.mark.parametrize("content_type", ["application/json", "Application/JSON", "application/json; charset=utf-8"])
def test_json_may_be_written_in_several_ways(content_type: str) -> None:
    assert Request(post(body={"roomId": "r"}, content_type=content_type), KINDS).input(0) == {"roomId": "r"}


# --- inputs -------------------------------------------------------------------------------------------------------

NO_JSON = [b"{", b"nope", b'{"a":NaN}', b'{"a":Infinity}', b'{"a":1e999}', b'{"a":"\xff"}', b'"\xed\xa0\x80"', b"[" * 40_000,
           b'{"a":' * 20_000, b"{} {}", b"\x00", b"\xef\xbb\xbf{}"]  # fmt: skip


@pytest.mark.parametrize("body", NO_JSON, ids=range(len(NO_JSON)))
def test_what_is_no_json_is_a_bad_request_and_no_parse_error(body: bytes) -> None:
    request = Request(post(body=body), KINDS)
    with pytest.raises(TrpcError) as caught:
        request.input(0)
    assert (caught.value.code, caught.value.status) == ("BAD_REQUEST", 400)


def test_inputs_are_read_late_so_that_a_missing_token_wins() -> None:
    answer = answered(post(body=b"{nonsense"), bad("UNAUTHENTICATED"))
    assert answer.status == 401


def test_no_input_is_unset() -> None:
    assert Request(get(), KINDS).input(0) is UNSET
    assert Request(post(), KINDS).input(0) is UNSET
    batch = Request(post(f"{JOIN},{LEAVE}", {"1": {"roomId": "r"}}, batch=True), KINDS)
    assert (batch.input(0), batch.input(1)) == (UNSET, {"roomId": "r"})


def test_null_is_not_nothing() -> None:
    assert Request(post(body=b"null"), KINDS).input(0) is None


# --- batches ------------------------------------------------------------------------------------------------------


def test_a_mixed_batch_is_207_with_the_recorded_bytes() -> None:
    raw_request = get(f"{ACTIVE},{ACTIVE}", {"0": {}, "1": {}}, batch=True)
    error = TrpcError("BAD_REQUEST", "Invalid enum value 'nope' - at `$.roomType`")
    answer = answered(raw_request, DATA, error)
    assert answer.status == 207
    assert answer.body == (
        b'[{"result":{"data":{"users":[],"totalCount":0}}},{"error":{"message":"Invalid enum value \'nope\' - at '
        b'`$.roomType`","code":-32600,"data":{"code":"BAD_REQUEST","httpStatus":400,"path":"presence.getActive"}}}]'
    )


def test_a_batch_that_agrees_has_that_status() -> None:
    assert answered(get("x.a,x.b", batch=True), DATA, DATA).status == 404
    assert answered(get(f"{ACTIVE},{ACTIVE}", batch=True), DATA, DATA).status == 200


def test_a_batch_of_one_is_an_array() -> None:
    assert json.loads(answered(get(batch=True), DATA).body) == [{"result": {"data": DATA}}]


def test_paths_with_a_comma_are_one_path_without_batch() -> None:
    assert answered(get(f"{ACTIVE},{ACTIVE}"), DATA).status == 404


def test_a_batch_has_at_most_20_calls() -> None:
    assert len(Request(get(",".join([ACTIVE] * 20), batch=True), KINDS).calls) == 20
    assert refusal(get(",".join([ACTIVE] * 21), batch=True)).code == "BAD_REQUEST"


def test_a_batch_needs_an_object() -> None:
    request = Request(post(f"{JOIN},{LEAVE}", [1, 2], batch=True), KINDS)
    with pytest.raises(TrpcError, match='"input" needs to be an object when doing a batch call'):
        request.input(1)


def test_queries_and_mutations_do_not_mix() -> None:
    assert refusal(post(f"{JOIN},{ACTIVE}", batch=True)).message.startswith("Cannot mix procedure types")


def test_jsonl_is_one_line_with_everything_in_it() -> None:
    answer = answered(get(f"{ACTIVE},x.y", batch=True, jsonl=True), DATA, DATA)
    assert answer.status == 200
    assert answer.body.endswith(b"}\n") and answer.body.count(b"\n") == 1
    line = json.loads(answer.body)
    assert line["0"] == [[{"result": {"data": DATA}}]]
    assert line["1"][0][0]["error"]["data"]["code"] == "NOT_FOUND"


def test_jsonl_is_for_batches() -> None:
    assert refusal(get(jsonl=True)).message == "Streaming requests must be batched (you can do a batch of 1)"


# --- superjson ----------------------------------------------------------------------------------------------------

UNDEFINED = {"json": None, "meta": {"values": ["undefined"], "v": 1}}


def test_a_wrapped_input_is_answered_wrapped() -> None:
    raw_request = post(body={"json": {"roomId": "r"}})
    assert Request(raw_request, KINDS).input(0) == {"roomId": "r"}
    assert json.loads(answered(raw_request, DATA).body) == {"result": {"data": {"json": DATA}}}
    failed = json.loads(answered(raw_request, bad("ROOM_FULL")).body)
    assert failed["error"]["json"]["data"]["reason"] == "ROOM_FULL"


def test_superjsons_undefined_is_nothing() -> None:
    raw_request = post("presence.heartbeat", UNDEFINED)
    assert Request(raw_request, KINDS).input(0) is UNSET
    assert json.loads(answered(raw_request, DATA).body) == {"result": {"data": {"json": DATA}}}


def test_superjsons_undefined_fields_are_absent() -> None:
    body = {
        "json": {"roomId": "r", "roomType": None, "a": {"b.c": None, "d": 1}},
        "meta": {
            "values": {"roomType": ["undefined"], "a.b\\.c": ["undefined"], "x.y": ["undefined"], "": ["undefined"]}
        },
    }
    assert Request(post(body=body), KINDS).input(0) == {"roomId": "r", "a": {"d": 1}}


def test_an_error_before_the_input_is_wrapped_too() -> None:
    raw_request = get(JOIN, {"json": {}})
    assert json.loads(answered(raw_request, DATA).body)["error"]["json"]["code"] == -32005


def test_superjson_wraps_the_line_of_jsonl() -> None:
    raw_request = get(f"{ACTIVE},{ACTIVE}", {"0": UNDEFINED, "1": UNDEFINED}, batch=True, jsonl=True)
    line = json.loads(answered(raw_request, DATA, DATA).body)
    assert line == {"json": {"0": [[{"result": {"data": DATA}}]], "1": [[{"result": {"data": DATA}}]]}}


# --- arbitrary input ----------------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.text(max_size=8)
    | st.sampled_from(["undefined", "json"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["json", "meta", "values", "0", "1", "a.b", "a", "\\\\.", ""]), inner, max_size=3
        )
    ),
    max_leaves=12,
)


@given(
    body=st.binary(max_size=40) | JSON.map(lambda value: json.dumps(value).encode()),
    paths=st.sampled_from([ACTIVE, JOIN, f"{JOIN},{LEAVE}", f"{ACTIVE},x.y", "", ",", "presence.onEvent"])
    | st.text(max_size=30),
    method=st.sampled_from(["GET", "POST", "PUT"]),
    batch=st.booleans(),
    jsonl=st.booleans(),
)
def test_whatever_comes_is_answered(body: bytes, paths: str, method: str, batch: bool, jsonl: bool) -> None:
    query_input = body.decode(errors="replace")
    raw_request = RawRequest(method, paths, batch, query_input, body, "application/json", jsonl)
    try:
        request = Request(raw_request, KINDS)
    except TrpcError as error:
        assert json.loads(trpc.refuse(error).body)["error"]["data"]["httpStatus"] == error.status
        return
    outcomes: list[Any] = []
    for index, call in enumerate(request.calls):
        try:
            outcomes.append(call.refusal or request.input(index))
        except TrpcError as error:
            outcomes.append(error)
    answer = trpc.answer(raw_request, request, outcomes)
    assert answer.status in (200, 207, 400, 404, 405)
    json.loads(answer.body)
