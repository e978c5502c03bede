"""Texts with questions are what they say they are."""

from __future__ import annotations

import random
import re

import pytest

from pipeline.metrics.asked import FITTED_ON, HELD_OUT, Telling, facts

TEXT = "A line of a text that tells of nothing.\n" * 500


@pytest.mark.parametrize("telling", [FITTED_ON, HELD_OUT], ids=["fitted on", "held out"])
def test_a_fact_stands_where_it_is_said_to_and_names_what_is_asked(telling: Telling) -> None:
    text, (own, foreign, unheard) = next(facts(TEXT, telling, random.Random(1)))

    [(start, end)] = own.spans or ()
    named = [one for one in (*telling.things, *telling.people, *telling.places) if one in own.question]
    assert len(named) == 3
    assert all(one in text[start:end] for one in named)
    assert not foreign.answerable and not unheard.answerable
    assert text[:start] + text[end:] in TEXT


def test_what_is_measured_has_none_of_the_names_and_sentences_that_weights_were_fitted_on() -> None:
    fitted, held_out = (
        {*one.things, *one.people, *one.places, one.fact, one.question, one.foreign, one.unheard}
        for one in (FITTED_ON, HELD_OUT)
    )
    nouns = [
        set(re.findall(r"\w{5,}", re.sub(r"\{\w+\}", "", f"{one.fact} {one.question}")))
        for one in (FITTED_ON, HELD_OUT)
    ]

    assert not fitted & held_out
    assert not nouns[0] & nouns[1]
