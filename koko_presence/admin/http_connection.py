"""The HTTP connection of the public and of the operator port: its answers to requests that no handler receives.

aiohttp logs a traceback for each request that it cannot parse, and answers 400 with plain text that repeats a part of
the request. Here the client gets a JSON error that says what to do, with 431 for a long head [RFC 6585 section 5], and
nothing is logged: the fault is the client's, and the request may contain a session cookie.
"""

import logging
from typing import Any

import msgspec
from aiohttp import web
from aiohttp.http_exceptions import BadHttpMessage, BadHttpMethod, HttpProcessingError, InvalidURLError, LineTooLong

log = logging.getLogger("koko_presence.http")

TOO_MANY_HEADERS = "Too many headers received"  # aiohttp has no class for it
NO_TLS = "There is no TLS on this port: use http:// or ws://."
_CODES = {
    404: "NOT_FOUND",
    405: "METHOD_NOT_ALLOWED",
    413: "TOO_LARGE",
    417: "EXPECTATION_FAILED",
    431: "HEAD_TOO_LARGE",
    500: "INTERNAL",
    504: "TIMEOUT",
}


class JsonErrors(web.RequestHandler):
    """aiohttp's protocol of one connection, with a JSON error for each request that is not answered otherwise: one that
    cannot be parsed, an HTTPError that no handler has caught, and an exception of a handler, which alone is logged."""

    __slots__ = ()

    head_too_large = (
        "The request's head is too large: 128 fields of 8190 bytes, and as many for its first line, are allowed."
    )

    def error_body(self, code: str, message: str) -> object:
        """The body of an error response."""
        return {"error": {"code": code, "message": message}}

    def not_found(self, path: str) -> str:
        """The message of a 404 that only the router has decided; `path` is the beginning of the request's."""
        return f"There is no {path} here."

    def error_response(self, status: int, message: str) -> web.Response:
        """An error response that caches do not store."""
        return web.Response(
            status=status,
            body=msgspec.json.encode(self.error_body(_CODES.get(status, "BAD_REQUEST"), message)),
            content_type="application/json",
            headers={"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"},
        )

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer a request that cannot be parsed, or whose handler has raised `exc`; the connection is closed then.

        Errors: ConnectionError when no response can be sent, because the connection is closed or has a part of one."""
        if isinstance(exc, ConnectionError) and (self.transport is None or self.transport.is_closing()):
            raise exc  # the client has closed the connection
        if not isinstance(exc, HttpProcessingError):
            log.error("an HTTP request failed", exc_info=exc, extra={"path": request.path[:200]})
        if request.writer.output_size > 0:
            raise ConnectionError("a part of the response has been sent")
        if isinstance(exc, HttpProcessingError):
            status, message = self._fault_of(exc)
        else:
            message = "Something went wrong here. It was logged."
        response = self.error_response(status, message)
        response.force_close()
        return response

    def _fault_of(self, error: HttpProcessingError) -> tuple[int, str]:
        """Status and message for a request that cannot be parsed, without text of the request."""
        if isinstance(error, LineTooLong) or error.message == TOO_MANY_HEADERS:
            return 431, self.head_too_large
        if isinstance(error, BadHttpMethod):
            if error.message.startswith("Received HTTPS"):
                return 400, NO_TLS
            return 400, "This is no HTTP request, or one of an unknown method."
        if isinstance(error, InvalidURLError):
            return 400, "The request's address cannot be read. Percent-encode spaces and control characters."
        # of this class only, the message's first line is the parser's own text
        why = (
            error.message.partition("\n")[0].rstrip(":.") if type(error) is BadHttpMessage else "Invalid header or body"
        )
        return 400, f"This is no valid HTTP/1.1 request. {why}."

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send a response; an HTTPError of the router or of aiohttp is sent as JSON, with its headers."""
        if isinstance(resp, web.HTTPError):
            answer = self.error_response(resp.status, self._message_of(request, resp))
            if "Allow" in resp.headers:
                answer.headers["Allow"] = resp.headers["Allow"]
            if resp.status == 417:  # the body is not read
                answer.force_close()
            resp = answer
        return await super().finish_response(request, resp, start_time)

    def _message_of(self, request: web.BaseRequest, error: web.HTTPError) -> str:
        if isinstance(error, web.HTTPNotFound):
            return self.not_found(request.rel_url.raw_path[:100] or request.method)
        if isinstance(error, web.HTTPMethodNotAllowed):
            return f"Use {' or '.join(sorted(error.allowed_methods))} here, not {request.method[:20]}."
        if isinstance(error, web.HTTPExpectationFailed):
            return "The only expectation that is met is  Expect: 100-continue"
        return error.reason

    def log_exception(self, *args: Any, **settings: Any) -> None:
        """Log what aiohttp reports as an error, except that a request's body cannot be read."""
        error = settings.get("exc_info")
        if not isinstance(error, HttpProcessingError | web.RequestPayloadError):
            log.error("an HTTP connection failed", exc_info=error)
