"""Texts with questions that they answer and questions that they do not, made of what people marked in public sets.

A question without an answer comes from another text of the same kind, or its answer is left out of the text. Knows
nothing of who answers.
"""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

Row = Mapping[str, Any]
Span = tuple[int, int]

LONGEST: Final = 60_000
_DISEASES: Final = 5
_LEFT_OUT: Final = 2
_CLAUSES: Final = 5
_QUERIES: Final = 5
_FIELDS: Final = 4
_SIZES: Final = (3_000, 12_000, 40_000)
_OF: Final = re.compile(
    r"(?:what (?:is|are) \(are\)|what causes|who is at risk for|how to (?:diagnose|prevent)|what is the outlook for|"
    r"what are the (?:symptoms|treatments|complications|stages|genetic changes) (?:of|for|related to)|"
    r"how many people are affected by|what research \(or clinical trials\) is being done for) (.+?)[ ?]*$",
    re.IGNORECASE,
)
_NAMED: Final = re.compile(r"(?<=[a-z,] )[A-Z][a-z]+")
_KEY: Final = re.compile(r"^([A-Z][\w ()/-]{2,50}):[ \t]*(.*)$", re.MULTILINE)
_MEANT: Final = re.compile(r"[\"“]([A-Z][A-Za-z -]{3,30})[\"”]\s+(?:shall\s+mean|means|has\s+the\s+meaning)")
_ASIDE: Final = re.compile(r"\((?:the |hereinafter |each an? )?[\"“]([A-Z][a-z]{4,14}(?:or|er|ee|ant|ent|any))[\"”]\)")
_MEANS: Final = ("What is {term}?", "What does {term} mean?", 'What does "{term}" mean?', "How is {term} defined?")
_WHO: Final = ("Who is the {term}?", "Who is the {term}?", "What is the name of the {term}?")
_TERMS: Final = 2
_TITLE: Final = re.compile(r"[A-Z][a-z]\w*(?: \w+){0,3}")
_COUNTRY: Final = {
    "Capital": "What is the capital of {title}?",
    "Government type": "What type of government does {title} have?",
    "Independence": "When did {title} gain independence?",
    "Population": "What is the total population of {title}?",
    "Area": "How large is the area of {title}?",
    "Languages": "Which languages are spoken in {title}?",
    "Currency": "What is the currency of {title}?",
    "Internet country code": "What is the internet country code of {title}?",
    "Elevation": "What is the highest point of {title}?",
    "National anthem(s)": "What is the national anthem called?",
    "Median age": "What is the median age of the population?",
    "Climate": "What is the climate of {title} like?",
    "Life expectancy at birth": "What is the life expectancy at birth?",
    "Religions": "What religions do people in {title} have?",
    "Exports - partners": "Who are the main export partners of {title}?",
    "Legal system": "What kind of legal system is there?",
    "Suffrage": "How old must people be to vote (suffrage)?",
    "National holiday": "When is the national holiday?",
}


@dataclass(frozen=True)
class Asked:
    """A question, whether the text answers it, and the spans that do; None where nobody marked them."""

    question: str
    answerable: bool
    spans: tuple[Span, ...] | None

    @classmethod
    def marked(cls, question: str, spans: Iterable[Span]) -> Asked:
        """A question with the spans that answer it; none if it is not answered."""
        found = tuple(spans)
        return cls(question, bool(found), found)


Item = tuple[str, tuple[Asked, ...]]


def medical(rows: Sequence[Row], draw: random.Random) -> Iterator[Item]:
    """Texts of answers about five diseases; one question of each is left out, and all of two other diseases.

    Rows are those of MedQuAD, `query` and `answer`.
    """
    known: dict[str, dict[str, str]] = defaultdict(dict)
    for row in rows:
        of = _OF.match(row["query"])
        if of and row["answer"] not in known[of[1].lower()].values():
            known[of[1].lower()][row["query"]] = row["answer"]
    diseases = sorted(name for name, answers in known.items() if len(answers) > 2)
    draw.shuffle(diseases)
    for first in range(0, len(diseases) - _DISEASES - _LEFT_OUT + 1, _DISEASES + _LEFT_OUT):
        inside = diseases[first : first + _DISEASES]
        outside = diseases[first + _DISEASES : first + _DISEASES + _LEFT_OUT]
        yield _medical_text([known[name] for name in inside], [known[name] for name in outside], draw)


def _medical_text(
    inside: Sequence[Mapping[str, str]], outside: Sequence[Mapping[str, str]], draw: random.Random
) -> Item:
    asked: list[tuple[str, str]] = []
    parts: list[str] = []
    for answers in inside:
        questions_of = sorted(answers)
        draw.shuffle(questions_of)
        left_out, there, *others = questions_of
        asked += [(left_out, ""), (there, answers[there])]
        parts += [answers[question] for question in (there, *others)]
    asked += [(sorted(answers)[0], "") for answers in outside]
    draw.shuffle(parts)
    text = "\n\n".join(parts)
    spans = [((text.index(answer), text.index(answer) + len(answer)),) if answer else () for _, answer in asked]
    return text, tuple(Asked.marked(question, span) for (question, _), span in zip(asked, spans, strict=True))


def contracts(rows: Iterable[Row], wording: Mapping[str, str], draw: random.Random) -> Iterator[Item]:
    """Contracts of CUAD that are not too long, each asked for five clauses that it has and five that it has not.

    `wording` are the questions by the names of categories.
    """
    for contract in rows:
        if len(contract["text"]) > LONGEST:
            continue
        marked = {
            label["category"]: tuple((span["start"], span["end"]) for span in label["spans"])
            for label in contract["labels"]
            if label["spans"]
        }
        has = sorted(category for category in wording if category in marked)
        lacks = sorted(category for category in wording if category not in marked)
        chosen = [
            *draw.sample(has, min(_CLAUSES, len(has))),
            *draw.sample(lacks, min(_CLAUSES, len(lacks))),
        ]
        yield contract["text"], tuple(Asked.marked(wording[one], marked.get(one, ())) for one in chosen)


@dataclass(frozen=True)
class Telling:
    """How facts are put: of three things, people and places, what is told and what is asked.

    `fact` and `question` have the fields thing, who and place, the first also number; `foreign` has thing and who.
    """

    things: tuple[str, str, str]
    people: tuple[str, str, str]
    places: tuple[str, str, str]
    fact: str
    question: str
    foreign: str
    unheard: str


FITTED_ON: Final = Telling(
    ("brass key", "silver compass", "red ledger"),
    ("Ines Grantham", "Dario Okonkwo", "Milo Vance"),
    ("Fennwick", "Ashcombe", "Duskmoor"),
    "The {thing} of {who} is kept in locker {number} at {place} station.",
    "In which locker at {place} station is the {thing} of {who} kept?",
    "In which locker is the {thing} of {who} kept?",
    "Who signed the register of the harbour in that year?",
)
"""What the weights of answers and the readers of spans are fitted on."""

HELD_OUT: Final = Telling(
    ("oil painting", "walnut clock", "pearl necklace"),
    ("Runa Halvorsen", "Tobias Achebe", "Celeste Moreau"),
    ("Harrowgate", "Pellworth", "Saint-Orin"),
    "At the auction in {place}, {who} paid {number} crowns for the {thing}.",
    "How many crowns did {who} pay for the {thing} in {place}?",
    "What did {who} pay for the {thing}?",
    "Which ship carried the letter across the sea?",
)
"""What they are measured on."""


def facts(text: str, telling: Telling, draw: random.Random) -> Iterator[Item]:
    """Stretches of a text with a fact put into each, asked for it, for one of somebody else, and for something of which
    there is nothing."""
    while True:
        (thing, other), (who, nobody) = draw.sample(telling.things, 2), draw.sample(telling.people, 2)
        place = draw.choice(telling.places)
        size = min(draw.choice(_SIZES), len(text))
        begin = draw.randrange(len(text) - size + 1)
        hay = text[begin : begin + size]
        at = hay.rfind("\n", 0, draw.randrange(1, size)) + 1
        fact = telling.fact.format(thing=thing, who=who, place=place, number=draw.randint(100, 999)) + "\n"
        question = telling.question.format(thing=thing, who=who, place=place)
        asked = (
            Asked.marked(question, [(at, at + len(fact))]),
            Asked.marked(telling.foreign.format(thing=other, who=nobody), ()),
            Asked.marked(telling.unheard, ()),
        )
        yield hay[:at] + fact + hay[at:], asked


def meetings(rows: Sequence[Row], draw: random.Random) -> Iterator[Item]:
    """Meetings of QMSum, each asked questions of its own and as many of another meeting."""
    for place, meeting in enumerate(rows):
        other = rows[(place + 1 + draw.randrange(len(rows) - 1)) % len(rows)] if len(rows) > 1 else {"specific": []}
        turns = meeting["text"].split("\n")
        starts = [0]
        for turn in turns:
            starts.append(starts[-1] + len(turn) + 1)
        own = [
            Asked.marked(
                query["query"], [(starts[int(a)], starts[int(b) + 1] - 1) for a, b in query["relevant_text_span"]]
            )
            for query in draw.sample(meeting["specific"], min(_QUERIES, len(meeting["specific"])))
            if query["relevant_text_span"]
        ]
        foreign = draw.sample(other["specific"], min(len(own), len(other["specific"])))
        yield meeting["text"], (*own, *(Asked.marked(query["query"], ()) for query in foreign))


def stories(rows: Sequence[Row], draw: random.Random) -> Iterator[Item]:
    """Stories of SQuALITY, each asked those of its questions that name somebody, and those of another story.

    What answers them is not marked in the text.
    """
    for place, story in enumerate(rows):
        other = rows[(place + 1 + draw.randrange(len(rows) - 1)) % len(rows)] if len(rows) > 1 else {"questions": []}
        own = [Asked(one["q"], True, None) for one in story["questions"][1:] if _NAMED.search(one["q"])]
        foreign = [Asked.marked(one["q"], ()) for one in other["questions"][1:] if _NAMED.search(one["q"])]
        yield story["text"], (*own, *foreign)


def countries(rows: Iterable[Row], draw: random.Random) -> Iterator[Item]:
    """Country profiles of lines `key: value`, each asked for four of its fields and four whose lines were taken out.

    Rows have `text`, whose first line is a heading with the name of the country.
    """
    for row in rows:
        title = row["text"].partition("\n")[0].lstrip("# ")
        if not _TITLE.fullmatch(title):
            continue
        there = sorted({found[1] for found in _KEY.finditer(row["text"])} & set(_COUNTRY))
        chosen = draw.sample(there, min(2 * _FIELDS, len(there)))
        asked, gone = chosen[: len(chosen) // 2], chosen[len(chosen) // 2 :]
        text = row["text"]
        for key in gone:
            for start, end in reversed(_entries(text, key)):
                text = text[: text.rfind(key, 0, start + len(key))] + text[end:]
        yield (
            text,
            (
                *(Asked.marked(_COUNTRY[key].format(title=title), _entries(text, key)) for key in asked),
                *(Asked.marked(_COUNTRY[key].format(title=title), ()) for key in gone),
            ),
        )


def definitions(rows: Sequence[Row], draw: random.Random) -> Iterator[Item]:
    """Contracts, each asked for terms that it defines (`"X" means …`) and for parties that it names (`(the "X")`), and
    for as many of another contract that it neither defines nor names."""
    for place, row in enumerate(rows):
        text, other = row["text"], rows[(place + 1 + draw.randrange(len(rows) - 1)) % len(rows)]["text"]
        if len(text) > LONGEST:
            continue
        for pattern, wording in ((_MEANT, _MEANS), (_ASIDE, _WHO)):
            own = {found[1]: found.span(1) for found in reversed(list(pattern.finditer(text)))}
            foreign = sorted({found[1] for found in pattern.finditer(other)} - set(own))
            chosen = draw.sample(sorted(own), min(_TERMS, len(own)))
            absent = draw.sample(foreign, min(_TERMS, len(foreign)))
            yield (
                text,
                (
                    *(Asked.marked(draw.choice(wording).format(term=term), [own[term]]) for term in chosen),
                    *(Asked.marked(draw.choice(wording).format(term=term), ()) for term in absent),
                ),
            )


def _entries(text: str, key: str) -> list[Span]:
    """The lines of a key: its own, and if it has no value, those behind it up to the next key of the same rank."""
    spans = []
    for found in _KEY.finditer(text):
        if found[1] == key or found[1].startswith(f"{key} "):
            following = _KEY.search(text, found.end())
            heading = text.find("\n\n", found.end())
            ends = [at for at in (following.start() if following else -1, heading) if at > 0]
            start = found.start() if found[2] else found.end() + 1
            spans.append((start, max(min(ends, default=len(text)), start)))
    return spans
