"""Which encoding a text is in. Knows nothing of files or documents.

UTF-8 comes first: hardly any text in another encoding is valid UTF-8 by chance. Statistics are asked only about
bytes that are not, only if there are enough of them to count, and never for UTF-16 or UTF-32, which short texts in
other encodings look like. What remains unclear is read as Windows-1252.
"""

from __future__ import annotations

import codecs
import re
from contextlib import suppress
from typing import Final

FALLBACK: Final = "cp1252"
SAMPLE_BYTES: Final = 65_536

# Longer marks first: the UTF-32 LE mark begins with the UTF-16 LE mark.
_MARKS: Final = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_BY_MARK: Final = {"utf-16": "utf-16-le", "utf-32": "utf-32-le", "utf-8-sig": "utf-8"}
_STATEFUL: Final = ("iso2022", "hz", "utf-7", "idna", "punycode", "unicode_escape", "raw_unicode_escape", "undefined")

# Whole UTF-8 characters, surrogates written as three bytes each (CESU-8), and one cut off at the end.
_UTF8_SHAPES: Final = re.compile(
    rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}"
    rb"|[\xe0-\xef][\x80-\xbf]\Z|[\xf0-\xf4][\x80-\xbf]{1,2}\Z"
)
_HIGH: Final = bytes(range(0x80, 0x100))
_ASCII: Final = bytes(range(0x80))
_LEAST_HIGH_BYTES: Final = 16
# What English, French, German, Spanish and Italian have beyond ASCII. Statistics take a text with only a few of these
# for one of eastern Europe, whose texts have others too.
_WESTERN: Final = "€…‘’“”•–—™¡£§©«®°·»¿ÀÁÂÄÇÈÉÊËÍÎÏÑÓÔÖÙÚÛÜßàáâäçèéêëíîïñóôöùúûüœŒ\xa0".encode("cp1252")
# Rare, and what short texts in common encodings are mistaken for.
_UNLIKELY: Final = (
    *("utf_16", "utf_16_be", "utf_16_le", "utf_32", "utf_32_be", "utf_32_le", "utf_7"),
    *("cp037", "cp273", "cp424", "cp500", "cp775", "cp875", "cp1026", "cp1140", "hp_roman8"),
    *("shift_jis_2004", "shift_jisx0213", "euc_jis_2004", "euc_jisx0213"),
)


def mark_of(head: bytes) -> tuple[str, int]:
    """The encoding that a byte order mark at the start names, and the length of the mark; ("", 0) without one."""
    return next(((name, len(mark)) for mark, name in _MARKS if head.startswith(mark)), ("", 0))


def canonical(name: str) -> str | None:
    """The one name of an encoding, or None if it is unknown or cannot be read from the middle of a text.

    Byte orders are spelled out (`utf-16` without a mark is little-endian).
    """
    try:
        info = codecs.lookup(name)
    except (LookupError, ValueError):
        return None
    if not info._is_text_encoding or info.incrementaldecoder is None or info.name.startswith(_STATEFUL):
        return None
    return _BY_MARK.get(info.name, info.name)


def guess(sample: bytes) -> str:
    """The likeliest encoding of bytes that are not valid UTF-8; `utf-8` if that is what they are but for damage.

    A sample of up to SAMPLE_BYTES that has the first invalid bytes in it.
    """
    high = len(sample) - len(sample.translate(None, _HIGH))
    if 2 * sum(len(shape) for shape in _UTF8_SHAPES.findall(sample)) > high:
        return "utf-8"
    if high < _LEAST_HIGH_BYTES or not sample.translate(None, _ASCII + _WESTERN):
        return FALLBACK
    from charset_normalizer import from_bytes

    best = from_bytes(_ending_between_characters(sample), cp_exclusion=list(_UNLIKELY)).best()
    if best is None or FALLBACK in best.could_be_from_charset:
        return FALLBACK
    return canonical(best.encoding) or FALLBACK


def _ending_between_characters(sample: bytes) -> bytes:
    """`sample` up to its last space or line end, which no encoding has inside a character."""
    end = max(sample.rfind(b" "), sample.rfind(b"\n"))
    return sample[: end + 1] if 2 * end > len(sample) else sample


def decoded(data: bytes, declared: str | None = None) -> tuple[str, str, int]:
    """The text of bytes that are there as a whole, the encoding it was in, and the U+FFFD if there were errors.

    A byte order mark counts most, then whether it is UTF-8, then what the data declares of itself.
    """
    name, start = mark_of(data)
    body = data[start:]
    for candidate in [name] if name else ["utf-8", *filter(None, [canonical(declared or "")])]:
        with suppress(UnicodeDecodeError):
            return body.decode(candidate), candidate, 0
    chosen = name or guess_around_errors(body)
    text = body.decode(chosen, "replace")
    return text, chosen, text.count("\ufffd")


def guess_around_errors(data: bytes) -> str:
    """As `guess`, for data of any length that is not UTF-8."""
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        return guess(data[max(error.start - 512, 0) :][:SAMPLE_BYTES])
    return "utf-8"
