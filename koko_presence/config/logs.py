"""The process log: one line per event on stderr, bounded in length and rate, without tokens and secrets.

Names, messages and reasons come from clients, so characters that are not plain and printable are escaped, and the lines
of one template are counted. `extra=` fields (session, user, room, worker, ...) become keys of the line. In a server no
event loop waits for the reader of stderr (queued_stream.py).
"""

import json
import logging
import re
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, TextIO

import msgspec

from .out_of_memory import EndWithoutMemory
from .queued_stream import QueuedStream, lost_text
from .schema import Log

MAX_LINE_CHARS = 2_000
MAX_LINES_PER_S = 10
MAX_TEMPLATES = 500
HIDDEN = "[hidden]"

# a JWT: header, payload, signature; the later parts may be missing or cut off
_TOKEN = re.compile(r"eyJ[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]*){2,4}")
# C0 and C1 controls, line separators, and characters that change the text direction of a terminal
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")
_NOT_EXTRA = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}
_scalar = (str, int, float, bool, type(None))
_MAX_ITEMS = 50  # of a list


class Redactor:
    """Replaces tokens and the given secrets in texts by HIDDEN."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        forms = {
            form for secret in secrets if secret for form in (secret, repr(secret)[1:-1], json.dumps(secret)[1:-1])
        }
        # the longest first, in case one secret is a part of another
        parts = [re.escape(form) for form in sorted(forms, key=len, reverse=True)]
        self._hidden = re.compile("|".join([*parts, _TOKEN.pattern]))

    def clean(self, text: str) -> str:
        """`text` without tokens and secrets, and valid Unicode."""
        return self._hidden.sub(HIDDEN, text).encode("utf-8", "backslashreplace").decode("utf-8")


class LineFormatter(logging.Formatter):
    """Base of both formats: collects the fields of a record, redacts them, and cuts them until the line fits."""

    def __init__(self, redactor: Redactor, fields: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self._redactor = redactor
        self._fields = dict(fields or {})

    def format(self, record: logging.LogRecord) -> str:
        fields = self._collect(record)
        for longest in (MAX_LINE_CHARS, 800, 200, 60):
            line = self.render(record, {name: _cut(name, value, longest) for name, value in fields.items()})
            if len(line) <= MAX_LINE_CHARS:
                return line
        return self.render(record, {"msg": _cut("msg", fields["msg"], 200), "cut": True})[:MAX_LINE_CHARS]

    def render(self, record: logging.LogRecord, fields: Mapping[str, Any]) -> str:
        raise NotImplementedError

    def _collect(self, record: logging.LogRecord) -> dict[str, Any]:
        try:
            message = record.getMessage()
        except Exception as error:  # a wrong format string must not lose the line
            message = f"{record.msg} {record.args!r} ({error})"
        fields: dict[str, Any] = {"msg": message} | self._fields
        fields |= {name: value for name, value in record.__dict__.items() if name not in _NOT_EXTRA}
        if record.exc_info and record.exc_info[0] is not None:
            fields["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            fields["stack"] = record.stack_info
        return {name: self._plain(value) for name, value in fields.items()}

    def _plain(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._redactor.clean(value)
        if isinstance(value, _scalar):
            return value
        if isinstance(value, list | tuple):  # such as worker numbers
            return [self._plain(item) for item in value[:_MAX_ITEMS]]
        return self._redactor.clean(str(value))


class JsonFormatter(LineFormatter):
    """One JSON object: `{"ts":...,"level":...,"logger":...,"msg":...}` and the extra fields."""

    def render(self, record: logging.LogRecord, fields: Mapping[str, Any]) -> str:
        ts = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line = {"ts": ts, "level": record.levelname.lower(), "logger": record.name} | dict(fields)
        # these characters occur only inside JSON strings, where \uXXXX means the same
        return _UNPRINTABLE.sub(_as_json_escape, msgspec.json.encode(line).decode())


class ConsoleFormatter(LineFormatter):
    """`12:34:56.789 INFO koko_presence.edge: text  user=u1`, for a terminal."""

    def render(self, record: logging.LogRecord, fields: Mapping[str, Any]) -> str:
        at = datetime.fromtimestamp(record.created).strftime("%H:%M:%S.%f")[:-3]
        extra = "".join(f"  {name}={value}" for name, value in fields.items() if name != "msg")
        return _UNPRINTABLE.sub(_as_python_escape, f"{at} {record.levelname} {record.name}: {fields['msg']}{extra}")


def _cut(name: str, value: Any, longest: int) -> Any:
    if isinstance(value, list):
        return [_cut(name, item, longest // _MAX_ITEMS) for item in value]
    if not isinstance(value, str) or len(value) <= longest:
        return value
    # the end of a traceback has the exception
    return "…" + value[-longest:] if name == "exception" else value[:longest] + "…"


def _as_json_escape(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"


def _as_python_escape(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()


class _Window:
    """The current second of one template: the number of lines written and suppressed."""

    __slots__ = ("ends_at", "suppressed", "written")

    def __init__(self, ends_at: float) -> None:
        self.ends_at = ends_at
        self.written = 0
        self.suppressed = 0


class BoundedHandler(logging.StreamHandler[TextIO]):
    """Writes at most `per_s` lines a second for each logger and message template, and counts the others.

    The count is written as one line "suppressed N" when the template may write again: before its next line, or when
    `report` is called, which a timer of the process does once a second. `clock` returns monotonic seconds.
    """

    def __init__(
        self, stream: TextIO, clock: Callable[[], float] = time.monotonic, per_s: int = MAX_LINES_PER_S
    ) -> None:
        super().__init__(stream)
        self._clock = clock
        self._per_s = per_s
        self._windows: dict[tuple[str, str], _Window] = {}

    def emit(self, record: logging.LogRecord) -> None:
        window = self._window(record.name, record.msg, self._clock())
        if window.written < self._per_s:
            window.written += 1
            super().emit(record)
        else:
            window.suppressed += 1

    def report(self) -> None:
        """Write the counts of templates whose second is over and of lost lines, and drop these templates."""
        with_lock = self.lock
        assert with_lock is not None
        with with_lock:
            self._close_windows(self._clock())
            if isinstance(self.stream, QueuedStream):
                self.stream.remind()

    def notice(self, lost: int) -> str:
        """The log line that reports `lost` lost lines."""
        made = {"name": "koko_presence.log", "msg": lost_text(lost), "levelno": logging.WARNING}
        return self.format(logging.makeLogRecord(made | {"levelname": "WARNING", "lost": lost}))

    def _window(self, logger: str, template: object, now: float) -> _Window:
        key = (logger, str(template)[:200])
        window = self._windows.get(key)
        if window is not None and now < window.ends_at:
            return window
        if window is None and len(self._windows) >= MAX_TEMPLATES:
            self._close_windows(now)
            if len(self._windows) >= MAX_TEMPLATES:  # templates made from data share one budget
                key = ("", "*")
                window = self._windows.get(key)
                if window is not None and now < window.ends_at:
                    return window
        if window is not None:
            self._report(key, window)
        window = self._windows[key] = _Window(now + 1.0)
        return window

    def _close_windows(self, now: float) -> None:
        for key in [key for key, window in self._windows.items() if now >= window.ends_at]:
            self._report(key, self._windows.pop(key))

    def _report(self, key: tuple[str, str], window: _Window) -> None:
        if window.suppressed:
            text = f"suppressed {window.suppressed} more of: {key[1]}"
            made = {"name": key[0] or "koko_presence", "msg": text, "levelno": logging.WARNING, "levelname": "WARNING"}
            super().emit(logging.makeLogRecord(made | {"suppressed": window.suppressed}))


def configure(
    log: Log,
    secrets: Iterable[str] = (),
    *,
    stream: TextIO | None = None,
    clock: Callable[[], float] = time.monotonic,
    fields: Mapping[str, Any] | None = None,
) -> BoundedHandler:
    """Write the log of the process to `stream` (default: stderr). `fields`, such as the worker, are added to each line.
    `clock` returns monotonic seconds.

    Can be called again, with a new level and new secrets after a reload.
    """
    formatter = JsonFormatter if log.format == "json" else ConsoleFormatter
    handler = BoundedHandler(stream or sys.stderr, clock)
    handler.setFormatter(formatter(Redactor(secrets), fields))
    if isinstance(handler.stream, QueuedStream):
        handler.stream.notice = handler.notice
    root = logging.getLogger()
    root.handlers[:] = [*(other for other in root.handlers if isinstance(other, EndWithoutMemory)), handler]
    root.setLevel(log.level.upper())
    logging.captureWarnings(True)
    # with a closed stderr logging would print tracebacks about its own failure
    logging.raiseExceptions = False
    return handler


def report() -> None:
    """Call `BoundedHandler.report` of the process log. To be called once a second."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, BoundedHandler):
            handler.report()


def quiet_logger() -> "logging.LoggerAdapter[logging.Logger]":
    """The logger for picows, which drops all records below CRITICAL.

    picows writes two INFO lines per connection and an ERROR per bad frame. Unless it gets a LoggerAdapter, it also
    creates a child logger per connection, which is never freed.
    """
    logger = logging.getLogger("koko_presence.picows")
    logger.setLevel(logging.CRITICAL)
    return logging.LoggerAdapter(logger)
