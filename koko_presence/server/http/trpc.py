"""Parses tRPC requests over HTTP into calls, and builds responses as @trpc/server 11.25 does [M6, M6b]. Pure.

Inputs are parsed when a call needs them, so that the error of a missing token or of an unknown procedure takes
precedence over that of an invalid body. A caller that wraps its inputs by superjson (`{"json":...}`) gets wrapped
outputs.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import msgspec
from msgspec import UNSET

from koko_presence.protocol.errors import ERRORS, PresenceError

PREFIX = "presence."
MAX_BATCH = 20
MAX_BODY_BYTES = 64 * 1024
EVENTS = "onEvent"  # the only subscription

ProcedureKind = Literal["query", "mutation", "subscription"]

# tRPC code -> JSON-RPC error number and HTTP status [as in client and server of tRPC 11]
CODES: dict[str, tuple[int, int]] = {
    "PARSE_ERROR": (-32700, 400),
    "BAD_REQUEST": (-32600, 400),
    "UNAUTHORIZED": (-32001, 401),
    "FORBIDDEN": (-32003, 403),
    "NOT_FOUND": (-32004, 404),
    "METHOD_NOT_SUPPORTED": (-32005, 405),
    "TIMEOUT": (-32008, 408),
    "CONFLICT": (-32009, 409),
    "PRECONDITION_FAILED": (-32012, 412),
    "PAYLOAD_TOO_LARGE": (-32013, 413),
    "UNSUPPORTED_MEDIA_TYPE": (-32015, 415),
    "TOO_MANY_REQUESTS": (-32029, 429),
    "INTERNAL_SERVER_ERROR": (-32603, 500),
    "NOT_IMPLEMENTED": (-32603, 501),
    "BAD_GATEWAY": (-32603, 502),
    "SERVICE_UNAVAILABLE": (-32603, 503),
    "GATEWAY_TIMEOUT": (-32603, 504),
}


class TrpcError(Exception):
    """The failure of a call or of a whole request. `code` is a key of CODES, `reason` an error code of the protocol
    [L6] or ""."""

    def __init__(
        self,
        code: str,
        message: str,
        *,
        reason: str = "",
        retry_after_ms: int | None = None,
        state: Any = None,
        allow: str = "",
    ) -> None:
        self.code, self.message, self.reason = code, message, reason
        self.retry_after_ms, self.state, self.allow = retry_after_ms, state, allow
        super().__init__(message)

    @property
    def status(self) -> int:
        """The HTTP status."""
        return CODES[self.code][1]

    @property
    def is_temporary(self) -> bool:
        """True when the same may succeed later, without a change at the client."""
        return self.status >= 500

    @property
    def retry_after_s(self) -> int | None:
        """Seconds for the Retry-After header, rounded up; None for errors other than RATE_LIMITED and UNAVAILABLE, such
        as a full room, whose end is not known [M6b]."""
        if self.retry_after_ms is None or self.reason not in ("RATE_LIMITED", "UNAVAILABLE"):
            return None
        return -(-self.retry_after_ms // 1000)

    def shape(self, path: str | None) -> dict[str, Any]:
        """The value of `error` in the response; a call's error has its `path`, that of a whole request has None."""
        data: dict[str, Any] = {"code": self.code, "httpStatus": self.status}
        if path is not None:
            data["path"] = path
        if self.reason:
            data["reason"] = self.reason
        if self.retry_after_s is not None and self.retry_after_ms is not None:
            data["retryAfter"] = self.retry_after_ms / 1000
        if self.state is not None:
            data["state"] = self.state
        return {"message": self.message, "code": CODES[self.code][0], "data": data}


def from_presence(error: PresenceError) -> TrpcError:
    """Convert a PresenceError to its tRPC error [M6b]."""
    kind = ERRORS[error.code]
    message = error.message.replace("retryAfterMs", "retryAfter")  # the name of the field in tRPC, in seconds
    return TrpcError(kind.trpc, message, reason=error.code, retry_after_ms=error.retry_after_ms, state=error.state)


INTERNAL = from_presence(PresenceError("INTERNAL"))


def error_of_close(code: int, failure: TrpcError | None, refusal: str) -> TrpcError:
    """The error that a subscription ends with when its session is closed with `code`. `failure` is the session's last
    error that answers no call, `refusal` the text of its last error."""
    if code == 1013:  # the token could not be checked
        return TrpcError("SERVICE_UNAVAILABLE", refusal, reason="UNAVAILABLE")
    if code == 4409:
        return TrpcError("CONFLICT", "This session has a newer connection.", reason="ALREADY_AUTHENTICATED")
    if code == 4403:
        return from_presence(PresenceError("FORBIDDEN", "You were removed by an operator or your application."))
    if code == 1011:
        return INTERNAL
    if code == 4401:
        return from_presence(PresenceError("UNAUTHENTICATED", refusal or "There is no valid token."))
    return failure or from_presence(PresenceError("RATE_LIMITED", refusal))


# --- procedures ---------------------------------------------------------------------------------------------------


def kind_of(path: str, kinds: Mapping[str, ProcedureKind]) -> ProcedureKind | None:
    """The kind of the procedure at `path`; None when there is none."""
    return kinds.get(path.removeprefix(PREFIX)) if path.startswith(PREFIX) else None


def no_procedure(path: str) -> TrpcError:
    return TrpcError("NOT_FOUND", f'No procedure found on path "{path[:200]}"')


# --- inputs -------------------------------------------------------------------------------------------------------

_decoder = msgspec.json.Decoder()
_encoder = msgspec.json.Encoder()
encode = _encoder.encode


def read_json(data: bytes | str) -> Any:
    """Decode JSON. Errors: TrpcError BAD_REQUEST, which tRPC uses for invalid JSON instead of PARSE_ERROR [M6]."""
    try:
        return _decoder.decode(data)
    except RecursionError:
        raise TrpcError("BAD_REQUEST", "The input is nested too deeply.", reason="INVALID_JSON") from None
    except (msgspec.DecodeError, UnicodeError) as error:
        raise TrpcError("BAD_REQUEST", f"The input is not valid JSON: {error}.", reason="INVALID_JSON") from None


class Input(NamedTuple):
    """One call's input, UNSET without one; `wrapped`: it was wrapped by superjson."""

    value: Any
    wrapped: bool


NOTHING = Input(UNSET, False)


def unwrap(value: Any) -> Input:
    """Remove superjson's wrapper, if there is one. No input has a field `json` of its own, so it is unambiguous."""
    if not isinstance(value, dict) or "json" not in value or not value.keys() <= {"json", "meta"}:
        return Input(value, False)
    inner, meta = value["json"], value.get("meta")
    marks = meta.get("values") if isinstance(meta, dict) else None
    if isinstance(marks, list) and marks[:1] == ["undefined"]:
        return Input(UNSET, True)
    if isinstance(marks, dict):
        for path, mark in marks.items():
            if isinstance(mark, list) and mark[:1] == ["undefined"]:
                _drop(inner, [part.replace("\\.", ".") for part in re.split(r"(?<!\\)\.", path)])
    return Input(inner, True)


def _drop(value: Any, path: list[str]) -> None:
    """Remove the field at `path`: superjson encodes an undefined field as null with a mark."""
    for part in path[:-1]:
        value = value.get(part) if isinstance(value, dict) else None
    if isinstance(value, dict):
        value.pop(path[-1], None)


def wrap(value: Any, wrapped: bool) -> Any:
    """`value`, with superjson's wrapper if `wrapped`; outputs contain neither Dates nor Maps, so there is no `meta`."""
    return {"json": value} if wrapped else value


# --- a request ----------------------------------------------------------------------------------------------------


class RawRequest(NamedTuple):
    """The parts of a request that tRPC uses. `paths` is the path after /trpc/; `content_type` is None without one."""

    method: str
    paths: str
    batch: bool
    query_input: str | None
    body: bytes = b""
    content_type: str | None = None
    jsonl: bool = False


class Call(NamedTuple):
    """One call of a request. `refusal` is the error of a call that is not executed."""

    path: str
    name: str
    refusal: TrpcError | None


class Request:
    """The calls of one request. Errors of the constructor: TrpcError for the whole request."""

    def __init__(self, raw_request: RawRequest, kinds: Mapping[str, ProcedureKind]) -> None:
        self._raw_request = raw_request
        self._inputs: list[Input] | TrpcError | None = None
        if raw_request.method == "POST" and _media_type(raw_request.content_type) != "application/json":
            # strict: this content type makes a browser send a CORS preflight before a cross-site request with cookies
            what = "Missing content-type header" if raw_request.content_type is None else "Unsupported content-type"
            named = "" if raw_request.content_type is None else f' "{raw_request.content_type[:100]}"'
            raise TrpcError("UNSUPPORTED_MEDIA_TYPE", f"{what}{named}; send application/json")
        paths = raw_request.paths.split(",") if raw_request.batch else [raw_request.paths]
        if len(paths) > MAX_BATCH:
            raise TrpcError("BAD_REQUEST", f"Batch call exceeds maximum size of {MAX_BATCH}")
        if raw_request.jsonl and not raw_request.batch:
            raise TrpcError("BAD_REQUEST", "Streaming requests must be batched (you can do a batch of 1)")
        found = {kind for path in paths if (kind := kind_of(path, kinds)) is not None}
        if len(found) > 1:
            raise TrpcError("BAD_REQUEST", f"Cannot mix procedure types in call: {', '.join(sorted(found))}")
        self.calls = [
            Call(path, path.removeprefix(PREFIX), _refusal(raw_request.method, path, kind_of(path, kinds)))
            for path in paths
        ]

    def input(self, index: int) -> Any:
        """The input of call `index`, UNSET without one. Errors: TrpcError BAD_REQUEST."""
        inputs = self._read()
        if isinstance(inputs, TrpcError):
            raise inputs
        return inputs[index].value

    @property
    def wrapped(self) -> bool:
        """True when the caller wraps its inputs by superjson."""
        inputs = self._read()
        return not isinstance(inputs, TrpcError) and any(each.wrapped for each in inputs)

    def _read(self) -> list[Input] | TrpcError:
        if self._inputs is None:
            try:
                self._inputs = self._parse()
            except TrpcError as error:
                self._inputs = error
        return self._inputs

    def _parse(self) -> list[Input]:
        raw_request = self._raw_request
        data = raw_request.query_input if raw_request.method == "GET" else raw_request.body
        if not data:
            return [NOTHING] * len(self.calls)
        value = read_json(data)
        if not raw_request.batch:
            return [unwrap(value)]
        if not isinstance(value, dict):
            raise TrpcError("BAD_REQUEST", '"input" needs to be an object when doing a batch call')
        return [unwrap(value[key]) if (key := str(index)) in value else NOTHING for index in range(len(self.calls))]


def _media_type(content_type: str | None) -> str:
    return (content_type or "").split(";")[0].strip().lower()


def _refusal(method: str, path: str, kind: ProcedureKind | None) -> TrpcError | None:
    if kind is None:
        return no_procedure(path)
    if kind == "subscription":
        message = f'"{path}" is a subscription: use httpSubscriptionLink, which sends GET, or wsLink on /trpc'
        return TrpcError("METHOD_NOT_SUPPORTED", message, allow="GET")
    accepted = ("POST",) if kind == "mutation" else ("GET", "POST")  # never a mutation by GET
    if method in accepted:
        return None
    message = f'Unsupported {method}-request to {kind} procedure at path "{path}"'
    return TrpcError("METHOD_NOT_SUPPORTED", message, allow=", ".join(accepted))


# --- a response ---------------------------------------------------------------------------------------------------


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


Outcome = TrpcError | Any  # the result of a procedure, or its error


def envelope(path: str | None, outcome: Outcome, wrapped: bool) -> dict[str, Any]:
    """`{"result":{"data":...}}` or `{"error":...}`; a procedure that returns nothing has no `data`."""
    if isinstance(outcome, TrpcError):
        return {"error": wrap(outcome.shape(path), wrapped)}
    return {"result": {} if outcome is UNSET else {"data": wrap(outcome, wrapped)}}


def answer(raw_request: RawRequest, request: Request, outcomes: Sequence[Outcome]) -> Answer:
    """The response to a request with these outcomes of its calls; 207 when the statuses of a batch differ."""
    statuses = {outcome.status if isinstance(outcome, TrpcError) else 200 for outcome in outcomes}
    errors = [outcome for outcome in outcomes if isinstance(outcome, TrpcError)]
    wrapped = request.wrapped
    if raw_request.jsonl:
        return _one_line(request, outcomes, errors)
    envelopes = [envelope(call.path, outcome, wrapped) for call, outcome in zip(request.calls, outcomes, strict=True)]
    status = statuses.pop() if len(statuses) == 1 else 207
    return Answer(status, _headers(errors), encode(envelopes if raw_request.batch else envelopes[0]))


def _one_line(request: Request, outcomes: Sequence[Outcome], errors: Sequence[TrpcError]) -> Answer:
    """The response for httpBatchStreamLink: one line with all results inline, where @trpc/server sends references and
    chunks. superjson wraps the line, not the results in it."""
    line = {
        str(index): [[envelope(call.path, outcome, False)]]
        for index, (call, outcome) in enumerate(zip(request.calls, outcomes, strict=True))
    }
    headers = _headers(errors) | {"content-type": "application/json"}
    return Answer(200, headers, encode(wrap(line, request.wrapped)) + b"\n")


def refuse(error: TrpcError, wrapped: bool = False) -> Answer:
    """The response to a request that failed as a whole."""
    return Answer(error.status, _headers([error]), encode(envelope(None, error, wrapped)))


def _headers(errors: Sequence[TrpcError]) -> dict[str, str]:
    headers = {"content-type": "application/json", "vary": "trpc-accept, accept, Origin", "cache-control": "no-store"}
    waits = [wait for error in errors if (wait := error.retry_after_s) is not None]
    if waits:
        headers["retry-after"] = str(max(waits))
    allowed = [error.allow for error in errors if error.allow]
    if allowed:
        headers["allow"] = allowed[0]
    return headers
