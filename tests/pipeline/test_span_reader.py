"""A span reader beside a model: read strictly, used by `ask` where it was fitted on that very model, and only there."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import rwkv_runtime
from pipeline.answers.ask import Reading, answered
from pipeline.answers.confidence import thresholds
from pipeline.answers.lines import Line
from pipeline.answers.material import Material
from rwkv_runtime.engine import Engine
from rwkv_runtime.errors import WeightsError
from rwkv_runtime.identity import DEFAULT_FOLDER
from rwkv_runtime.model import Model
from rwkv_runtime.spans import FILE, FITTED_ON, MIXTURE, PREFIX, THRESHOLDS, Asked, Said, SpanReader

RANK = 4
LINES = [
    "The council appointed the harbour master in secret.", "Rain fell on the roofs all day.",
    "Nobody was asked about it.", "The brass key is kept in locker 118 at Fennwick station.",
    *[f"On day {number} the ships lay still and the men slept." for number in range(40)],
]  # fmt: skip
QUESTION = "Where is the brass key kept?"


@pytest.fixture(scope="module")
def model() -> Model:
    return rwkv_runtime.load("default")


def log_odds(share: float) -> float:
    return math.log(share / (1 - share))


def tensors(width: int, size: int, mixture: list[float]) -> dict[str, torch.Tensor]:
    """The tensors of a reader with random weights, which counts as much as `mixture` says."""
    generator = torch.Generator().manual_seed(0)
    shapes = {
        "said.weight": (RANK, width + size), "asked.weight": (RANK, width + size), "weigh.weight": (1, width),
        "weigh.bias": (1,), "of_sentence.weight": (RANK, size), "of_question.weight": (RANK, size),
        "hidden.weight": (16, 7), "hidden.bias": (16,), "out.weight": (1, 16), "out.bias": (1,),
    }  # fmt: skip
    made = {PREFIX + name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    limits = [log_odds(thresholds().answered), log_odds(thresholds().unsure)]
    return made | {
        PREFIX + MIXTURE: torch.tensor(mixture, dtype=torch.float64),
        PREFIX + THRESHOLDS: torch.tensor(limits, dtype=torch.float64),
    }


def reader(folder: Path, model: Model, mixture: list[float]) -> SpanReader:
    save_file(tensors(model.config.n_embd, 384, mixture), folder / FILE, metadata={FITTED_ON: model.fingerprint})
    return SpanReader.read(folder / FILE)


def material(texts: list[str] = LINES, language: str = "en") -> Material:
    places = np.cumsum([0, *(len(text) + 1 for text in texts)]).tolist()
    rows = zip(texts, places, strict=False)
    lines = [Line(f"d#{at}", "d", text, at, at + len(text), None, None) for text, at in rows]
    return Material.of(lines, {"d": language})


def with_reader(model: Model, given: SpanReader | None) -> Reading:
    """What questions are answered with, the model having this reader."""
    model.span_reader = given
    return Reading(Engine(model, window=512, lanes=1), {})


def test_a_reader_that_counts_nothing_changes_no_answer(model, tmp_path):
    for question in (QUESTION, "Who is the landlord?", "What happened on day 7?"):
        without = answered(material(), question, with_reader(model, None))
        beside = answered(material(), question, with_reader(model, reader(tmp_path, model, [0.0, 1.0, 0.0, 0.0, 0.0])))
        assert beside.outcome == without.outcome and beside.passages == without.passages


def test_where_the_reader_alone_counts_what_it_holds_for_likeliest_is_quoted(model, tmp_path):
    alone = reader(tmp_path, model, [9.0, 0.0, 1.0, 0.0, 0.0])
    against = reader(tmp_path, model, [9.0, 0.0, -1.0, 0.0, 0.0])
    said = [answered(material(), QUESTION, with_reader(model, one)) for one in (alone, against)]
    assert all(one.outcome == "answered" and one.quote == one.passages[0].quote for one in said)
    assert said[0].quote != said[1].quote
    surest, weakest = (max(passage.confidence for passage in one.passages) for one in said)
    assert surest == said[0].confidence and weakest == said[1].confidence


@pytest.mark.parametrize(
    ("lines", "language", "question"),
    [
        (["Sold to: Harbour Books", "Subtotal: $180.00", "Total:", "$216.00"], "en", "What is the total?"),
        (["Der Hafen ist alt.", "Der Schlüssel liegt in Fach 9.", "Es regnet."], "de", "Wo liegt der Schlüssel?"),
    ],
)
def test_words_decide_on_forms_and_in_other_languages(model, tmp_path, lines, language, question):
    text = material(lines, language)
    without = answered(text, question, with_reader(model, None))
    for sign in (1.0, -1.0):
        given = reader(tmp_path, model, [9.0, 0.0, sign, 0.0, 0.0])
        beside = answered(text, question, with_reader(model, given))
        assert (beside.outcome, beside.passages) == (without.outcome, without.passages)


def test_a_reader_is_taken_with_the_model_that_it_was_fitted_on_and_no_other(model, tmp_path):
    for name in ("model.safetensors", "tokenizer.json"):
        shutil.copy(DEFAULT_FOLDER / name, tmp_path / name)
    assert rwkv_runtime.load(tmp_path).span_reader is None
    reader(tmp_path, model, [0.0, 1.0, 0.0, 0.0, 0.0])
    found = rwkv_runtime.load(tmp_path)
    assert found.span_reader is not None and found.fingerprint == model.fingerprint
    save_file(tensors(model.config.n_embd, 384, [0.0] * 5), tmp_path / FILE, metadata={FITTED_ON: "0" * 64})
    assert rwkv_runtime.load(tmp_path).span_reader is None


@pytest.mark.parametrize("missing", ["said.weight", MIXTURE, THRESHOLDS, "hidden.bias"])
def test_a_reader_that_lacks_something_is_refused_in_one_line(tmp_path, missing):
    held = tensors(8, 16, [0.0] * 5)
    del held[PREFIX + missing]
    save_file(held, tmp_path / FILE)
    with pytest.raises(WeightsError, match="is no reader of spans") as raised:
        SpanReader.read(tmp_path / FILE)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("said.weight", (4, 23)), ("asked.weight", (3, 24)), ("weigh.weight", (8,)), ("of_sentence.weight", (4, 17)),
        ("hidden.weight", (16, 8)), ("out.weight", (16, 1)), ("out.bias", ()), (MIXTURE, (6,)),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)  # fmt: skip
def test_a_reader_with_a_tensor_of_another_shape_is_refused_when_it_is_loaded(tmp_path, name, shape):
    save_file(tensors(8, 16, [0.0] * 5) | {PREFIX + name: torch.zeros(shape)}, tmp_path / FILE)
    with pytest.raises(WeightsError, match=r"is no reader of spans .* has the shape") as raised:
        SpanReader.read(tmp_path / FILE)
    assert "\n" not in str(raised.value)


def test_a_damaged_file_is_refused(tmp_path):
    (tmp_path / FILE).write_bytes(b"no tensors at all")
    with pytest.raises(WeightsError, match="fit it anew or remove it"):
        SpanReader.read(tmp_path / FILE)


def test_the_order_of_passages_changes_no_score(tmp_path):
    save_file(tensors(8, 16, [0.0] * 5), tmp_path / FILE)
    made, draw = SpanReader.read(tmp_path / FILE), np.random.default_rng(0)
    features = np.abs(draw.standard_normal((12, 2 * 8 + 16 + 1))).astype(np.float32)
    vectors = draw.standard_normal((4, 16)).astype(np.float32)
    asked = Asked(features[:3], vectors[0])
    owner, passages = np.repeat(np.arange(4), 3), np.array([0, 0, 1, 1])
    found = made.sentence_scores(asked, Said(features, owner, passages, vectors))
    turned = np.concatenate([features[6:], features[:6]])
    swapped = made.sentence_scores(asked, Said(turned, owner, passages, np.concatenate([vectors[2:], vectors[:2]])))
    np.testing.assert_allclose(np.concatenate([swapped[2:], swapped[:2]]), found, rtol=1e-5, atol=1e-6)
