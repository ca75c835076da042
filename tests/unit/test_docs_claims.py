"""The prose of docs/protocol.md agrees with the code: its numbers, its names, and its list of missing parts.

Numbers: CLAIMS lists the sentences that state a limit, with the value in the code. A sentence that is changed or
removed fails here, and so does a default that is changed without its sentence. Names: every name in backticks is one of
the code. Missing: no sentence contains "yet" outside the section that lists what is decided and not built.
"""

import re
from pathlib import Path

import msgspec
import pytest

from koko_presence.protocol import events, messages, models
from koko_presence.protocol.errors import CLOSES, ERRORS
from koko_presence.protocol.limits import Limits
from koko_presence.protocol.messages import MESSAGES
from koko_presence.server.authentication import COMPACT

TEXT = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text()
PROSE = re.sub(r"```.*?```", "", TEXT, flags=re.DOTALL)
FLAT = " ".join(PROSE.split())  # a sentence may be broken at any place
LIMITS = Limits()
KIB = 1024

# a sentence of the document, every number in it a group, and the values of the code
CLAIMS: list[tuple[str, list[float]]] = [
    (
        r"A message may have (\d+) KiB: above that the error `TOO_LARGE`, above (\d+) KiB the connection closes with (\d+)",
        [LIMITS.max_message_bytes / KIB, LIMITS.max_frame_bytes / KIB, 1009],
    ),
    (r"pings every (\d+) s and cuts a connection that does not answer within (\d+) s",
     [LIMITS.ping_interval_s, LIMITS.ping_timeout_s]),
    (r"the third attempt, or (\d+) s of silence, ends the connection", [LIMITS.auth_timeout_s]),
    (r"Send one every (\d+) s, and at once when the user comes back or goes idle \(no interaction for (\d+) minutes\)",
     [LIMITS.heartbeat_interval_s, LIMITS.idle_after_s / 60]),
    (r"it is answered at most every (\d+) s", [LIMITS.heartbeat_min_interval_s]),
    (r"(\d+) s without any message of any kind end the session \((\d+)", [LIMITS.silence_s, 4408]),
    (r"the server holds the session for a grace of (\d+) s", [LIMITS.grace_s]),
    (r"(\d+) s before the end, the server sends", [LIMITS.auth_warning_s]),
    (r"(\d+) s after the end of the token the connection closes with (\d+)", [LIMITS.auth_grace_s, 4401]),
    (r"`timestamp`: second of the video, 0 to ([\d,]+)", [models.MAX_MEDIA_TIME_S]),
    (r"At most (\d+) cursors a second per user and room", [LIMITS.cursor_hz]),
    (r"clears, shown to others as [^.]*\. (\d+) a second, merged like cursors", [LIMITS.selection_hz]),
    (r"Typing stops by itself (\d+) s after the last `true`", [LIMITS.typing_stop_s]),
    (r"`disconnected`\. (\d+) a second; a stop over the limit", [LIMITS.typing_hz]),
    (r"idle after (\d+) minutes in which it sent nothing .*? and away (\d+) minutes later",
     [LIMITS.idle_after_s / 60, LIMITS.away_after_s / 60]),
    (r"(\d+) commands a second, burst (\d+);", [LIMITS.playback_hz, LIMITS.playback_burst]),
    (r"`unknown` \(no report for (\d+) s\)", [LIMITS.report_fresh_s]),
    (r"Else it is pending for (\d+) s", [LIMITS.control_request_s]),
    (r"(\d+) request per (\d+) s, burst (\d+)", [1, 1 / LIMITS.control_hz, LIMITS.control_burst]),
    (r"any JSON object of at most (\d+) KiB", [LIMITS.max_broadcast_bytes / KIB]),
    (r"(\d+) a second, burst (\d+); above that `RATE_LIMITED`", [LIMITS.broadcast_hz, LIMITS.broadcast_burst]),
    (r"(\d+) messages in (\d+) s that are not messages at all",
     [LIMITS.max_protocol_errors, LIMITS.error_window_s]),
    (r"and (\d+) errors in (\d+) s", [LIMITS.max_errors, LIMITS.error_window_s]),
]  # fmt: skip

# names in backticks that are not names of the protocol
NO_NAMES = {
    "ws", "wss", "Host", "seq", "id", "data", "to", "now", "nobody", "null", "true", "false", "length", "error", "ack",
    "code", "message", "type", "server.origins", "limits", "authenticated.limits", "authenticated.rooms",
    "__proto", "constructor", "prototype", "data.type", "room.playback", "room.media", "room.settings", "JSON.parse", "target", "Z", "system",
    "later", "resume", "no", "new_token", "requestVideoFrameCallback",
}  # fmt: skip


def words_of(module: object) -> set[str]:
    """Return every field's name on the wire and every literal of the Structs in `module`."""
    words: set[str] = set()
    for value in vars(module).values():
        if not (isinstance(value, type) and issubclass(value, msgspec.Struct)):
            continue
        words.add(str(value.__struct_config__.tag))
        for field in msgspec.structs.fields(value):
            words.add(field.encode_name)
            words |= set(re.findall(r"'(\w+)'", str(field.type)))
    return words


def known_words() -> set[str]:
    words = (
        words_of(models)
        | words_of(messages)
        | words_of(events)
        | set(MESSAGES)
        | set(ERRORS)
        | set(Limits.__struct_fields__)
    )
    words |= {str(code) for code in CLOSES} | {COMPACT}
    root = Path(__file__).parents[2] / "koko_presence"
    for path in root.rglob("*.py"):  # names of events, reasons and notices are plain strings in the rules
        words |= set(re.findall(r'"(\w+)"', path.read_text()))
    return words


@pytest.mark.parametrize(("sentence", "values"), CLAIMS, ids=[claim[0][:40] for claim in CLAIMS])
def test_a_number_in_prose_is_the_codes(sentence: str, values: list[float]) -> None:
    found = re.search(sentence, FLAT)
    assert found, f"docs/protocol.md no longer says: {sentence}"
    assert [float(each.replace(",", "")) for each in found.groups() if each] == [float(value) for value in values]


def test_names_in_backticks_are_names_of_the_code() -> None:
    body, _, rest = PROSE.partition("## Not yet")
    body += rest.partition("\n## ")[2]
    named = {name.rstrip("_") for name in re.findall(r"`([A-Za-z_.]+)`", body)}
    assert named - NO_NAMES - known_words() == set()


def test_what_is_not_built_yet_is_not_in_the_code_and_is_listed_in_one_place() -> None:
    body, _, rest = PROSE.partition("## Not yet")
    missing, _, after = rest.partition("\n## ")
    known = words_of(models) | words_of(messages) | words_of(events)
    assert missing and not [name for name in re.findall(r"`(\w+)`", missing) if name in known]
    assert not re.findall(r"[^.]*\b(?:none yet|not yet|not implemented|planned)\b[^.]*\.", body + after, re.IGNORECASE)


def test_every_extension_that_can_be_requested_is_named() -> None:
    assert f"(list of extensions: `{COMPACT}`" in FLAT
