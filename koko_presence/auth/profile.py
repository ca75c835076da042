"""Cleans the display names and image addresses of tokens, so that they are harmless on other users' pages.

A name is meant for text nodes: control and direction characters are removed, HTML is not escaped.
"""

import unicodedata
from typing import Any
from urllib.parse import urlsplit

MAX_NAME_UNITS = 100
MAX_IMAGE_CHARS = 2048

# Characters that change the reading direction: a name must not disturb the text around it.
_BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_CONTROLS = frozenset(("Cc", "Cs", "Zl", "Zp"))  # C0, C1, lone surrogates, line and paragraph separators
_UNSEEN = frozenset(("Cf", "Mn", "Me", "Zs"))  # marks, joiners, spaces: a name of only these is not visible
# Letters and signs that fonts draw as nothing: the fillers of Hangul, the empty Braille pattern, the null notehead, and
# the code points that Unicode reserves for characters to be ignored (Default_Ignorable_Code_Point).
_BLANKS = frozenset("\u115f\u1160\u3164\uffa0\u2800\U0001d159\u2065")
_RESERVED_AS_IGNORABLE = ("\ufff0", "\ufff8"), ("\U000e0000", "\U000e0fff")
GUEST = "Guest"  # shown for a user whose name and user id are both blank
_JOINER = "\u200d"


def has_controls(text: str) -> bool:
    """Return True when `text` has control characters, line separators, lone surrogates or direction marks."""
    if text.isprintable():  # none of these is printable, and nearly every name is
        return False
    return any(unicodedata.category(char) in _CONTROLS or char in _BIDI for char in text)


def clean_name(value: Any, otherwise: str) -> str:
    """Return a display name without control and direction characters, of at most 100 UTF-16 units [A5, B15]; that of
    `otherwise` when it would look blank, or "Guest"."""
    for candidate in (value, otherwise):
        if isinstance(candidate, str):
            shown = "".join(map(_shown, candidate)) if has_controls(candidate) else candidate
            name = _cut(" ".join(shown.split()))
            if not is_blank(name):
                return name
    return GUEST


def is_blank(text: str) -> bool:
    """Return True when `text` has no character that a reader would see."""
    return all(
        unicodedata.category(char) in _UNSEEN
        or char in _BLANKS
        or any(first <= char <= last for first, last in _RESERVED_AS_IGNORABLE)
        for char in text
    )


def _shown(char: str) -> str:
    if has_controls(char):
        return " " if char.isspace() else ""
    return char


def _cut(name: str) -> str:
    units = name.encode("utf-16-le")
    if len(units) <= 2 * MAX_NAME_UNITS:
        return name
    longest = len(units[: 2 * MAX_NAME_UNITS].decode("utf-16-le", "ignore"))
    end = longest
    while end and _continues(name, end):
        end -= 1
    return name[: end or longest].rstrip()


def _continues(text: str, at: int) -> bool:
    """Return True when `text[at]` belongs to the grapheme of the character before it: accents, emoji sequences, skin
    tones, flags. These are the rules of Unicode Annex 29 that matter for names."""
    char = text[at]
    if unicodedata.category(char)[0] == "M" or char == _JOINER or text[at - 1] == _JOINER:
        return True
    if "\U0001f3fb" <= char <= "\U0001f3ff" or "\U000e0020" <= char <= "\U000e007f":
        return True
    first = at
    while first and _is_half_flag(text[first - 1]):
        first -= 1
    return _is_half_flag(char) and (at - first) % 2 == 1


def _is_half_flag(char: str) -> bool:
    return "\U0001f1e6" <= char <= "\U0001f1ff"


def clean_image(value: Any) -> str | None:
    """Return an https address of at most 2,048 characters, or None [A5]."""
    if not isinstance(value, str) or len(value) > MAX_IMAGE_CHARS or not value.isprintable() or " " in value:
        return None
    try:
        parts = urlsplit(value)
        return value if parts.scheme == "https" and parts.hostname else None
    except ValueError:
        return None
