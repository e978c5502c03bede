"""Plain values: what a checkpoint remembers comes back bit for bit, and only as such values."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from pipeline.values import Value, from_json, to_json

ARRAYS = npst.arrays(
    np.float32, npst.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=4), elements=st.floats(width=32)
)
PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary() | ARRAYS
KEYS = st.text().filter(lambda key: not key.startswith("$"))
VALUES = st.recursive(PLAIN, lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner), max_leaves=15)


def same(left: Any, right: Any) -> bool:
    """Equal in type and in every bit; NaN equals NaN, -0.0 does not equal 0.0."""
    if isinstance(left, np.ndarray):
        return isinstance(right, np.ndarray) and (left.shape, left.dtype, left.tobytes()) == (
            right.shape,
            right.dtype,
            right.tobytes(),
        )
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    return type(left) is type(right) and repr(left) == repr(right)


@settings(deadline=None)
@given(value=VALUES)
def test_a_value_comes_back_as_it_was(value: Value) -> None:
    assert same(value, from_json(to_json(value)))


@settings(deadline=None)
@given(value=VALUES)
def test_the_same_value_always_gives_the_same_text(value: Value) -> None:
    assert to_json(from_json(to_json(value))) == to_json(value)


def test_the_order_of_keys_does_not_matter() -> None:
    assert to_json({"a": 1, "b": 2}) == to_json({"b": 2, "a": 1})


def test_what_can_be_told_as_a_value_is_stored_as_that_wherever_it_stands() -> None:
    class Told:
        def to_value(self) -> dict[str, Value]:
            return {"b": [1, b"x"], "a": None}

    assert to_json({"of": [Told()]}) == to_json({"of": [Told().to_value()]})


def test_every_bit_pattern_of_float32_survives() -> None:
    patterns = np.array([0, 1, 0x80000000, 0x7F800000, 0xFF800000, 0x7FC00001, 0xFFFFFFFF, 0x00800000], np.uint32)
    array = patterns.view(np.float32)
    back = from_json(to_json(array))

    assert isinstance(back, np.ndarray)
    assert back.view(np.uint32).tolist() == patterns.tolist()


def test_what_is_read_back_may_be_written_to() -> None:
    back = from_json(to_json(np.zeros(3, np.float32)))

    assert isinstance(back, np.ndarray)
    back[0] = 1.0


def test_a_part_of_an_array_is_stored_as_the_part() -> None:
    array = np.arange(12, dtype=np.float32).reshape(3, 4)

    assert same(from_json(to_json(array[:, 1::2])), np.ascontiguousarray(array[:, 1::2]))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        '{"$bytes": "no base64!"}',
        '{"$float32": "AAAA", "shape": [1]}',
        '{"$float32": "AAAAAA==", "shape": [2]}',
    ],
)
def test_text_that_is_no_such_value_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        from_json(text)


def test_the_text_is_json() -> None:
    assert json.loads(to_json({"a": [1, None, True, "ü"]})) == {"a": [1, None, True, "ü"]}
