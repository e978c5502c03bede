"""What losses cost each other: trained on the same data for as long, each loss left out in its turn."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from examples.train_default_model import ablation
from examples.train_default_model.ablation import ARMS, RESULT, compared, main, with_losses
from examples.train_default_model.export import WEIGHTS
from examples.train_default_model.prepare import HELD_OUT, prepare_targets, prepare_text, shard_paths
from examples.train_default_model.profiles import PROFILES
from examples.train_default_model.session import new_trainer
from tests.examples.test_train_data import data as data
from tests.examples.test_train_data import fake_teacher

TINY = PROFILES["tiny"]


@pytest.fixture
def prepared(data: Path, tmp_path: Path) -> Path:
    prepare_text(data, tmp_path / "prepared", TINY.data, lambda line: None)
    prepare_targets(tmp_path / "prepared", TINY.data, fake_teacher, lambda line: None)
    return tmp_path / "prepared"


def weights_after_a_step(prepared: Path, arm: str) -> dict[str, torch.Tensor]:
    trainer = new_trainer(prepared, with_losses(TINY, arm), 2)
    trainer.take_step()
    return {name: one.clone() for name, one in trainer.model.state_dict().items()}


def test_a_loss_that_is_left_out_moves_nothing_and_heads_on_vectors_never_do(prepared, monkeypatch):
    start = {name: one.clone() for name, one in new_trainer(prepared, TINY, 2).model.state_dict().items()}
    both, vectors, tokens = (weights_after_a_step(prepared, arm) for arm in ARMS)
    kept = 1 - TINY.training.learning_rate / TINY.training.warm_up_steps * 0.05
    torch.testing.assert_close(vectors["head.weight"], start["head.weight"] * kept)  # decay alone
    assert torch.equal(tokens["embed_head.static.weight"], start["embed_head.static.weight"])
    assert not torch.equal(both["head.weight"], vectors["head.weight"])
    assert not torch.equal(both["embed_head.static.weight"], start["embed_head.static.weight"])

    monkeypatch.setattr("examples.train_default_model.train.Trainer._head_losses", lambda *_: (torch.zeros(()), {}))
    without_heads = weights_after_a_step(prepared, ARMS[0])
    assert all(torch.equal(both[name], without_heads[name]) for name in both)


def test_one_command_compares_them_and_again_it_trains_nothing(prepared, tmp_path, monkeypatch, capsys):
    shutil.copy(shard_paths(prepared)[-1], prepared / HELD_OUT)
    given = ["--prepared", str(prepared), "--out", str(tmp_path / "out"), "--profile", "tiny", "--threads", "1"]
    assert main(given) == 0
    found = json.loads((tmp_path / "out" / RESULT).read_text())
    assert list(found) == list(ARMS)
    assert "bits per byte, less all losses" in found[ARMS[1]]
    first, second = (load_file(tmp_path / "out" / arm.replace(" ", "-") / "model" / WEIGHTS) for arm in ARMS[:2])
    assert not torch.equal(first["blocks.1.att.key.weight"], second["blocks.1.att.key.weight"])
    lines = capsys.readouterr().out

    monkeypatch.setattr(ablation, "new_trainer", None)
    assert main(given) == 0 and capsys.readouterr().out == lines


def test_a_stop_leaves_the_others_for_the_next_time(prepared, tmp_path):
    profile = replace(TINY, training=replace(TINY.training, steps=2))
    stopped = iter((False, True))
    assert not ablation.train(ARMS[0], prepared, tmp_path, profile, None, lambda: next(stopped))
    assert ablation.train(ARMS[0], prepared, tmp_path, profile, None, lambda: False)
    lines = (tmp_path / "all-losses" / "train.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["step"] == 2


def test_documents_weigh_by_their_sentences_and_bytes():
    whole = np.array([[8.0, 10.0, 200.0, 100.0], [1.0, 5.0, 300.0, 100.0]])
    better = whole + np.array([[1.0, 0.0, 0.0, 0.0]] * 2)
    found = compared(dict(zip(ARMS, (whole, better, whole), strict=True)))
    assert found[ARMS[0]]["cosine"]["value"] == pytest.approx(9 / 15)
    assert found[ARMS[0]]["bits per byte"]["value"] == 2.5
    assert found[ARMS[1]]["cosine, less all losses"]["value"] == pytest.approx(2 / 15)
    assert found[ARMS[2]]["cosine, less all losses"] == {"value": 0.0, "low": 0.0, "high": 0.0}
