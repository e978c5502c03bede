"""RWKV-4 against transformers, which runs in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import save_file

from rwkv_runtime import generations
from rwkv_runtime.model import Model
from rwkv_runtime.weights import Weights
from tests.rwkv_runtime.checkpoints import to_transformers
from tests.rwkv_runtime.test_rwkv_oracle import LENGTHS, random_pieces, read_in, relative
from tests.rwkv_runtime.tiny import ByteTokenizer, tiny_tensors, tokens_of

CHILD = """
import json, sys
import numpy as np
import torch
from safetensors.torch import load_file
from transformers import RwkvConfig, RwkvForCausalLM
model = RwkvForCausalLM(RwkvConfig(**json.loads(sys.argv[2]))).eval()
missing = model.load_state_dict(load_file(sys.argv[1]), strict=True)
tokens, out = json.loads(sys.argv[3]), {}
with torch.no_grad():
    for length in json.loads(sys.argv[4]):
        found = model(torch.tensor([tokens[:length]]), use_cache=True)
        out[f"{length} logits"] = found.logits[0].numpy()
        out |= {f"{length} state {place}": one[0].numpy() for place, one in enumerate(found.state)}
np.savez(sys.argv[5], **out)
"""
STATE = ("ffn_shift", "att_shift", "wkv_num", "wkv_den", "wkv_max")


@pytest.fixture(scope="module")
def case(tmp_path_factory) -> tuple[Model, list[int], Path]:
    pytest.importorskip("transformers", reason="transformers is not installed (extra `test`)")
    folder = tmp_path_factory.mktemp("transformers")
    tensors, tokens = tiny_tensors(generation="4", vocabulary=65), tokens_of(max(LENGTHS), vocabulary=65)
    stored = {name: tensor.contiguous() for name, tensor in to_transformers(tensors).items()}
    save_file(stored, folder / "model.safetensors")
    sizes = {"vocab_size": 65, "hidden_size": 64, "num_hidden_layers": 3, "intermediate_size": 256}
    sizes |= {"attention_hidden_size": 64, "rescale_every": 0, "context_length": 512}
    values = [folder / "model.safetensors", json.dumps(sizes), json.dumps(tokens), json.dumps(LENGTHS)]
    child = [sys.executable, "-c", CHILD, *map(str, values), str(folder / "out.npz")]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(child, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    model = Model(generations.read(Weights("tiny", tensors)), ByteTokenizer(), "tiny")
    return model, tokens, folder / "out.npz"


@pytest.mark.parametrize("length", LENGTHS)
def test_logits_and_state_are_those_of_transformers_in_one_piece_in_pieces_and_token_by_token(case, length):
    model, tokens, path = case
    with np.load(path) as stored:
        logits = stored[f"{length} logits"]
        state = {name: stored[f"{length} state {place}"] for place, name in enumerate(STATE)}
    tokens = tokens[:length]
    for pieces in ([tokens], random_pieces(tokens, length), [[token] for token in tokens]):
        output = read_in(model, pieces)
        assert np.abs(output.logits.numpy() - logits[-1]).max() < 1e-4
        for name, expected in state.items():
            assert relative(output.state.tensors[name].numpy(), expected.T) < 1e-4
    whole = model.forward(tokens, model.initial_state(), logits="all").logits
    assert np.abs(whole.numpy() - logits).max() < 1e-4
