"""What the parts of a trained head reach by themselves: each row is what it says it is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from pipeline.evals import read_jsonl, sts
from pipeline.metrics import minilm
from rwkv_runtime import load
from rwkv_runtime.words import Words
from tests.jobs.project import REPOSITORY

ITEMS = REPOSITORY / "tests" / "pipeline" / "eval_items"


def test_the_static_table_alone_is_the_mean_of_its_rows_and_the_network_alone_knows_nothing_of_them(monkeypatch):
    torch.manual_seed(0)
    monkeypatch.setattr(minilm, "is_installed", lambda: False)
    monkeypatch.setattr(sts, "_READ_BEFORE", (64,))
    model = load("default")
    pairs = list(read_jsonl(ITEMS / sts.NEEDS[0], None))
    assert model.embedding_head is not None
    starts = [tuple(model.tokenizer.encode(f" {pair['a']}")[:3]) for pair in pairs]
    spelled = torch.tensor(list(dict.fromkeys(starts)))
    words = Words.of(0.1 * torch.randn(len(spelled), 384), spelled, model.config.vocab_size)
    head = model.embedding_head = replace(model.embedding_head, words=words)

    def mean(text: str) -> np.ndarray:
        tokens = model.tokenizer.encode(" " + " ".join(text.split()))
        found = head.static[tokens].float().numpy()
        for token, word in enumerate(words.rows((), tokens)):
            found[token] += words.weight[word].numpy() if word >= 0 else 0
        return found.mean(0) / np.linalg.norm(found.mean(0))

    cosines = [mean(pair["a"]) @ mean(pair["b"]) for pair in pairs]
    wanted = 100 * spearmanr(cosines, [pair["score"] for pair in pairs]).statistic
    rows = {row.system: row.metrics["Spearman"].value for row in sts.run(ITEMS, model, None).rows}
    assert rows["static table alone"] == pytest.approx(wanted)

    model.embedding_head = None
    assert not {"static table alone", "network alone"} & {row.system for row in sts.run(ITEMS, model, 3).rows}
    model.embedding_head = replace(head, static=torch.randn(head.static.shape), words=None)
    other = {row.system: row.metrics["Spearman"].value for row in sts.run(ITEMS, model, None).rows}
    assert other["network alone"] == rows["network alone"]
