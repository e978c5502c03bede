"""Token ids as people pass them: lists and tuples, tensors and arrays of one axis. Knows nothing of models.

Lists of ints, which is what texts are encoded to, are looked at in one pass and handed on as they are.
"""

from __future__ import annotations

import reprlib
from array import array
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from torch import Tensor

from rwkv_runtime.errors import ShapeError

_FEW: Final = 16
"""Tokens that are looked at one by one: of a text being written there is one at a time."""
_HELP: Final = "pass a list of ints, or a tensor or an array of integers with one axis"


def token_ids(tokens: object, rows: int) -> Sequence[int]:
    """Tokens as a sequence of ints, each of which is at least 0 and below `rows`.

    Raises ShapeError for anything else: other kinds, axes or numbers, a token outside the rows.
    """
    found = _sequence(tokens)
    if len(found) <= _FEW and all(type(token) is int and 0 <= token < rows for token in found):
        return found
    try:
        numbers = np.frombuffer(array("q", found), np.int64)
    except OverflowError:
        raise ShapeError(_outside(found, rows)) from None
    except TypeError:
        raise ShapeError(_not_whole(found)) from None
    if len(numbers) and not (numbers.min() >= 0 and numbers.max() < rows):
        raise ShapeError(_outside(found, rows))
    return found


def shown(value: object) -> str:
    """A value in one short line, for messages."""
    return " ".join(reprlib.repr(value).split())


def _sequence(tokens: Any) -> Sequence[Any]:
    if isinstance(tokens, (list, tuple)):
        return tokens
    if isinstance(tokens, (Tensor, np.ndarray)):
        return _listed(tokens)
    if isinstance(tokens, (str, bytes, bytearray)) or not isinstance(tokens, Sequence):
        raise ShapeError(f"tokens {shown(tokens)} are of the type {type(tokens).__name__}; {_HELP}")
    return tokens


def _listed(tokens: Tensor | np.ndarray[Any, Any]) -> list[Any]:
    if tokens.ndim != 1:
        raise ShapeError(f"tokens of the shape {list(tokens.shape)} have {tokens.ndim} axes; {_HELP}")
    listed: list[Any] = tokens.tolist()
    if listed and type(listed[0]) is not int:
        raise ShapeError(f"tokens {shown(listed)} are {tokens.dtype}; {_HELP}")
    return listed


def _not_whole(found: Sequence[object]) -> str:
    """Say which of these is no whole number."""
    place = next(place for place, one in enumerate(found) if not hasattr(one, "__index__"))
    return f"token {shown(found[place])} at position {place} is no whole number; {_HELP}"


def _outside(found: Sequence[int], rows: int) -> str:
    """Say which is the first of these that is outside."""
    place = next(place for place, token in enumerate(found) if not 0 <= token < rows)
    return (
        f"token {found[place]} at position {place} is outside the model's {rows} embedding rows; "
        "encode the text with the model's own tokenizer"
    )
