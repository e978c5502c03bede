"""What the parts of a trained head reach by themselves: each row is what it says it is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from pipeline.evals import read_jsonl, sts
from pipeline.metrics import minilm
from rwkv_runtime import load
from tests.jobs.project import REPOSITORY

ITEMS = REPOSITORY / "tests" / "pipeline" / "eval_items"


def test_the_static_table_alone_is_the_mean_of_its_rows_and_the_network_alone_knows_nothing_of_them(monkeypatch):
    monkeypatch.setattr(minilm, "is_installed", lambda: False)
    monkeypatch.setattr(sts, "_READ_BEFORE", (64,))
    model = load("default")
    head = model.embedding_head
    assert head is not None
    pairs = list(read_jsonl(ITEMS / sts.NEEDS[0], None))

    def mean(text: str) -> np.ndarray:
        found = head.static[model.tokenizer.encode(" " + " ".join(text.split()))].float().mean(0).numpy()
        return found / np.linalg.norm(found)

    cosines = [mean(pair["a"]) @ mean(pair["b"]) for pair in pairs]
    wanted = 100 * spearmanr(cosines, [pair["score"] for pair in pairs]).statistic
    rows = {row.system: row.metrics["Spearman"].value for row in sts.run(ITEMS, model, None).rows}
    assert rows["static table alone"] == pytest.approx(wanted)

    model.embedding_head = None
    assert not {"static table alone", "network alone"} & {row.system for row in sts.run(ITEMS, model, 3).rows}
    torch.manual_seed(0)
    model.embedding_head = head.__class__(**{**vars(head), "static": torch.randn(head.static.shape)})
    other = {row.system: row.metrics["Spearman"].value for row in sts.run(ITEMS, model, None).rows}
    assert other["network alone"] == rows["network alone"]
