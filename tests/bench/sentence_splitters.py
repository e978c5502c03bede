"""Compares sentence splitters with gold boundaries, and their speed.

    python -m tests.bench.sentence_splitters --gold DIR [--speed TEXT]

DIR holds `segm-*.jsonl` files: an object a line with `text`, `sentences` (verbatim, in order) and, where one file has
several languages, `lang`. A boundary is the place behind a sentence's last character that is not white space; the end
of a text, which every splitter finds, does not count. Ours gets each language told and, in another column, has to
find it out. Prints a table of F1 and megabytes a second, then one JSON line. pySBD and nupunkt take part if installed.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from pipeline.language import detect_language
from pipeline.sentences import passage_end, split_passage

Splitter: TypeAlias = Callable[[str, str], Sequence[str]]
"""Sentences of a text in a language (two letters), in order, white space apart."""

MAX_CHARS = 100_000
READ_CHARS = 65_536
SAMPLE_CHARS = 20_000
SPEED_CHARS = 4_000_000
SLOW_CHARS = 200_000
_CODES: Mapping[str, str] = {
    "amharic": "am", "arabic": "ar", "armenian": "hy", "bulgarian": "bg", "burmese": "my", "chinese": "zh",
    "danish": "da", "deutsch": "de", "dutch": "nl", "english": "en", "french": "fr", "greek": "el", "hindi": "hi",
    "italian": "it", "japanese": "ja", "kazakh": "kk", "marathi": "mr", "persian": "fa", "polish": "pl",
    "russian": "ru", "slovak": "sk", "spanish": "es", "urdu": "ur",
}  # fmt: skip


@dataclass(frozen=True)
class Gold:
    """A text and the places at which its sentences end."""

    text: str
    language: str
    ends: frozenset[int]


@dataclass
class Score:
    """Boundaries found, wanted, and both."""

    found: int = 0
    wanted: int = 0
    right: int = 0

    def add(self, found: frozenset[int], wanted: frozenset[int]) -> None:
        self.found += len(found)
        self.wanted += len(wanted)
        self.right += len(found & wanted)

    @property
    def f1(self) -> float:
        return 2 * self.right / (self.found + self.wanted) if self.found + self.wanted else 1.0


def ours(text: str, language: str) -> list[str]:
    """As documents are split: passage by passage."""
    sentences: list[str] = []
    for start in range(0, len(text), READ_CHARS):
        sentences.extend(_split(text[start : start + READ_CHARS], language))
    return sentences


def _split(text: str, language: str) -> list[str]:
    sentences: list[str] = []
    while text:
        end = passage_end(text) or len(text)
        sentences.extend(piece.text for piece in split_passage(text[:end], language, MAX_CHARS)[0])
        text = text[end:]
    return sentences


def ours_on_its_own(text: str, language: str) -> list[str]:
    return ours(text, detect_language(text[:SAMPLE_CHARS]))


def splitters() -> dict[str, Splitter]:
    found: dict[str, Splitter] = {"unspool": ours, "unspool, language found": ours_on_its_own}
    if importlib.util.find_spec("pysbd"):
        found["pySBD"] = _pysbd
    if importlib.util.find_spec("nupunkt"):
        found["nupunkt"] = _nupunkt
    return found


def _pysbd(text: str, language: str) -> Sequence[str]:
    import pysbd
    from pysbd.languages import LANGUAGE_CODES

    known = language if language in LANGUAGE_CODES else "en"
    found: Sequence[str] = pysbd.Segmenter(language=known, clean=False).segment(text)
    return found


def _nupunkt(text: str, language: str) -> Sequence[str]:
    import nupunkt

    found: Sequence[str] = nupunkt.sent_tokenize(text)
    return found


def ends_of(text: str, sentences: Iterable[str]) -> frozenset[int]:
    """Where sentences end in a text: white space is passed over, so each splitter may treat it as it likes."""
    places = [place for place, character in enumerate(text) if not character.isspace()]
    ends, passed = set(), 0
    for sentence in sentences:
        passed += sum(not character.isspace() for character in sentence)
        if 0 < passed < len(places):
            ends.add(places[passed - 1] + 1)
    return frozenset(ends)


def gold_of(folder: Path) -> dict[str, list[Gold]]:
    """The texts of a folder by set: `segm-ud-de.jsonl` is `ud-de`, of `segm-x.jsonl` with `lang` each is `x`."""
    found: dict[str, list[Gold]] = defaultdict(list)
    for path in sorted(folder.glob("segm-*.jsonl")):
        name = path.stem.removeprefix("segm-")
        for line in path.read_text("utf-8").splitlines():
            row = json.loads(line)
            language = _CODES.get(row["lang"], "en") if "lang" in row else name[-2:]
            label = f"{name}-{language}" if "lang" in row else name
            found[label].append(Gold(row["text"], language, ends_of(row["text"], row["sentences"])))
    return found


def table(gold: Mapping[str, Sequence[Gold]], known: Mapping[str, Splitter]) -> dict[str, dict[str, float]]:
    """F1 of each splitter on each set, in percent."""
    result: dict[str, dict[str, float]] = {}
    for name, texts in gold.items():
        if not any(one.ends for one in texts):
            continue  # texts of one sentence each
        result[name] = {}
        for splitter, split in known.items():
            score = Score()
            for one in texts:
                score.add(ends_of(one.text, split(one.text, one.language)), one.ends)
            result[name][splitter] = round(100 * score.f1, 1)
    return result


def speeds(text: str, known: Mapping[str, Splitter]) -> dict[str, float]:
    """UTF-8 megabytes in a second of one processor, the best of three. Others get a shorter part of the text."""
    result = {}
    for name, split in known.items():
        part = text[: SPEED_CHARS if split in (ours, ours_on_its_own) else SLOW_CHARS]
        split(part[:1000], "en")
        seconds = min(_seconds(split, part) for _ in range(3))
        result[name] = round(len(part.encode()) / 1e6 / seconds, 2)
    return result


def _seconds(split: Splitter, text: str) -> float:
    started = time.process_time()
    split(text, "en")
    return time.process_time() - started


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gold", type=Path, required=True, help="a folder with segm-*.jsonl")
    parser.add_argument("--speed", type=Path, help="an English text to measure speed on")
    arguments = parser.parse_args()
    known = splitters()
    found = table(gold_of(arguments.gold), known)
    if not found:
        print(f"no segm-*.jsonl in {arguments.gold}", file=sys.stderr)
        return 2
    for name, row in found.items():
        print(f"{name:20}", *(f"{splitter} {score:5.1f}  " for splitter, score in row.items()))
    speed = speeds(arguments.speed.read_text("utf-8"), known) if arguments.speed else {}
    print(json.dumps({"bench": "sentence_splitters", "f1": found, "megabytes_per_second": speed}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
