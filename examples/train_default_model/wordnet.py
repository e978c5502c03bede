"""Words of everyday language and what they mean, from the files of WordNet (https://wordnet.princeton.edu).

Its licence lets anybody use, change and pass on what is made of it. `apt-get download wordnet-base` and `dpkg -x` bring
the files (usr/share/wordnet). Format: wndb(5WN). Knows nothing of teachers or tokens.
"""

from __future__ import annotations

import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

LICENCE = "WordNet 3.0 licence"
KINDS = ("noun", "verb", "adj", "adv")
TAGGED = "cntlist.rev"
FEWEST_WORDS = 3
_KIND_OF_NUMBER = {"1": "noun", "2": "verb", "3": "adj", "4": "adv", "5": "adj"}
_EXAMPLE = re.compile(r'"([^"]+)"')
_MARKER = re.compile(r"\((?:a|p|ip)\)$")


@dataclass(frozen=True)
class Sense:
    """One meaning: the `words` that have it, its lexicographer file, its gloss, and the frames of a verb."""

    words: tuple[str, ...]
    category: int
    definition: str
    examples: tuple[str, ...]
    frames: frozenset[int]


@dataclass(frozen=True)
class WordNet:
    """`senses` in the order of the files; `first` of (kind, word) is the most frequent one of a word.

    `irregular` of (kind, word) are the word's irregular forms, `counts` how often it stands in texts that were tagged.
    """

    senses: Sequence[Sense]
    first: Mapping[tuple[str, str], Sense]
    irregular: Mapping[tuple[str, str], Sequence[str]]
    counts: Mapping[tuple[str, str], int]

    def share(self, kind: str, word: str) -> float:
        """How often a word is of this kind, in [0, 1]: by the texts that were tagged, else every kind alike."""
        total = sum(self.counts.get((one, word), 0) for one in KINDS)
        if total:
            return self.counts.get((kind, word), 0) / total
        return 1 / sum((one, word) in self.first for one in KINDS)


def require_wordnet(folder: Path) -> None:
    """Raises FileNotFoundError if the folder lacks one of the files."""
    for name in (*(f"{part}.{kind}" for kind in KINDS for part in ("data", "index")), TAGGED):
        if not (folder / name).exists():
            raise FileNotFoundError(f"{folder} has no {name}; give --wordnet the folder with the files of WordNet")


def read_wordnet(folder: Path) -> WordNet:
    """The database of a folder with data.noun, index.noun and so on. Raises FileNotFoundError without these."""
    require_wordnet(folder)
    senses: list[Sense] = []
    first: dict[tuple[str, str], Sense] = {}
    irregular: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for kind in KINDS:
        found = dict(_sense(kind, line) for line in _lines(folder / f"data.{kind}"))
        senses += found.values()
        for line in _lines(folder / f"index.{kind}"):
            fields = line.split()
            place = 6 + int(fields[3])
            first[kind, fields[0]] = found[fields[place]]
        for line in _lines(folder / f"{kind}.exc"):
            form, *bases = line.split()
            for base in bases:
                irregular[kind, base].append(form)
    return WordNet(senses, first, irregular, _counts(folder / TAGGED))


def definitions(wordnet: WordNet, count: int) -> list[str]:
    """So many definitions, half of them behind one of the words that they define."""
    chooser = random.Random(0)
    found = [
        f"{chooser.choice(sense.words).replace('_', ' ')}: {sense.definition}"
        if chooser.random() < 0.5
        else sense.definition
        for sense in wordnet.senses
        if len(sense.definition.split()) >= FEWEST_WORDS
    ]
    chooser.shuffle(found)
    return list(dict.fromkeys(found))[:count]


def examples(wordnet: WordNet, count: int) -> list[str]:
    """So many sentences and phrases that show how words are used."""
    found = list(dict.fromkeys(text for sense in wordnet.senses for text in sense.examples))
    random.Random(0).shuffle(found)
    return found[:count]


def _lines(path: Path) -> Iterator[str]:
    """The lines of a file without the licence in front, whose lines begin with blanks."""
    with path.open(encoding="utf-8", errors="replace") as lines:
        yield from (line for line in lines if not line.startswith("  "))


def _counts(path: Path) -> Counter[tuple[str, str]]:
    """How often words of each kind were tagged: a line is a sense's key (word%kind:...), its rank and its count."""
    counts: Counter[tuple[str, str]] = Counter()
    for line in _lines(path):
        key, _, count = line.split()
        word, _, rest = key.partition("%")
        counts[_KIND_OF_NUMBER[rest[0]], word] += int(count)
    return counts


def _sense(kind: str, line: str) -> tuple[str, Sense]:
    """A line of a data file: its offset and what it says."""
    fields, _, gloss = line.partition(" | ")
    parts = fields.split()
    count = int(parts[3], 16)
    words = tuple(_MARKER.sub("", word) for word in parts[4 : 4 + 2 * count : 2])
    behind_pointers = 5 + 2 * count + 4 * int(parts[4 + 2 * count])
    frames = frozenset(int(frame) for frame in parts[behind_pointers + 2 :: 3]) if kind == "verb" else frozenset[int]()
    definition = gloss.partition('"')[0].strip(" ;\n")
    shown = tuple(text.strip() for text in _EXAMPLE.findall(gloss) if len(text.split()) >= FEWEST_WORDS)
    return parts[0], Sense(words, int(parts[1]), definition, shown, frames)
