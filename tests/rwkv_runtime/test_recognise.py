"""What does not run here is refused by its name, with the tensor that shows it."""

from __future__ import annotations

import pytest
import torch

from rwkv_runtime import generations
from rwkv_runtime.errors import UnsupportedModelError, WeightsError
from rwkv_runtime.weights import Weights
from tests.rwkv_runtime.tiny import tiny_tensors


@pytest.mark.parametrize(
    ("base", "name", "what"),
    [
        ("7a", "blocks.0.qkv.k1", "RWKV-7b, DeepEmbed with attention"),
        ("7", "blocks.0.ffn.enn.weight", "RWKV-8, a release candidate"),
        ("7", "blocks.0.qkv.qq.weight", "RWKV-8, a hybrid with attention"),
        ("7", "emb_rosa.emb.weight", "RWKV-8 with ROSA"),
        ("6", "blocks.0.att.time_maa_rkvw_w1", "RWKV-6, the research variant x060b or x060c"),
        ("6", "blocks.0.att.gate_w1", "RWKV-6, the research variant x060a"),
        ("4", "blocks.1.tiny_q.weight", "RWKV-model with tiny attention"),
        ("4", "blocks.0.ffnPre.key.weight", "RWKV-model with a channel mix as its first half"),
        ("5.2", "blocks.1.ffn.aa.weight", "RWKV-model with MishGLU"),
        ("4", "blocks.0.pos_emb_x", "RWKV-model with position embeddings"),
        ("4", "head_q.weight", "RWKV-model with attention in its head"),
        ("4", "blocks.1.att.time_mix", "RWKV-2"),
        ("4", "blocks.1.att.time_w", "RWKV-1"),
    ],
)
def test_a_relative_is_refused_by_its_name_and_the_tensor_that_shows_it(base, name, what):
    weights = Weights("file.pth", tiny_tensors(generation=base) | {name: torch.zeros(2, 2)})
    with pytest.raises(UnsupportedModelError) as refused:
        generations.read(weights)
    message = f"file.pth: an {what}"
    assert str(refused.value).startswith(message)
    assert f"as {name} shows; this version runs RWKV-4, 5.0, 5.1, 5.2, 6, 7, 7a" in str(refused.value)


def test_a_decay_with_an_axis_of_its_own_is_that_of_rwkv_3():
    tensors = tiny_tensors(generation="4")
    older = {name: z.view(-1, 1) for name, z in tensors.items() if name.endswith(("time_decay", "time_first"))}
    with pytest.raises(UnsupportedModelError, match=r"an RWKV-3, as blocks\.0\.att\.time_decay of \[64, 1\] shows"):
        generations.read(Weights("file.pth", tensors | older))


def test_what_is_no_language_model_is_refused():
    with pytest.raises(WeightsError, match="no tensor names of an RWKV language model"):
        generations.read(Weights("file.pth", {"blocks.0.att.time_state": torch.zeros(2), "x": torch.zeros(1)}))


@pytest.mark.parametrize("generation", ["5.0", "5.1", "5.2", "6"])
def test_heads_that_do_not_make_the_width_are_refused(generation):
    tensors = tiny_tensors(generation=generation)
    shown_by = "time_faaaa" if generation == "6" else "time_decay"
    with pytest.raises(WeightsError, match=r"heads of size|should be"):
        generations.read(Weights("file.pth", tensors | {f"blocks.0.att.{shown_by}": torch.zeros(3, 16)}))
