"""Where the state is begun anew: by the text and the model alone, and as each policy says."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline import policy
from pipeline.policy import Context, Event, Policed, Policing
from pipeline.segments import Segment, Segmenter, SplitOptions
from rwkv_runtime import Model, State, load
from rwkv_runtime.engine import Engine, Fed, Feed
from rwkv_runtime.words import REACH
from tests.pipeline.embedded import rows
from tests.pipeline.memory_document import MemoryDocument, StrideTokenizer
from tests.pipeline.readings import bpe_tensors, prose, save_model

ALL = ("sentences", "vectors", "contexts")
POLICIES = ("carry", "section", "reprime", "auto")
TEXTS = [prose(count, seed).replace("## ", "") for seed, count in enumerate((5, 1, 9, 2, 2, 14))]
NAMES = ("One", "Two", None, "Three", "Four", "Five")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return load(save_model(tmp_path_factory.mktemp("policy") / "bpe", bpe_tensors()))


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything happens within a short text."""
    monkeypatch.setattr(policy, "EVERY", 128)
    monkeypatch.setattr(policy, "PATIENCE", 64)
    monkeypatch.setattr(policy, "PRIMED_WITH", 48)
    monkeypatch.setattr(policy, "PROBED", 32)
    monkeypatch.setattr(policy, "MARGIN", -9.0)  # every probe is lost


def document(block: int = 10_000, texts: list[str] | None = None) -> MemoryDocument:
    pairs = zip(texts or TEXTS, NAMES, strict=True)
    blocks = [(text[i : i + block], name) for text, name in pairs for i in range(0, len(text), block)]
    return MemoryDocument(tuple(text for text, _ in blocks), tuple(name for _, name in blocks))


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("name", POLICIES)
@settings(deadline=None, max_examples=4, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(stops=st.frozensets(st.integers(0, 12)), block=st.integers(1, 400))
def test_where_a_reading_is_interrupted_and_how_the_text_arrives_changes_no_bit(
    model: Model, name: policy.Policy, stops: frozenset[int], block: int
) -> None:
    wanted = {"policy": name, "tables": ALL, "unit": "sentence", "surprise": True}

    assert rows(model, document(block), stops=stops, **wanted) == rows(model, document(), **wanted)


@given(block=st.integers(1, 300), window=st.sampled_from([8, 16, 64, 512]), stride=st.integers(1, 9))
@settings(deadline=None, max_examples=30)
def test_sections_open_where_their_first_sentences_begin(block: int, window: int, stride: int) -> None:
    segments = list(Segmenter(document(block), StrideTokenizer(stride), SplitOptions(window, 2000)))
    sentences = [sentence for segment in segments for sentence in segment.sentences]
    begins = [
        sentence.token_start
        for before, sentence in zip([None, *sentences], sentences, strict=False)
        if before is None or before.section != sentence.section
    ]
    found = [token for segment in segments for token in segment.opens]

    assert len(found) == len(begins) and found == sorted(found)
    for token, begin in zip(found, begins, strict=True):
        # White space in front of a sentence may lie in the window before the one in which its section is known.
        assert begin <= token and (token == begin or token % window == 0)


def test_a_section_read_behind_a_state_of_its_own_knows_nothing_of_those_before(model: Model) -> None:
    other = [prose(3, seed=7), *TEXTS[1:]]
    found = [rows(model, document(texts=texts), policy="section") for texts in (TEXTS, other)]
    later = [[row for row in one if row["section"] != "One"] for one in found]

    assert [row["text"] for row in later[0]] == [row["text"] for row in later[1]]
    for one, two in zip(*later, strict=True):
        np.testing.assert_allclose(one["embedding"], two["embedding"], atol=1e-4)
    carried = [
        [row for row in rows(model, document(texts=texts)) if row["section"] != "One"] for texts in (TEXTS, other)
    ]
    assert np.abs(np.array(carried[0][0]["embedding"]) - np.array(carried[1][0]["embedding"])).max() > 1e-3


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("name", ["reprime", "auto"])
def test_a_primed_state_is_that_of_the_last_tokens_read_from_the_beginning(model: Model, name: policy.Policy) -> None:
    """Held to the tokens fed to the model in one piece, from the place of each event on."""
    segments = list(Segmenter(document(), model.tokenizer, SplitOptions(64, 2000)))
    tokens = [token for segment in segments for token in segment.tokens]
    engine = Engine(model, window=64, lanes=1)
    policing = Policing(name, model.initial_state(), model.tokenizer, 64)
    state, context, places = model.initial_state(), Context(), []
    for segment in segments:
        policed = computed(policing.read(segment, state, context, False, ()), lambda feed: engine.feed([feed])[0])
        state, context = policed.fed.state, policed.context
        places += [event.token for event in policed.events if event.action == "reprime"]
        assert state.tokens_seen == segment.token_end
        begin = max(0, context.since - 48) if context.since else 0
        whole = model.forward(tokens[begin : segment.token_end], model.initial_state(), logits="none").state
        torch.testing.assert_close(state.tensors["wkv"], whole.tensors["wkv"], atol=2e-4, rtol=1e-3)
    assert places
    opens = {token for segment in segments for token in segment.opens}
    assert all(place in opens or place % 64 == 0 for place in places)


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("name", ["carry", "section", "reprime"])
def test_every_piece_of_the_text_knows_the_tokens_in_front_of_it(model: Model, name: policy.Policy) -> None:
    engine, place, feeds = Engine(model, window=64, lanes=1), 0, list[Feed]()
    segments = list(Segmenter(document(), model.tokenizer, SplitOptions(64, 2000)))
    policing, context, state = Policing(name, model.initial_state(), model.tokenizer, 64), Context(), None

    def compute(feed: Feed) -> Fed:
        feeds.append(feed)
        return engine.feed([feed])[0]

    for segment in segments:
        state = state or model.initial_state()
        policed = computed(policing.read(segment, state, context, True, ()), compute)
        state, context = policed.fed.state, policed.context
    tokens = tuple(token for segment in segments for token in segment.tokens)
    pieces = [feed for feed in feeds if feed.features]
    assert (len(pieces) > len(segments)) == (name == "section")
    for feed in pieces:
        assert feed.before == tokens[max(place - REACH, 0) : place]
        place += len(feed.tokens)
    assert place == len(tokens)


def computed(steps: policy.Generator[Feed, Fed, Policed], compute: Callable[[Feed], Fed]) -> Policed:
    try:
        feed = next(steps)
        while True:
            feed = steps.send(compute(feed))
    except StopIteration as stop:
        found: Policed = stop.value
        return found


@pytest.mark.usefixtures("short")
def test_a_probe_finds_the_same_whether_the_surprise_of_all_tokens_is_wanted_or_not(model: Model) -> None:
    wanted = {"policy": "auto", "tables": ("contexts",), "unit": "sentence"}
    found = rows(model, document(), surprise=False, **wanted)

    assert found
    assert rows(model, document(), surprise=True, **wanted) == found


class TestAuto:
    """Against a scripted model: what it says of the tokens decides, and nothing else."""

    WINDOW = 1024

    def events(self, gain: Callable[[int], float], tokens: int = 81_920) -> list[Event]:
        """What `auto` does if behind the carried state each token takes 1 - gain(position) nats, else 1."""
        anchor = State("7", "scripted", 0, {"wkv": torch.zeros(1)})
        policing = Policing("auto", anchor, StrideTokenizerWithBytes(), self.WINDOW)
        state, context, events = anchor, Context(), list[Event]()
        for begin in range(0, tokens, self.WINDOW):
            segment = Segment(begin, tuple(range(self.WINDOW)), begin, 0, (), True, False)

            def compute(feed: Feed, begin: int = begin, state: State = state) -> Fed:
                carried = feed.state is state and len(feed.tokens) == self.WINDOW
                nats = 1 - gain(begin) if carried else 1.0
                after = State("7", "scripted", 0, {"wkv": torch.zeros(1)})
                return Fed(after, None, np.full(len(feed.followers), nats, np.float32) if feed.followers else None)

            policed = computed(policing.read(segment, state, context, False, ()), compute)
            state, context = policed.fed.state, policed.context
            events += policed.events
        return events

    def test_a_state_that_helps_is_carried_to_the_end(self) -> None:
        events = self.events(lambda _: 0.1)

        assert [(event.token, event.action) for event in events] == [(8192 * n, "probe") for n in range(1, 11)]
        assert all(abs(event.fresh - event.carried - 0.1 / np.log(2) / 2) < 1e-4 for event in events)

    def test_one_probe_that_is_lost_is_an_accident(self) -> None:
        events = self.events(lambda begin: -0.5 if begin // 8192 in (1, 3, 5) else 0.1)

        assert {event.action for event in events} == {"probe"}

    def test_two_in_a_row_prime_the_state_anew_within_its_patience(self) -> None:
        events = self.events(lambda begin: -0.5 if begin // 8192 in (1, 2) else 0.1)
        primed = [event.token for event in events if event.action == "reprime"]

        assert primed == [3 * 8192 + policy.PATIENCE]
        assert [event.token for event in events if event.action == "probe"][-1] == 81_920


class StrideTokenizerWithBytes(StrideTokenizer):
    """Every token is two bytes."""

    def __init__(self) -> None:
        super().__init__(2)

    def token_bytes(self, token: int) -> bytes:
        return b"xy"
