"""Asks a model for claims about some sentences, in a form that always names at least one of them.

The form is a grammar, so that what comes is a list of claims whatever the model would like to write.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Final, Protocol

import numpy as np

from pipeline import vectors
from pipeline.claims.checking import Checked, Claim, Evidence, checked
from rwkv_runtime import prompts
from rwkv_runtime.decoding import Completion, Request, decode
from rwkv_runtime.engine import Engine, Feed
from rwkv_runtime.grammar import Grammar
from rwkv_runtime.prompts import Template

TOKENS_PER_CLAIM: Final = 64
_LONGEST: Final = 240


class Writer(Protocol):
    """Continues prompts. A model in a run; a script in tests."""

    def write(self, question: str, most_tokens: int, grammar: Grammar | None) -> Completion: ...


@dataclass(frozen=True)
class Written:
    """Claims, checked, and what writing them took."""

    claims: tuple[Checked, ...]
    tokens: int
    finish_reason: str


@dataclass(frozen=True)
class ModelWriter:
    """A model that answers questions in the words of a template, always the likeliest token."""

    engine: Engine
    template: Template

    def write(self, question: str, most_tokens: int, grammar: Grammar | None) -> Completion:
        stop = () if grammar is not None else self.template.stop
        prompt = self.template.render(question)
        request = Request(prompt, None, most_tokens, stop=stop, stop_after=self.template.stop_after, grammar=grammar)
        return decode(self.engine.model, [request], lanes=1)[0]


@dataclass(frozen=True)
class ModelEvidence:
    """What the same model says of claims; each text is read by itself."""

    engine: Engine

    def cosine(self, one: str, other: str) -> float:
        first, second = vectors.isolated(self.engine, [one, other])
        return float(first @ second)

    def nats(self, text: str, behind: str) -> float:
        """-ln p of a text behind another, which is read from the beginning."""
        encode, window = self.engine.model.tokenizer.encode, self.engine.window
        tokens = encode(f" {text}")
        before = encode(behind)
        state = vectors.state_behind(self.engine, before[:-1])
        whole, total = (before[-1], *tokens), 0.0
        for begin in range(0, len(whole) - 1, window):
            now, follow = whole[begin : begin + window], whole[begin + 1 : begin + window + 1]
            fed = self.engine.feed([Feed(now, state, False, follow)])[0]
            state = fed.state
            total += 0.0 if fed.surprise is None else float(fed.surprise.sum(dtype=np.float64))
        return total


@dataclass(frozen=True)
class Abstractor:
    """Writes and checks summaries with one model. `prompt` has `{sentences}` and `{count}` in it."""

    writer: Writer
    evidence: Evidence
    prompt: str

    def summary(self, sentences: Sequence[str], most: int) -> Written:
        """At most so many claims about some sentences, each checked."""
        shown = "\n".join(f"[{place}] {' '.join(one.split())}" for place, one in enumerate(sentences, start=1))
        question = self.prompt.replace("{sentences}", shown).replace("{count}", str(most))
        done = self.writer.write(question, most * TOKENS_PER_CLAIM, grammar_of(len(sentences), most))
        claims = tuple(checked(claim, sentences, self.evidence) for claim in parsed(done.text, len(sentences)))
        return Written(_each_once(claims), len(done.tokens), done.finish_reason)


def abstractor(engine: Engine, template: str, prompt: str | None) -> Abstractor:
    """What writes with a model, in the words of a template. Raises RwkvError for a template."""
    text = prompt or resources.files("pipeline.claims").joinpath("prompts/summary.txt").read_text("utf-8")
    return Abstractor(ModelWriter(engine, prompts.load(template)), ModelEvidence(engine), text)


def grammar_of(sentences: int, most: int) -> Grammar:
    """JSON of one to `most` claims, each with the numbers of one to three of so many sentences."""
    rests_on = {"type": "array", "items": {"enum": list(range(1, sentences + 1))}, "minItems": 1, "maxItems": 3}
    text = {"type": "string", "minLength": 8, "maxLength": _LONGEST}
    claim = {
        "type": "object",
        "properties": {"text": text, "rests_on": rests_on},
        "required": ["text", "rests_on"],
        "additionalProperties": False,
    }
    claims = {"type": "array", "items": claim, "minItems": 1, "maxItems": most}
    return Grammar.json_schema(
        {"type": "object", "properties": {"claims": claims}, "required": ["claims"], "additionalProperties": False}
    )


def parsed(text: str, sentences: int) -> list[Claim]:
    """The claims in a text of the grammar; those that are not in its form or cite no sentence are left out."""
    try:
        claims = list(json.loads(text)["claims"])
    except (ValueError, TypeError, KeyError):
        return []
    found = []
    for claim in claims:
        try:
            said, cited = " ".join(claim["text"].split()), [int(number) - 1 for number in claim["rests_on"]]
        except (ValueError, TypeError, KeyError, AttributeError):
            continue
        if said and cited and all(0 <= place < sentences for place in cited):
            found.append(Claim(said, tuple(dict.fromkeys(cited))))
    return found


def _each_once(claims: Sequence[Checked]) -> tuple[Checked, ...]:
    """Claims that failed may have been replaced by the same sentence."""
    return tuple({one.text: one for one in reversed(claims)}.values())[::-1]
