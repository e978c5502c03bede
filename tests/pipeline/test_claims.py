"""Claims that a model writes: their form, what becomes of those that fail, and who may write at all.

The mechanics are held to tiny random models, which write nonsense in every form; behaviour to scripted ones.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import worker
from pipeline.claims.capability import Capability, checks, probe
from pipeline.claims.checking import Claim, checked, named_in
from pipeline.claims.writing import Abstractor, abstractor, parsed
from pipeline.errors import OptionError
from rwkv_runtime import Model, load
from rwkv_runtime.decoding import Completion
from rwkv_runtime.engine import Engine
from rwkv_runtime.grammar import Grammar
from tests.pipeline.readings import (
    Lives,
    all_rows,
    assert_same_rows,
    bpe_tensors,
    document,
    prose,
    save_model,
    worker_spec,
)

SENTENCES = (
    "Anna Berg sold 12 boats to Peter in 1998.",
    "The harbour was closed for repairs all winter.",
    "Peter repaired the boats and painted them red.",
    "Fishing had been poor for years before that.",
)
TASK = {"name": "gist", "type": "summarize", "mode": "abstractive", "template": "g1", "prompt": None, "seed": 0} | {
    "max_sentences": 2,
    "every": "section",
    "at_end": True,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_model(tmp_path_factory.mktemp("claims") / "bpe", bpe_tensors())


@pytest.fixture(scope="module")
def model(folder: str) -> Model:
    return load(folder)


@dataclass
class Agreeable:
    """Evidence in favour of everything, unless told otherwise."""

    near: float = 0.9
    gain: float = 1.0

    def cosine(self, one: str, other: str) -> float:
        return self.near

    def nats(self, text: str, behind: str) -> float:
        return 10.0 - self.gain * (SENTENCES[0] in behind)


@dataclass
class Script:
    """Answers what it is told to."""

    answer: Callable[[str], str]

    def write(self, question: str, most_tokens: int, grammar: Grammar | None) -> Completion:
        return Completion(self.answer(question), (1, 2), (0.0, 0.0), "complete")


class TestForm:
    @pytest.mark.parametrize("seed", range(2))
    def test_whatever_a_random_model_writes_is_claims_that_cite(self, model: Model, seed: int) -> None:
        engine = Engine(model, window=64, lanes=1)
        found = abstractor(engine, "g1", f"{seed} {{sentences}} {{count}}").summary(SENTENCES, 2)

        assert 1 <= len(found.claims) <= 2
        assert all(claim.cited and set(claim.cited) <= set(range(4)) for claim in found.claims)
        assert all(claim.failed is None or claim.text in SENTENCES for claim in found.claims)
        assert 0 < found.tokens <= 2 * 64

    @given(
        claims=st.lists(st.tuples(st.text(max_size=30), st.lists(st.integers(-1, 9), max_size=4)), max_size=5),
        junk=st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=3)),
    )
    @settings(deadline=None, max_examples=60)
    def test_claims_are_parsed_and_nothing_else_is(self, claims: list[tuple[str, list[int]]], junk: object) -> None:
        listed = [{"text": text, "rests_on": [place + 1 for place in cited]} for text, cited in claims]
        expected = [
            Claim(" ".join(text.split()), tuple(dict.fromkeys(cited)))
            for text, cited in claims
            if text.split() and cited and all(0 <= place < 9 for place in cited)
        ]

        assert parsed(json.dumps({"claims": [*listed, junk]}), 9) == expected
        assert parsed(json.dumps(junk), 9) == parsed("{", 9) == []


class TestChecks:
    def check(self, text: str, *cited: int, evidence: Agreeable | None = None) -> tuple[str, tuple[int, ...], str]:
        found = checked(Claim(text, cited), SENTENCES, evidence or Agreeable())
        return found.text, found.cited, found.failed or ""

    def test_a_claim_that_its_sentences_bear_out_stays(self) -> None:
        assert self.check("In 1998 Peter bought 12 boats", 0) == ("In 1998 Peter bought 12 boats", (0,), "")

    @pytest.mark.parametrize("text", ["Peter bought 13 boats", "In 1998 Peter and Maria bought boats", "the EU paid"])
    def test_a_claim_with_a_number_or_a_name_of_its_own_is_replaced_by_the_sentence(self, text: str) -> None:
        said, cited, failed = self.check(text, 0)

        assert (said, cited) == (SENTENCES[0], (0,)) and "which no sentence that it cites does" in failed

    def test_of_several_sentences_the_nearest_by_words_takes_its_place(self) -> None:
        assert self.check("Peter painted 99 boats red", 0, 2)[:2] == (SENTENCES[2], (2,))

    def test_a_claim_far_from_what_it_cites_or_as_likely_elsewhere_is_replaced(self) -> None:
        assert self.check("boats were sold", 0, evidence=Agreeable(near=0.2))[2].startswith("is not near")
        assert self.check("boats were sold", 0, evidence=Agreeable(gain=0.0))[2].startswith("is as likely")

    def test_what_must_not_be_made_up_is_found(self) -> None:
        found = named_in("On 3 March 2020 Ms Ines Grantham paid 5,000.50 to NATO, she said")

        assert {"3", "2020", "Ines", "Grantham", "5,000.50", "NATO"} <= set(found) and "she" not in found


class TestWho:
    ANSWERS = (
        *("48213", '{"name": "Maria", "city": "Lisbon"}', "[2]", "Not stated.", "It is wide and blue."),
        "Peter bought Anna's boat, repaired it and sailed to Malta.",
    )

    def test_who_answers_rightly_can_write_and_who_fails_twice_cannot(self) -> None:
        answers = dict(zip((check.question for check in checks()), self.ANSWERS, strict=True))
        assert probe(Script(answers.__getitem__), checks()) == Capability(tuple(one.name for one in checks()), ())
        for wrong in range(5):
            mixed = {
                question: "Yes." if n in (wrong, wrong + 1) else answers[question] for n, question in enumerate(answers)
            }
            assert not probe(Script(mixed.__getitem__), checks()).can_write

    @pytest.mark.parametrize("answer", ["", "Yes.", " ".join(["48213"] * 9), "I am Bob."])
    def test_who_always_says_the_same_cannot(self, answer: str) -> None:
        assert len(probe(Script(lambda _: answer), checks()).passed) <= 1

    def test_the_shipped_model_cannot_and_says_so(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        for _ in range(2):  # the second time from the cache
            with pytest.raises(OptionError, match=r"tasks.gist: this model cannot write summaries \([0-4] of 6 checks"):
                Lives(worker_spec(tmp_path / "run", "default", tasks=(TASK,)), []).begin()
        assert len(list((tmp_path / "cache").rglob("*.json"))) == 1


class TestTask:
    @pytest.fixture(autouse=True)
    def trusted(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(worker, "capability_of", lambda writer: Capability(("all",) * 6, ()))

    def test_rows_cite_what_they_rest_on_wherever_the_reading_is_interrupted(self, folder: str, tmp_path: Path) -> None:
        text = prose(24)
        ref = document(tmp_path / "a.md", text)
        straight = Lives(worker_spec(tmp_path / "one", folder, tasks=(TASK,)), [ref]).to_the_end()
        broken = Lives(worker_spec(tmp_path / "two", folder, tasks=(TASK,)), [ref])
        broken.begin()
        broken.step(3)
        broken.drain()
        broken.to_the_end()

        assert_same_rows(all_rows(broken), all_rows(straight))
        rows = all_rows(straight)["a"]["summaries"].to_pylist()  # type: ignore[union-attr]
        assert {row["level"] for row in rows} == {"section", "document"}
        for row in rows:
            lines = row["text"].split("\n")
            assert row["mode"] == "abstractive" and len(lines) == len(row["reasons"]) <= 2
            for line, reasons in zip(lines, row["reasons"], strict=True):
                said, cited = re.fullmatch(r"(.+) \[([\d, ]+)\]", line).groups()  # type: ignore[union-attr]
                places = [row["citations"][int(number) - 1] for number in cited.split(", ")]
                quotes = [" ".join(text[one["char_start"] : one["char_end"]].split()) for one in places]
                assert quotes and (reasons == ["claim"] or said in quotes)

    def test_what_is_written_is_that_of_the_prompt_of_the_user(self, folder: str, tmp_path: Path) -> None:
        ref = document(tmp_path / "a.md", prose(12))
        found = []
        for number, prompt in enumerate((None, "{sentences}\nNow say what matters.")):
            task = TASK | {"prompt": prompt, "every": None}
            lives = Lives(worker_spec(tmp_path / str(number), folder, tasks=(task,)), [ref]).to_the_end()
            found.append(all_rows(lives)["a"]["summaries"].to_pylist())  # type: ignore[union-attr]

        assert len(found[0]) == len(found[1]) == 1


def test_an_abstractor_gives_each_sentence_once(model: Model) -> None:
    said = (("Maria sold 7 boats", 1), ("Maria has 9 boats", 1), ("The harbour was closed", 2))
    answer = json.dumps({"claims": [{"text": text, "rests_on": [number]} for text, number in said]})
    found = Abstractor(Script(lambda _: answer), Agreeable(gain=99.0), "{sentences}").summary(SENTENCES, 3)

    assert found.claims[0].text == SENTENCES[0]
    assert len({claim.text for claim in found.claims}) == len(found.claims)
