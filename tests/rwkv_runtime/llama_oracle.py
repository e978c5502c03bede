"""What llama.cpp computes with GGUF files of tiny models, by way of llama-cpp-python, in a process of its own.

    python -m tests.rwkv_runtime.llama_oracle     writes golden/llama_cpp.json anew

llama.cpp runs RWKV-7 with heads of 64 channels only. With quantized weights its CPU kernels round the inputs of every
product to 8 bits as well, so the exact comparison for Q8_0 is with a float32 file of the same rounded weights.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import gguf
import numpy as np
from gguf.constants import GGMLQuantizationType
from torch import Tensor

from tests.rwkv_runtime.checkpoints import low_rank, write_gguf
from tests.rwkv_runtime.tiny import tiny_tensors, tokens_of

GENERATIONS = ("6", "7")
LENGTHS = (1, 2, 63, 64, 65, 300)
VOCABULARY = 257
TOKENS = tokens_of(max(LENGTHS), vocabulary=VOCABULARY)
GOLDEN = Path(__file__).with_name("golden") / "llama_cpp.json"
CHILD = """
import sys
import numpy as np
from llama_cpp import Llama
model = Llama(model_path=sys.argv[1], n_ctx=512, n_batch=512, logits_all=True, verbose=False, n_threads=1)
model.eval(np.load(sys.argv[2]).tolist())
np.save(sys.argv[3], np.array(model.scores[:model.n_tokens]))
"""


def installed() -> bool:
    """Whether llama-cpp-python is there; it is built from source, so it is in an extra of its own (`oracles`)."""
    return importlib.util.find_spec("llama_cpp") is not None


def tensors_of(generation: str) -> dict[str, Tensor]:
    """A model that llama.cpp can run."""
    return tiny_tensors(generation=generation, vocabulary=VOCABULARY, width=64, head_size=64, layers=3)


def fingerprint(tensors: dict[str, Tensor]) -> str:
    """SHA-256 of names and values."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].numpy().tobytes())
    return digest.hexdigest()


def write(path: Path, tensors: dict[str, Tensor], generation: str, kind: str) -> Path:
    """Write a GGUF file with all that llama.cpp asks for."""

    def described(writer: gguf.GGUFWriter) -> None:
        writer.add_context_length(1024)
        if generation == "6":
            writer.add_time_mix_extra_dim(tensors["blocks.0.att.time_maa_w1"].shape[1] // 5)
            writer.add_time_decay_extra_dim(tensors["blocks.0.att.time_decay_w1"].shape[1])
            writer.add_rescale_every_n_layers(0)
            return
        ranks = {letter: tensors[f"blocks.1.att.{letter}1"].shape[1] for letter in "wavg"}
        writer.add_decay_lora_rank(ranks["w"])
        writer.add_iclr_lora_rank(ranks["a"])
        writer.add_value_residual_mix_lora_rank(ranks["v"])
        writer.add_gate_lora_rank(ranks["g"])

    return write_gguf(path, tensors, generation, kind, change=described)


def rounded(tensors: dict[str, Tensor], written: Path) -> dict[str, Tensor]:
    """The same model with the values that a written file has after rounding, for the matrices that it rounds."""
    kinds = {one.name: one.tensor_type for one in gguf.GGUFReader(written).tensors}
    found = dict(tensors)
    for name, tensor in tensors.items():
        kind = kinds.get(_stored(name), GGMLQuantizationType.F32)
        if kind != GGMLQuantizationType.F32:
            turned = tensor.mT if low_rank(name) else tensor
            data = gguf.quants.dequantize(gguf.quants.quantize(turned.contiguous().numpy(), kind), kind)
            found[name] = tensor.new_tensor(data).mT if low_rank(name) else tensor.new_tensor(data)
    return found


def _stored(name: str) -> str:
    """What a matrix is called in a GGUF file."""
    whole = {"emb.weight": "token_embd.weight", "head.weight": "output.weight"}
    if not name.startswith("blocks."):
        return whole.get(name, name)
    _, layer, rest = name.removesuffix(".weight").split(".", 2)
    return f"blk.{layer}.{rest.replace('att.', 'time_mix_').replace('ffn.', 'channel_mix_')}.weight"


def logits(path: Path, folder: Path) -> np.ndarray:
    """The logits after each token, [T, vocabulary] float32."""
    np.save(folder / "tokens.npy", np.array(TOKENS))
    names = [str(path), str(folder / "tokens.npy"), str(folder / "logits.npy")]
    child = [sys.executable, "-c", CHILD, *names]
    done = subprocess.run(
        child, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found: np.ndarray = np.load(folder / "logits.npy")
    return found


def main() -> int:
    constants = {}
    with tempfile.TemporaryDirectory() as folder:
        for generation in GENERATIONS:
            tensors = tensors_of(generation)
            found = logits(write(Path(folder) / "model.gguf", tensors, generation, "F16"), Path(folder))
            rows = {str(n): [round(float(x), 3) for x in found[n - 1]] for n in LENGTHS}
            constants[generation] = {"tensors_sha256": fingerprint(tensors), "logits": rows}
    GOLDEN.parent.mkdir(exist_ok=True)
    GOLDEN.write_text(json.dumps(constants, sort_keys=True, separators=(",", ":")) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
