"""Sampling and the end of a generated text."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rwkv_runtime.errors import ShapeError
from rwkv_runtime.sampling import Transcript, sample

LOGITS = torch.log(torch.tensor([0.1, 0.5, 0.25, 0.15]))


def draws(count: int, **settings_: float) -> Counter[int]:
    generator = torch.Generator().manual_seed(0)
    return Counter(sample(LOGITS, generator=generator, **settings_) for _ in range(count))


def test_temperature_zero_takes_the_most_likely_token():
    assert draws(20, temperature=0.0, top_p=1.0) == {1: 20}


def test_top_p_zero_takes_the_most_likely_token():
    assert draws(20, temperature=1.0, top_p=0.0) == {1: 20}


@pytest.mark.parametrize(("top_p", "kept"), [(0.4, {1}), (0.6, {1, 2}), (0.8, {1, 2, 3}), (1.0, {0, 1, 2, 3})])
def test_top_p_keeps_the_likeliest_tokens_that_reach_it(top_p, kept):
    assert set(draws(400, temperature=1.0, top_p=top_p)) == kept


def test_frequencies_are_the_probabilities():
    drawn = draws(4000, temperature=1.0, top_p=1.0)
    assert all(abs(drawn[token] / 4000 - p) < 0.03 for token, p in enumerate([0.1, 0.5, 0.25, 0.15]))


def test_the_temperature_applies_after_top_p():
    drawn = draws(4000, temperature=0.5, top_p=0.6)
    assert set(drawn) == {1, 2}
    assert abs(drawn[1] / 4000 - 0.8) < 0.03  # 0.5² : 0.25²


def test_tokens_as_likely_as_the_last_kept_one_are_kept():
    generator = torch.Generator().manual_seed(0)
    even = Counter(sample(torch.zeros(4), 1.0, 0.3, generator) for _ in range(200))
    assert set(even) == {0, 1, 2, 3}


def test_impossible_settings_are_refused():
    for temperature, top_p in ((-1.0, 1.0), (1.0, 1.5), (1.0, -0.1)):
        with pytest.raises(ShapeError):
            sample(LOGITS, temperature, top_p, torch.Generator())


def written(data: bytes, cuts: list[int], stop: list[str]) -> Transcript:
    transcript = Transcript(stop)
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for begin, end in pairwise(edges):
        transcript.append(data[begin:end])
        if transcript.stopped:
            break
    return transcript


@given(
    text=st.text(alphabet="ab\n水é🙂"),
    cuts=st.lists(st.integers(0, 100)),
    stop=st.sampled_from(["b", "\n\n", "ab", "水é"]),
)
@settings(deadline=None)
def test_a_text_ends_before_its_first_stop_string_however_tokens_cut_it(text, cuts, stop):
    transcript = written(text.encode(), cuts, [stop])
    assert transcript.text == text.split(stop)[0]
    assert transcript.stopped == (stop in text)


@given(text=st.text(), cuts=st.lists(st.integers(0, 100)), missing=st.integers(0, 3))
@settings(deadline=None)
def test_a_character_is_there_whole_or_not_at_all(text, cuts, missing):
    data = text.encode()
    data = data[: max(0, len(data) - missing)]
    assert written(data, cuts, []).text == data.decode(errors="ignore")


def test_the_earliest_of_several_stop_strings_ends_the_text():
    assert written(b"one\ntwo three", [], ["three", "two", ""]).text == "one\n"
