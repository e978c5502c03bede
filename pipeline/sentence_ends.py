"""Where the sentences of a passage end: the rules of `sentencex`, and a few of our own around them.

`sentencex` leaves alone whatever stands between two quotation marks. One mark too many, and it leaves alone half a
page, so it is shown the text without marks and brackets; quotations that are whole and short are then kept together
here. The other rules take back ends that cannot be some, and add those that it does not know. All look at the passage
alone. Knows nothing of the passage's place in a document.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator
from typing import Final

import sentencex

from pipeline.form_lines import line_ends


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


KEPT_TOGETHER_CHARS: Final = 300
"""A quotation of more characters may be split like any other text."""

# A space for each character, so that places stay what they are.
_ASCII_MARKS: Final = b'"()[]{}`'
_ASCII_MASK: Final = bytes.maketrans(_ASCII_MARKS, b" " * len(_ASCII_MARKS))
_MARKS: Final = tuple(_ASCII_MARKS.decode() + "“”„‟«»‹›")
_APOSTROPHES: Final = tuple(
    (
        mark,
        tuple((pair, pair.replace(mark, " ")) for pair in (f" {mark}", f"{mark} ", f"\n{mark}", f"{mark}\n", mark * 2)),
    )
    for mark in "'’‘"
)
_QUOTATION: Final = re.compile(
    r'"(?<![^\s(\[{—–-]")(?=\S)[^"\n]{1,N}"(?![^\W_])|“[^“”\n]{1,N}”|„[^„“”\n]{1,N}[“”]|«[^«»\n]{1,N}»'
    r"|\([^()\n]{1,N}\)|\[[^\[\]\n]{1,N}\]".replace("N", str(KEPT_TOGETHER_CHARS))
)
_CLOSING: Final = "['’\"”“»›」』)\\]}）】]*"
_BEHIND: Final = re.compile(rf"{_CLOSING}[。．！？!?.…]*{_CLOSING}(?:\s+[:;=]-?[()DP](?!\w))?")
_ADDED: Final = re.compile(
    r"[.!?。！？](?:"
    r"(?<=[!?]{2})(?=\s+[^\W\d_])|(?<=[^\W\d_]\s[!?])(?=\s+[^\W\d_])"  # shouted or set apart: whatever follows
    r"|(?<=\Wetc\.)(?=\s+[^\W\d_])"
    rf"|(?<=[^\W\d_]{{5}}[.!?]){_CLOSING}(?=\s+\d)"  # a number may begin a sentence behind a real word
    rf"|(?<=[。！？]){_CLOSING}(?=\d))"
)
# Most ends are these: a word that no abbreviation ends like, and a capital. They need no other look.
_PLAIN: Final = re.compile(
    r"(?:(?<=[^\W\d_A-Z]{3}[.!?])|(?<=[^\W\d_A-Z]{3}[.!?][\"'”’»)]))"
    r"(?<!(?:mrs|vol|art|fig|spp|hab|rof|ros|lle|rox)\.)\s+[\"“«'‘]?[A-Z]"
)

_LOOKED_BACK: Final = 24
_NEXT: Final = re.compile(r"\s*(\w+|\S?)")
_LAST_WORD: Final = re.compile(r"(\w+)\.\Z")
_AFTER_SPEECH: Final = re.compile(r"[!?.…][\"'’”»)]+\Z")
_ITEM: Final = re.compile(r"(?:\A|\n\s*|[:;)]\s+|[^\W\d_]{4}[.!?…]\s+)\W?\d{1,2}[.)]+\Z")
_ORDINAL: Final = re.compile(r"(?:\A|\s)\d{1,2}\.\Z")
_ORDINALS_IN: Final = frozenset(("cs", "da", "de", "fi", "hr", "hu", "no", "sk"))
_JOINING: Final = frozenset(",;:/)")
_ABBREVIATIONS: Final = _words("dr mr mrs ms mlle mme prof st sr jr hr fr bros hab no nr vol art fig pp approx spp")
_WITHIN_SENTENCES: Final = _ABBREVIATIONS | _words("etc resp bzw incl ibid")
_NUMBERED: Final = _words("paras subpara subparas chaps")
_NUMBERED_ENDINGS: Final = ("str", "nr", "nrn", "subsec", "sched")
"""How words end whose dot has a number behind it, as in `Hauptstr. 12`. No whole word ends so."""
_STARTERS: Final = _words(
    "the he she it i we you they this that these there his her how what when why did in on but and if "
    "der die das er sie es wir ein eine le la les il elle ils on une ce el los las una en"
)
"""Words that begin sentences, and are hardly ever a name behind an initial."""


def sentence_ends(text: str, language: str) -> list[int]:
    """The characters behind which sentences of a passage end, ascending, but for that of the last one."""
    last = len(text.rstrip())
    ends = sorted({*_known_ends(text, language), *(found.end() for found in _ADDED.finditer(text))})
    whole = [match.span() for match in _QUOTATION.finditer(text)]
    found = [
        end
        for end in ends
        if end < last
        and (_PLAIN.match(text, end) or _is_end(text, end, language))
        and not (whole and _is_within(end, whole))
    ]
    lines = line_ends(text)
    return sorted({*found, *lines}) if lines else found


def _known_ends(text: str, language: str) -> Iterator[int]:
    """What `sentencex` finds, with the marks and smileys that close a sentence taken to it."""
    start = 0
    for sentence in sentencex.segment(language, _masked(text)):
        body = len(sentence.rstrip())
        start, end = start + len(sentence), start + body
        if not body:
            continue
        if text[end : end + 1] == " " and text[end + 1 : end + 2].isalnum():  # most of them
            yield end
        elif closing := _BEHIND.match(text, end):
            yield closing.end()


def _masked(text: str) -> str:
    """The text with spaces for marks and brackets. What is looked for first is seldom there, and is fast to miss."""
    if text.isascii():
        text = text.encode("ascii").translate(_ASCII_MASK).decode("ascii")
    else:
        for mark in _MARKS:
            text = text.replace(mark, " ")
    for mark, pairs in _APOSTROPHES:
        if mark in text:
            for pair, spaces in pairs:
                text = text.replace(pair, spaces)
    return text


def _is_end(text: str, end: int, language: str) -> bool:
    """Whether a sentence can end there, judged by what stands right in front and right behind."""
    before = text[max(end - _LOOKED_BACK, 0) : end]
    found = _NEXT.match(text, end)
    following = found[1] if found else ""
    if not following:
        return True
    if before.endswith((".", "!", "?")) and not text[end].isspace() and following.isascii():
        return False  # `a!=b`, `{{?RFC8200}}`, `F.Cook`
    if not before.endswith("."):
        return not ((following[0].islower() and _AFTER_SPEECH.search(before)) or _ITEM.search(before))
    if before.endswith(".."):
        return True
    return following not in _JOINING and _is_full_stop(before, following, language)


def _is_full_stop(before: str, following: str, language: str) -> bool:
    """Whether the dot at the end is that of a sentence, and not of an abbreviation, an initial or a number."""
    found = _LAST_WORD.search(before)
    word = found[1] if found else ""
    if following[0].islower():
        return _is_before_small(word, language)
    if len(word) == 1 and word.isupper():
        return following.lower() in _STARTERS
    if word.isdecimal() and language in _ORDINALS_IN and _ORDINAL.search(before):
        return False
    if following[0].isdecimal() and _is_numbered(word.lower(), language):
        return False
    return word.lower() not in _ABBREVIATIONS and not _ITEM.search(before)


def _is_numbered(word: str, language: str) -> bool:
    """Whether a word is an abbreviation of what has a number: a street, a paragraph, a schedule."""
    if language == "de" and word.endswith("abs"):  # elsewhere that may be `labs`
        return True
    return word in _NUMBERED or word.endswith(_NUMBERED_ENDINGS)


def _is_before_small(word: str, language: str) -> bool:
    """Whether a sentence may end with this word and a dot though the next word begins small."""
    if language == "en":  # as in chats and mails; its abbreviations are well known
        return len(word) != 1 and word.lower() not in _WITHIN_SENTENCES
    return len(word) > 4 and word.lower() not in _WITHIN_SENTENCES


def _is_within(place: int, spans: list[tuple[int, int]]) -> bool:
    """Whether a place lies inside of one of the spans, which are ascending and apart."""
    index = bisect_left(spans, (place, 0)) - 1
    return index >= 0 and place < spans[index][1]
