"""Sampling, held to the `rwkv` package's, and the end of a generated text."""

from __future__ import annotations

import random
from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rwkv.utils import PIPELINE, PIPELINE_ARGS
from torch import Tensor

from rwkv_runtime.errors import ShapeError
from rwkv_runtime.sampling import Penalties, SamplingOptions, Transcript, distribution, named_seed, sample

LOGITS = torch.log(torch.tensor([0.1, 0.5, 0.25, 0.15]))


def random_logits(seed: int, vocabulary: int, spread: float) -> Tensor:
    return torch.randn(vocabulary, generator=torch.Generator().manual_seed(seed)) * spread


def package_distribution(logits: Tensor, options: SamplingOptions, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """The probabilities that the `rwkv` package would draw with."""
    seen: list[np.ndarray] = []
    with monkeypatch.context() as patch:
        patch.setattr(np.random, "choice", lambda a, p: seen.append(p) or 0)
        PIPELINE.sample_logits(None, logits.clone(), options.temperature, options.top_p, options.top_k)
    return seen[0]


def draws(count: int, **options: Any) -> Counter[int]:
    draw = random.Random(0)
    return Counter(sample(LOGITS, SamplingOptions(**options), draw) for _ in range(count))


@settings(deadline=None, max_examples=200)
@given(
    seed=st.integers(0, 2**31 - 1),
    vocabulary=st.sampled_from([1, 2, 5, 257, 4096]),
    spread=st.sampled_from([0.1, 1.0, 4.0]),
    temperature=st.sampled_from([0.0, 0.3, 1.0, 1.7]),
    top_p=st.sampled_from([0.0, 0.2, 0.5, 0.85, 0.99]),
    top_k=st.sampled_from([0, 1, 3, 40, 5000]),
)
def test_tokens_are_drawn_with_the_probabilities_of_the_rwkv_package(
    seed: int, vocabulary: int, spread: float, temperature: float, top_p: float, top_k: int
) -> None:
    logits, options = random_logits(seed, vocabulary, spread), SamplingOptions(temperature, top_p, top_k)
    with pytest.MonkeyPatch.context() as patch:
        expected = package_distribution(logits, options, patch)
    ours = distribution(logits, options)

    assert ((ours > 0) == (expected > 0)).all()
    assert np.abs(ours - expected).max() < 1e-6


@pytest.mark.parametrize("top_p", [0.25, 0.5, 0.75, 0.875])
def test_the_token_that_reaches_top_p_exactly_is_the_last(top_p: float, monkeypatch: pytest.MonkeyPatch) -> None:
    logits, options = torch.log(torch.tensor([0.125, 0.5, 0.125, 0.25])), SamplingOptions(1.0, top_p)
    expected = package_distribution(logits, options, monkeypatch)

    assert np.abs(distribution(logits, options) - expected).max() < 1e-6


class Echo:
    """A model of the package's shape whose logits depend on how much was read; its tokens are single characters."""

    characters = " 0123456789abcdefghijklmnop\n"

    def forward(self, tokens: list[int], state: int | None) -> tuple[Tensor, int]:
        read = (state or 0) + len(tokens)
        return random_logits(read % 3, len(self.characters), 1.0), read

    def encode(self, text: str) -> list[int]:
        return [self.characters.index(character) for character in text]

    def decode(self, tokens: list[int]) -> str:
        return "".join(self.characters[token] for token in tokens)


@pytest.mark.parametrize(
    ("presence", "frequency", "decay"), [(0.0, 0.0, 0.996), (0.4, 0.3, 0.996), (0.0, 0.7, 0.9), (0.5, 0.0, 1.0)]
)
def test_penalties_lead_to_the_text_of_the_rwkv_package(presence: float, frequency: float, decay: float) -> None:
    pipeline = object.__new__(PIPELINE)
    pipeline.model = pipeline.tokenizer = Echo()
    arguments = PIPELINE_ARGS(0.0, 0.0, 0, frequency, presence, decay)
    expected = pipeline.generate("abc", 200, arguments)

    model, options = Echo(), SamplingOptions(0.0, 1.0, 0, presence, frequency, decay)
    penalties, text = Penalties(options), ""
    logits, state = model.forward(model.encode("abc"), None)
    for _ in range(200):
        token = sample(penalties.applied(logits), options, random.Random(0))
        text += model.decode([token])
        penalties.count(token, model.decode([token]))
        logits, state = model.forward([token], state)
    assert text == expected


def test_penalties_leave_the_logits_as_they_were() -> None:
    penalties = Penalties(SamplingOptions(presence_penalty=1.0))
    penalties.count(1, "x")

    assert penalties.applied(LOGITS)[1] == LOGITS[1] - 1
    assert LOGITS[1] == torch.log(torch.tensor(0.5))


def test_temperature_zero_takes_the_most_likely_token() -> None:
    assert draws(20, temperature=0.0, top_p=1.0) == {1: 20}


@pytest.mark.parametrize(("top_p", "kept"), [(0.4, {1}), (0.6, {1, 2}), (0.8, {1, 2, 3}), (1.0, {0, 1, 2, 3})])
def test_top_p_keeps_the_likeliest_tokens_that_reach_it(top_p: float, kept: set[int]) -> None:
    assert set(draws(400, temperature=1.0, top_p=top_p)) == kept


def test_frequencies_are_the_probabilities() -> None:
    drawn = draws(4000, temperature=1.0, top_p=1.0)
    assert all(abs(drawn[token] / 4000 - p) < 0.03 for token, p in enumerate([0.1, 0.5, 0.25, 0.15]))


def test_tokens_as_likely_as_the_last_kept_one_are_kept() -> None:
    draw, even = random.Random(0), SamplingOptions(1.0, 0.3)
    assert {sample(torch.zeros(4), even, draw) for _ in range(200)} == {0, 1, 2, 3}


def test_a_token_that_is_forbidden_is_never_drawn() -> None:
    logits, draw = torch.tensor([float("-inf"), 0.0, float("-inf"), -20.0, float("-inf")]), random.Random(0)
    assert {sample(logits, SamplingOptions(1.5), draw) for _ in range(200)} <= {1, 3}


@pytest.mark.parametrize(
    "impossible",
    [
        {"temperature": -1.0},
        {"temperature": float("nan")},
        {"top_p": 1.5},
        {"top_p": -0.1},
        {"top_k": -1},
        {"penalty_decay": 1.1},
        {"presence_penalty": float("inf")},
    ],
    ids=str,
)
def test_impossible_settings_are_refused(impossible: dict[str, Any]) -> None:
    with pytest.raises(ShapeError):
        SamplingOptions(**impossible)


def test_a_named_seed_is_the_same_everywhere_and_another_for_every_name() -> None:
    names = [(0,), (1,), (0, "a"), (0, "b"), (0, "a", 1), (0, "a1"), (0, "a", "1")]

    assert named_seed(0, "d5ccb66b", "gist", 3) == 16788792057478224935
    assert len({named_seed(*name) for name in names}) == len(names)


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


def test_stop_strings_count_behind_the_first_place_of_another_string_only() -> None:
    for tokens in ([b"so\n\n</think", b">\n\nyes\n", b"\nUser"], [b"so\n\n</th", b"ink>", b"\n\n", b"yes\n\nUser"]):
        transcript = Transcript(["\n\n"], stop_after="</think>\n\n")
        for token in tokens:
            transcript.append(token)
        assert (transcript.text, transcript.stopped) == ("so\n\n</think>\n\nyes", True)


def test_the_earliest_of_several_stop_strings_ends_the_text():
    assert written(b"one\ntwo three", [], ["three", "two", ""]).text == "one\n"
