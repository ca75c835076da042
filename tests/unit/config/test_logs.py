"""Logs: each event is one bounded line without secrets, and a flood costs ten lines a second."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from koko_presence.config import logs
from koko_presence.config.schema import Log

SECRET = 'a "quoted" \\ secret of the application'
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ1MSJ9.c2lnbmF0dXJl-_x"


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Written:
    """A configured log, its clock, and the lines written."""

    def __init__(self, **log: Any) -> None:
        self.stream, self.clock = io.StringIO(), Clock()
        self.handler = logs.configure(Log(**log), [SECRET], stream=self.stream, clock=self.clock, fields={"worker": 1})
        self.logger = logging.getLogger("koko_presence.test")

    @property
    def lines(self) -> list[str]:
        return self.stream.getvalue().splitlines()

    @property
    def only(self) -> dict[str, Any]:
        (line,) = self.lines
        return dict(json.loads(line))


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    before = (root.handlers[:], root.level, logging.raiseExceptions)
    yield
    root.handlers[:], root.level, logging.raiseExceptions = before
    logging.captureWarnings(False)


def test_a_line_is_json_with_its_extra_fields() -> None:
    log = Written()
    log.logger.info("%s joined", "u1", extra={"user": "u1", "room": "r1"})
    line = log.only
    assert line.pop("ts").endswith("Z")
    assert line == {
        "level": "info",
        "logger": "koko_presence.test",
        "msg": "u1 joined",
        "worker": 1,
        "user": "u1",
        "room": "r1",
    }


def test_regression_a_list_of_workers_was_a_text_in_brackets() -> None:
    log = Written()
    log.logger.info("some", extra={"missing": [0, 2], "names": (f"a {SECRET}", None), "flood": ["x" * 3000] * 3000})
    line = log.only
    assert line["missing"] == [0, 2] and line["names"][0].startswith("a [") and line["names"][1] is None
    assert SECRET not in log.lines[0] and len(log.lines[0]) <= 2000 and len(line["flood"]) <= 50


def test_a_console_line_is_readable_text() -> None:
    log = Written(format="console")
    log.logger.warning("hello", extra={"user": "u1"})
    assert log.lines[0].split(" ", 1)[1] == "WARNING koko_presence.test: hello  worker=1  user=u1"


def test_the_level_is_obeyed() -> None:
    log = Written(level="error")
    log.logger.warning("no")
    log.logger.error("yes")
    assert log.only["msg"] == "yes"


@pytest.mark.parametrize("format_", ["json", "console"])
def test_no_character_breaks_the_line_or_drives_the_terminal(format_: str) -> None:
    log = Written(format=format_)
    hostile = "a\nb\rc\x1b[2Jd\x00e\x7ff\x85g\u2028h\u2029i\u202ej\ud800k\x0bl\x0cm"
    log.logger.info("%s", hostile, extra={"user": hostile})
    assert len(log.lines) == 1
    text = log.stream.getvalue().removesuffix("\n")
    assert text.isprintable()
    if format_ == "json":
        assert json.loads(text)["user"] == hostile.replace("\ud800", "\\ud800")


def test_tokens_are_hidden_wherever_they_stand() -> None:
    log = Written()
    try:
        raise ValueError(f"bad {JWT}")
    except ValueError:
        log.logger.exception("token=%s", JWT, extra={"user": JWT, "all": {"deep": [JWT]}})
    text = log.stream.getvalue()
    assert "eyJ" not in text and "c2ln" not in text
    assert log.only["msg"] == "token=[hidden]"


@pytest.mark.parametrize("format_", ["json", "console"])
def test_the_secret_is_hidden_as_it_is_and_as_repr_and_json_write_it(format_: str) -> None:
    log = Written(format=format_)
    log.logger.info("%s and %r and %s", SECRET, SECRET, json.dumps({"secret": SECRET}), extra={"why": [SECRET]})
    assert "quoted" not in log.stream.getvalue()
    assert log.stream.getvalue().count("[hidden]") == 4


def test_a_token_at_the_cut_leaves_nothing_behind() -> None:
    log = Written()
    log.logger.info("%s%s", "x" * (logs.MAX_LINE_CHARS - 20), JWT)
    assert "eyJ" not in log.stream.getvalue()


@pytest.mark.parametrize("format_", ["json", "console"])
@pytest.mark.parametrize("flood", ["x" * 100_000, "\x1b" * 100_000, "\U0001f600" * 100_000])
def test_no_line_is_longer_than_the_limit(format_: str, flood: str) -> None:
    log = Written(format=format_)
    log.logger.info("%s", flood, extra={"user": flood, "room": flood})
    (line,) = log.lines
    assert len(line) <= logs.MAX_LINE_CHARS
    if format_ == "json":
        assert json.loads(line)["logger"] == "koko_presence.test"


def test_many_long_extras_still_make_one_valid_line() -> None:
    log = Written()
    log.logger.info("text", extra={f"field_{i}": "\x1b" * 500 for i in range(50)})
    assert log.only["msg"] == "text" and log.only["cut"] is True


def test_a_long_traceback_keeps_its_end() -> None:
    log = Written()
    try:
        raise ValueError("y" * 3000 + " the reason")
    except ValueError:
        log.logger.exception("failed")
    assert log.only["exception"].endswith("the reason")


def test_a_wrong_format_string_costs_nothing_but_beauty() -> None:
    log = Written()
    log.logger.info("%d rooms", "many")
    assert "%d rooms" in log.only["msg"] and "many" in log.only["msg"]


def test_ten_lines_a_second_per_template_then_a_count() -> None:
    log = Written()
    for i in range(10_000):
        log.logger.warning("bad frame from %s", i)
    assert len(log.lines) == 10
    log.logger.warning("something else")
    assert len(log.lines) == 11
    log.clock.now += 1.0
    log.logger.warning("bad frame from %s", "u2")
    counted, again = map(json.loads, log.lines[11:])
    assert counted["msg"] == "suppressed 9990 more of: bad frame from %s"
    assert (counted["suppressed"], counted["logger"]) == (9990, "koko_presence.test")
    assert again["msg"] == "bad frame from u2"


def test_the_count_comes_without_another_line_too() -> None:
    log = Written()
    for _ in range(13):
        log.logger.info("again")
    log.handler.report()
    assert len(log.lines) == 10
    log.clock.now += 1.0
    log.handler.report()
    log.handler.report()
    assert [json.loads(line).get("suppressed") for line in log.lines[10:]] == [3]


def test_the_clock_opens_a_template_after_a_whole_second_only() -> None:
    log = Written()
    for _ in range(11):
        log.logger.info("again")
    log.clock.now += 0.999
    log.logger.info("again")
    assert len(log.lines) == 10


def test_templates_made_from_data_share_one_budget() -> None:
    log = Written()
    for i in range(5_000):
        log.logger.info(f"user {i}")
    assert len(log.lines) == logs.MAX_TEMPLATES + logs.MAX_LINES_PER_S
    log.clock.now += 1.0
    log.logger.info("user again")
    assert json.loads(log.lines[-1])["msg"] == "user again"


def test_picows_is_silenced_by_an_adapter_whatever_the_level() -> None:
    log = Written(level="debug")
    quiet = logs.quiet_logger()
    assert isinstance(quiet, logging.LoggerAdapter)
    quiet.error("bad frame")
    assert log.lines == []
    assert not quiet.isEnabledFor(logging.ERROR)


def test_configuring_again_replaces_what_was() -> None:
    first, second = Written(), Written()
    second.logger.info("once")
    assert (len(first.lines), len(second.lines)) == (0, 1)
