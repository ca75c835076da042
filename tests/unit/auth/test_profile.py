"""Names and images shown to other users: cleaned, cut where a reader would cut, or dropped."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from koko_presence.auth.profile import clean_image, clean_name

FORBIDDEN = set("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u2028\u2029")


@given(st.text(max_size=300) | st.text("a \n\x85\u202e\u200d\u2028\u0301\ufe0f👍🏽🇩🇪", min_size=90, max_size=200))
def test_a5_names_are_clean_and_short_and_cleaning_is_idempotent(name: str) -> None:
    clean = clean_name(name, "user")
    assert clean and len(clean.encode("utf-16-le")) <= 200
    assert clean_name(clean, "user") == clean
    assert not any(unicodedata.category(char) == "Cc" or char in FORBIDDEN for char in clean)
    assert clean == clean.strip()


FAMILY = "👨‍👩‍👧"  # eight UTF-16 units, one character to a reader


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (None, "ann"),
        ("", "ann"),
        ("  \n ", "ann"),
        (5, "ann"),
        (["Ann"], "ann"),
        ("\u200b\u200d\ufeff\u0301", "ann"),  # no visible character
        ("\u3164", "ann"),  # fillers and signs that fonts draw as nothing
        ("\u2800 \u2800", "ann"),
        ("\u115f\u1160\uffa0", "ann"),
        ("\U0001d159\u2065\U000e0100\U000e0fff\ufff4", "ann"),
        ("\u00ad\u034f\u17b5\u180e\ufe0f", "ann"),
        ("\u3164Bo\u3164", "\u3164Bo\u3164"),  # something is seen
        ("\u1112\u1161\u11ab", "\u1112\u1161\u11ab"),  # Hangul in conjoining letters
        ("\u202eevil", "evil"),
        ("a\x00b", "ab"),
        ("John\tvan\u2028 Doe", "John van Doe"),
        ("<img onerror>", "<img onerror>"),
        (FAMILY, FAMILY),
        ("👍" * 60, "👍" * 50),
        ("x" + "👍" * 60, "x" + "👍" * 49),
        ("x" * 96 + FAMILY, "x" * 96),
        ("x" * 99 + "é" + "y", "x" * 99 + "é"),
        ("x" * 99 + "e\u0301", "x" * 99),
        ("x" * 97 + "👍🏽", "x" * 97),
        ("x" * 94 + "🇩🇪🇫🇷", "x" * 94 + "🇩🇪"),
        ("x" * 98 + "🏴\U000e0067\U000e007f", "x" * 98),
        ("x" * 99 + " y", "x" * 99),
        ("Z" + "\u0301" * 300, "Z" + "\u0301" * 99),  # one character that is longer than a name may be
    ],
)
def test_a5_b15_names(name: object, shown: str) -> None:
    assert clean_name(name, "ann") == shown


@pytest.mark.parametrize(("user", "shown"), [("u" * 128, "u" * 100), ("\u200d", "Guest"), ("\u3164", "Guest")])
def test_a5_a_user_id_that_stands_in_for_a_name_is_cleaned_too(user: str, shown: str) -> None:
    assert clean_name(None, user) == shown


@pytest.mark.parametrize(
    ("image", "ok"),
    [
        ("https://x/y", True),
        ("http://x/y", False),
        ("javascript:alert(1)", False),
        ("data:image/png,x", False),
        ("HTTPS://x/y", True),
        ("https://x/" + "y" * 2038, True),
        ("https://x/" + "y" * 2039, False),
        ("https://", False),
        ("//x/y", False),
        (" https://x/y", False),
        ("https://x/\u202e", False),
        ("", False),
        ("https://x y", False),
        ("https://x/\n", False),
        (5, False),
        (None, False),
        ("https://[", False),
    ],
)
def test_a5_images_are_https_or_none(image: object, ok: bool) -> None:
    assert clean_image(image) == (image if ok else None)
