"""What is measured without labels: vectors against those of their teacher, and how well text is foreseen."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

import rwkv_runtime
from pipeline import vectors
from pipeline.evals import EvalError, bits, teacher
from pipeline.metrics import minilm
from pipeline.metrics.held_out import KINDS, stretches
from rwkv_runtime.engine import Engine
from rwkv_runtime.model import Model
from tests.rwkv_runtime.tiny import tiny_model

ENGLISH = "The lease begins on the first day of the month. It ends when one of them says so.\n\n" * 14
GERMAN = "Der Vertrag beginnt am ersten Tag des Monats. Er endet, wenn einer von beiden ihn kündigt.\n\n" * 14


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two contracts, one of them in German, and a novel."""
    for name in ("books/en", "legal"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "books/en/novel.txt").write_text(
        "Call me Ishmael, said he to the others.\n\n" + ENGLISH[:1000], "utf-8"
    )
    (tmp_path / "legal/a.txt").write_text(ENGLISH, "utf-8")
    (tmp_path / "legal/b.md").write_text(GERMAN, "utf-8")
    return tmp_path


@pytest.fixture(scope="module")
def model() -> Model:
    return rwkv_runtime.load("default")


def test_english_texts_of_every_kind_give_a_stretch_from_their_middle(folder):
    found = list(stretches(folder, None))
    assert [one.kind for one in found] == ["novels", "contracts and statutes"]
    assert all(one.text in ENGLISH and one.text.startswith("The lease") for one in found)
    assert [one.kind for one in stretches(folder, 0)] == []


@pytest.mark.parametrize("module", [bits, teacher])
def test_the_texts_of_every_kind_belong_to_the_data_that_is_measured_on(module):
    assert set(module.NEEDS) == set(KINDS.values())


def test_a_teacher_that_says_the_same_has_a_cosine_of_one(folder, model, monkeypatch):
    def same(texts: list[str]) -> np.ndarray:
        head = model.embedding_head
        assert head is not None and head.rotation is not None
        return vectors.isolated(Engine(model, window=512, lanes=1), texts) @ head.rotation.numpy().T

    monkeypatch.setattr(minilm, "is_installed", lambda: True)
    monkeypatch.setattr(minilm, "vectors_of", same)
    rows = {row.system: row.metrics["cosine"].value for row in teacher.run(folder, model, 1).rows}
    assert rows["each by itself"] == pytest.approx(1, abs=1e-5)
    assert 0.8 < rows["in the text"] < 0.9999
    assert set(rows) == {"in the text", "each by itself", "in novels", "in contracts and statutes"}


def test_weights_without_the_teachers_space_are_refused(folder, monkeypatch):
    monkeypatch.setattr(minilm, "is_installed", lambda: True)
    with pytest.raises(EvalError, match="no vectors in the space of all-MiniLM-L6-v2"):
        teacher.run(folder, tiny_model(), 1)


def test_bits_for_each_byte_are_those_of_one_reading_of_the_whole(folder, model):
    rows = {row.system: row.metrics["bits per byte"].value for row in bits.run(folder, model, 1).rows}
    [novel] = [one.text for one in stretches(folder, 1) if one.kind == "novels"]
    tokens = model.tokenizer.encode(novel)
    logits = model.forward(tokens[:-1], model.initial_state(), logits="all").logits
    assert logits is not None
    nats = torch.nn.functional.cross_entropy(logits, torch.tensor(tokens[1:]), reduction="sum").item()
    size = len(novel.encode()) - len(model.tokenizer.token_bytes(tokens[0]))
    assert rows["novels"] == pytest.approx(nats / math.log(2) / size, rel=1e-4)
    assert rows["all"] == pytest.approx((rows["novels"] + rows["contracts and statutes"]) / 2)
