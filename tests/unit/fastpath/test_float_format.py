"""Decimals as msgspec writes them: the shortest that reads back as the same number."""

import math

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from koko_presence._fastpath.float_format import shortest


@given(st.floats(1e-5, 2.0**53, exclude_max=True) | st.floats(1e-5, 1.0) | st.decimals(0, 1000000, places=3).map(float))
@example(0.0)
@example(1e-5)
@example(0.1)
@example(1 / 3)
@example(999999.9999999999)
@example(9007199254740991.0)
@example(2.0**-16)
@example(math.nextafter(1.0, 0.0))
@example(math.nextafter(1.0, 2.0))
@example(5e-5)
@example(123456.7)
def test_a_decimal_is_what_msgspec_writes(value: float) -> None:
    if value and value < 1e-5:
        return
    assert shortest(value) == msgspec.json.encode(value)


def test_powers_of_two_and_their_neighbours_where_the_interval_is_lopsided() -> None:
    for exponent in range(-16, 53):
        for value in (2.0**exponent, math.nextafter(2.0**exponent, 0.0), math.nextafter(2.0**exponent, math.inf)):
            if 1e-5 <= value < 2.0**53:
                assert shortest(value) == msgspec.json.encode(value)


@pytest.mark.parametrize("value", [-0.0, -1.0, 9e-6, 5e-324, 2.0**53, 1e300, math.inf, -math.inf, math.nan])
def test_numbers_that_no_cursor_holds_are_declined(value: float) -> None:
    assert shortest(value) is None
