"""Numbers of bank accounts (IBAN, ISO 13616), with or without spaces; one with wrong check digits is none."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from pipeline.fields.rules import Match

TYPE: Final = "iban"

_IBAN: Final = re.compile(r"(?<!\w)[A-Z]{2}\d{2}(?:\s?[A-Z0-9]{4}){2,7}(?:\s?[A-Z0-9]{1,3})?")
_SHORTEST: Final = 15


def find(text: str) -> Iterator[Match]:
    """The account numbers in a text. What follows one without a space, such as its label, is not part of it."""
    for found in _IBAN.finditer(text):
        written = found[0]
        for end in range(len(written), _SHORTEST - 1, -1):
            number = re.sub(r"\s", "", written[:end])
            if len(number) >= _SHORTEST and not written[end - 1].isspace() and _checks(number):
                yield Match(found.start(), found.start() + end, number, number, 0.98)
                break


def _checks(number: str) -> bool:
    """Whether the number, its first four characters behind the rest and letters as 10 to 35, is 1 modulo 97."""
    return int("".join(str(int(character, 36)) for character in number[4:] + number[:4])) % 97 == 1
