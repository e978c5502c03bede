"""EmbeddingRWKV: its heads, and a text's vector as its own code makes it, written down once more in numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipeline import vectors
from rwkv_runtime import Model, load
from rwkv_runtime.engine import Engine
from rwkv_runtime.errors import ShapeError
from tests.rwkv_runtime.checkpoints import eos_heads, to_embedding_rwkv
from tests.rwkv_runtime.tiny import save_pth, tiny_tensors

WIDTH = 64


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    tensors = tiny_tensors(vocabulary=65_536, layers=2, width=WIDTH)
    return load(save_pth(tmp_path_factory.mktemp("eos") / "emb.pth", to_embedding_rwkv(tensors)))


def ids_of(model: Model, text: str) -> list[int]:
    """The published layout of a text of fewer than 512 tokens: four times, an EOS behind each, aligned to 16."""
    ids = [*model.tokenizer.encode(text), 65_535] * 4
    return [261] * (-len(ids) % 16) + ids


@pytest.mark.parametrize("kind", ["retr", "sts", "cls"])
def test_a_vector_is_the_head_of_the_mean_at_the_eos_tokens(model: Model, kind: str) -> None:
    text = "What is machine learning? 机器学习"
    ids = ids_of(model, text)
    hidden = model.forward(ids, model.initial_state(), logits="none").hidden.double().numpy()
    x = hidden[[place for place, token in enumerate(ids) if token == 65_535]].mean(axis=0)
    head = {name: tensor.double().numpy() for name, tensor in eos_heads(WIDTH).items()}
    x = x + head[f"{kind}.fc2.weight"] @ np.maximum(head[f"{kind}.fc1.weight"] @ x, 0)
    x = (x - x.mean()) / np.sqrt(x.var() + 1e-5) * head[f"{kind}.norm.weight"] + head[f"{kind}.norm.bias"]

    engine = Engine(model, window=64, lanes=1, pooling=f"eos_{kind}")
    np.testing.assert_allclose(vectors.isolated(engine, [text], "multi-eos")[0], x / np.linalg.norm(x), atol=1e-5)


def test_weights_without_such_heads_are_refused_by_name() -> None:
    with pytest.raises(ShapeError, match="'eos_retr' needs a head of EmbeddingRWKV"):
        Engine(load("default"), window=64, lanes=1, pooling="eos_retr")


def test_layers_that_are_tapped_are_those_of_a_model_cut_there(model: Model) -> None:
    """The stream behind layer 1 is the residual of the model without what follows, and the bits around it stay."""
    tokens = list(range(300, 340))
    plain = model.forward_padded([(tokens, model.initial_state())], 1, 64)[0]
    tapped = model.forward_padded([(tokens, model.initial_state())], 1, 64, (1, 2))[0]
    network = model._network
    lower = network.lower(1)
    state = {name: tensor[:1].unsqueeze(1) for name, tensor in model.initial_state().tensors.items()}
    with torch.inference_mode():
        first = lower.window(torch.tensor([tokens]), state, [40])[0][0]
        both = [torch.nn.functional.layer_norm(x, (WIDTH,)) for x in (first, plain.residual)]

    torch.testing.assert_close(tapped.tapped, sum(both) / 2, atol=1e-5, rtol=1e-5)
    assert torch.equal(tapped.hidden, plain.hidden)
    assert all(torch.equal(tapped.state.tensors[name], z) for name, z in plain.state.tensors.items())
    with pytest.raises(ShapeError, match="layers \\[3\\] of a model of 2"):
        model.forward_padded([(tokens, model.initial_state())], 1, 64, (3,))
