"""Prompt templates: every shipped file is one, and a file of one's own works or says what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from rwkv_runtime import prompts
from rwkv_runtime.errors import RwkvError
from rwkv_runtime.prompts import Turn
from rwkv_runtime.tokenizers.world import WorldTokenizer


@pytest.mark.parametrize("name", prompts.names())
def test_every_shipped_template_asks_the_question_last_and_says_where_to_stop(name: str) -> None:
    template = prompts.load(name)
    prompt = template.render("Why {user}?", "Be {brief}.", [Turn("Who?", "I."), Turn("When?", "Now.")])
    parts = ["Be {brief}.", "Who?", "I.", "When?", "Now.", "Why {user}?"]

    assert [prompt.count(part) for part in parts] == [1] * len(parts)
    assert sorted(parts, key=prompt.index) == parts
    assert prompt == prompt.rstrip(" ")  # a blank would be a token that the model was trained to write itself
    behind_an_answer = prompt[prompt.index("I.") + 2 : prompt.index("When?")]
    assert any(stop in behind_an_answer for stop in template.stop)
    assert template.render("Why {user}?", "", []) == template.render("Why {user}?")


def test_the_known_families_are_there() -> None:
    assert {"world", "raven", "g1", "g1-think"} <= set(prompts.names())
    assert prompts.load("world").render("Hi") == "User: Hi\n\nAssistant:"
    assert prompts.load("raven-chat").render("Hi") == "Bob: Hi\n\nAlice:"
    assert prompts.load("raven").render("Hi").endswith("\n\n# Instruction:\nHi\n\n# Response:\n")


def test_a_model_that_thinks_begins_the_tag_and_its_thoughts_are_forgotten() -> None:
    template = prompts.load("g1-think")
    earlier = [Turn("2+2?", "<think>\n\ntwo and two\n\n</think>\n4")]

    assert template.render("And 3+3?", earlier=earlier) == (
        "User: 2+2?\n\nAssistant: 4\n\nUser: And 3+3?\n\nAssistant: <think"
    )
    assert WorldTokenizer.shipped().encode(template.render("x"))[-2:] == [295, 35762]  # " <", "think"
    assert template.stop_after == "</think>"


def test_blank_lines_in_a_text_do_not_end_its_turn() -> None:
    prompt = prompts.load("g1").render(" one\r\n\r\ntwo\n \n\n three\n")

    assert prompt == "User: one\ntwo\n three\n\nAssistant:"


def test_a_file_of_ones_own_works(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        'system = "S {system}|"\nuser = "Q {user}|A"\nassistant = " {assistant}|"\nstop = ["|"]\n[sampling]\ntop_k = 3'
    )
    template = prompts.load(path)

    assert template.render("q", "s", [Turn("a", "b")]) == "S s|Q a|A b|Q q|A"
    assert (template.name, template.stop, template.sampling.top_k) == ("mine", ("|",), 3)


GOOD = 'system = "{system}"\nuser = "{user}"\nassistant = "{assistant}"\n'


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (GOOD + "usr = 1", "'usr' is no key"),
        (GOOD.replace("{user}", "you"), "user must have {user} in it once"),
        (GOOD + "stop = 'x'", "stop must be a list"),
        (GOOD + "opening = 3", "is no text"),
        (GOOD + "sampling = 1", "sampling must be a table"),
        (GOOD + "[sampling]\ntop_q = 1", "top_q"),
        (GOOD + "[sampling]\ntop_p = 7", "top_p 7"),
        ("not toml", "is no prompt template"),
    ],
)
def test_a_file_that_is_no_template_is_refused_in_one_line(content: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(content)
    with pytest.raises(RwkvError) as raised:
        prompts.load(path)
    assert reason in str(raised.value)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_an_unknown_name_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(RwkvError, match="give one of g1, g1-fast, g1-think, raven, raven-chat, world or a"):
        prompts.load("wrld")
    with pytest.raises(RwkvError, match="No such file"):
        prompts.load("none.toml")
