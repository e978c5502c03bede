"""Words that a model copies stand in the sentence they are copied from."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.answers.ask import Passage
from pipeline.answers.copying import copied
from pipeline.answers.lines import Line
from rwkv_runtime.model import Model
from tests.rwkv_runtime.tiny import tiny_model

MODELS = [tiny_model(layers=1, width=32, seed=seed) for seed in range(3)]


@pytest.mark.parametrize("model", MODELS)
@given(
    words=st.lists(
        st.sampled_from(["key", "locker", "376.", "größe", "今天", "is", "at\nnine"]), min_size=1, max_size=9
    )
)
@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.too_slow])
def test_what_a_random_model_copies_stands_in_the_quote_at_its_span(model: Model, words: list[str]) -> None:
    text = " ".join(words)
    quote = Line("d#s0", "d", text, 100, 100 + len(text), None, None)
    passage = Passage((quote,), quote, 0.0, 1.0)
    state = model.initial_state()
    found = copied(model, state, passage, "Where is the key?")

    assert state.to_bytes() == model.initial_state().to_bytes()
    if found is not None:
        assert text[found.char_start - 100 : found.char_end - 100] == found.text != ""
        assert 0 < found.likelihood <= 1
