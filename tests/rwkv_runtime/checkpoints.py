"""Tiny models of several generations, and writers of every container and naming that people keep models in.

Written from the formats' descriptions, not with the readers' tables; GGUF files by the `gguf` package's writer.
Tensors only need the right names and shapes here: what they compute is tested elsewhere.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import torch
from gguf.constants import GGMLQuantizationType
from safetensors.torch import save_file
from torch import Tensor

from tests.rwkv_runtime.tiny import Draw, tiny_tensors

Tensors = dict[str, Tensor]
WIDTH, HEADS, SIZE, LAYERS, VOCABULARY = 64, 4, 16, 3, 257


def model_of(generation: str) -> Tensors:
    """All tensors of a tiny model, RWKV-LM names and shapes, float32 values that float16 holds exactly."""
    if generation == "7":
        tensors = tiny_tensors(vocabulary=VOCABULARY, width=WIDTH, head_size=SIZE, layers=LAYERS)
    else:
        tensors = _older(generation)
    return {name: tensor.half().float() for name, tensor in tensors.items()}


def _older(generation: str) -> Tensors:
    draw = Draw(4)
    tensors = {"emb.weight": draw.normal(VOCABULARY, WIDTH), **draw.norm("blocks.0.ln0", WIDTH)}
    mix = "time_maa" if generation == "6" else "time_mix"
    for layer in range(LAYERS):
        block = f"blocks.{layer}."
        tensors |= draw.norm(f"{block}ln1", WIDTH) | draw.norm(f"{block}ln2", WIDTH)
        tensors |= {f"{block}att.{name}": tensor for name, tensor in _older_time_mix(draw, generation).items()}
        tensors |= {f"{block}ffn.{mix}_{letter}": draw.uniform(1, 1, WIDTH) for letter in "kr"}
        tensors[f"{block}ffn.key.weight"] = draw.matrix(3 * WIDTH, WIDTH)
        tensors[f"{block}ffn.receptance.weight"] = draw.matrix(WIDTH, WIDTH)
        tensors[f"{block}ffn.value.weight"] = draw.matrix(WIDTH, 3 * WIDTH)
    return tensors | draw.norm("ln_out", WIDTH) | {"head.weight": draw.matrix(VOCABULARY, WIDTH)}


def _older_time_mix(draw: Draw, generation: str) -> Tensors:
    gated = generation in ("5.2", "6")
    modules = ["receptance", "key", "value", "output", *(["gate"] if gated else [])]
    tensors = {f"{name}.weight": draw.matrix(WIDTH, WIDTH) for name in modules}
    if generation != "4":
        tensors |= draw.norm("ln_x", WIDTH)
    mix, letters = ("time_maa", "xwkvrg") if generation == "6" else ("time_mix", "kvrg" if gated else "kvr")
    tensors |= {f"{mix}_{letter}": draw.uniform(1, 1, WIDTH) for letter in letters}
    shape = {"4": (WIDTH,), "5.0": (HEADS,), "5.2": (HEADS, SIZE), "6": (1, 1, WIDTH)}[generation]
    tensors["time_decay"] = draw.uniform(*shape, low=-6.0, high=1.5)
    if generation in ("4", "5.0"):
        return tensors | {"time_first": draw.normal(*shape, spread=0.5)}
    tensors["time_faaaa"] = draw.normal(HEADS, SIZE, spread=0.5)
    if generation == "6":
        tensors |= {"time_maa_w1": draw.matrix(WIDTH, 40), "time_maa_w2": draw.normal(5, 8, WIDTH, spread=0.1)}
        tensors |= {"time_decay_w1": draw.matrix(WIDTH, 12), "time_decay_w2": draw.normal(12, WIDTH, spread=0.1)}
    return tensors


def low_rank(name: str) -> bool:
    last = name.rsplit(".", 1)[1]
    return last in {f"{letter}{side}" for letter in "wavg" for side in "12"} or last.endswith(("_w1", "_w2"))


def to_web_rwkv(tensors: Tensors) -> Tensors:
    """What convert_safetensors.py makes: float16, transposed, renamed."""
    found = {}
    for name, tensor in tensors.items():
        turned = tensor.transpose(-1, -2) if low_rank(name) else tensor
        new = name.replace("time_faaaa", "time_first").replace("time_maa", "time_mix")
        found[new] = turned.half().contiguous()
    return found


def to_transformers(tensors: Tensors) -> Tensors:
    letters = {"k": "key", "v": "value", "r": "receptance", "g": "gate"}
    found = {}
    for name, tensor in tensors.items():
        new = name.replace(".att.", ".attention.").replace(".ffn.", ".feed_forward.").replace(".ln0.", ".pre_ln.")
        if ".time_mix_" in new:
            new = new[:-1] + letters[new[-1]]
        new = new.replace("emb.", "embeddings.")
        found[new if new == "head.weight" else f"rwkv.{new}"] = tensor
    return found


def to_fla(tensors: Tensors) -> Tensors:
    """What convert_from_rwkv7.py makes, with separate mixes."""
    modules = {"ln0": "pre_norm", "ln1": "attn_norm", "ln2": "ffn_norm", "att.ln_x": "attn.g_norm"}
    modules |= {f"att.{long}": f"attn.{long[0]}_proj" for long in ("receptance", "key", "value", "output")}
    found = {}
    for name, tensor in tensors.items():
        if not name.startswith("blocks."):
            old = {"emb.weight": "model.embeddings.weight", "head.weight": "lm_head.weight"}
            found[old.get(name, name.replace("ln_out", "model.norm"))] = tensor
            continue
        _, layer, rest = name.split(".", 2)
        module, _, end = rest.rpartition(".")
        letter, side = end[0], end[-1]
        if layer == "0" and letter == "v" and side in "012":
            continue
        if low_rank(name):
            rest, tensor = f"attn.{letter}_lora.lora.{'0' if side == '1' else '2'}.weight", tensor.T.contiguous()
        elif module == "att" and side == "0":
            rest, tensor = f"attn.{letter}_lora.lora.2.bias", tensor.flatten()
        elif module in modules:
            rest = f"{modules[module]}.{end}"
        else:
            rest = rest.replace("att.", "attn.")
        found[f"model.layers.{layer}.{rest}"] = tensor
    return found


def to_fla_with_fused_mixes(tensors: Tensors) -> Tensors:
    found = to_fla(tensors)
    for layer in range(LAYERS):
        mixes = [found.pop(f"model.layers.{layer}.attn.x_{letter}") for letter in "rwkvag"]
        found[f"model.layers.{layer}.attn.x_x"] = torch.cat(mixes).reshape(6, 1, 1, WIDTH)
    return found


def eos_heads(width: int, hidden: int = 24) -> Tensors:
    """Random heads of EmbeddingRWKV: `retr.fc1.weight` and so on."""
    draw = torch.Generator().manual_seed(5)
    shapes = {"fc1.weight": (hidden, width), "fc2.weight": (width, hidden), "norm.weight": (width,)}
    shapes["norm.bias"] = (width,)
    kinds = ("cls", "sts", "retr")
    return {f"{kind}.{name}": torch.randn(shape, generator=draw) for kind in kinds for name, shape in shapes.items()}


def to_embedding_rwkv(tensors: Tensors) -> Tensors:
    heads = {
        f"head.{name.partition('.')[0]}_head.{name.partition('.')[2]}": tensor
        for name, tensor in eos_heads(tensors["emb.weight"].shape[1]).items()
    }
    return {f"rwkv.{name}": tensor for name, tensor in tensors.items()} | heads | {"proj.weight": torch.ones(2)}


ALBATROSS = ("receptance.weight", "key.weight", "output.weight", "head.weight")


def to_albatross(tensors: Tensors) -> Tensors:
    """What quantize_int8.py makes, of tensors that `rounded_to_int8` gave."""
    found = {}
    for name, tensor in tensors.items():
        if name.endswith(ALBATROSS):
            scale = (tensor.abs().amax(1) / 127).half()
            found[name] = (tensor / scale.float().unsqueeze(1)).round().clamp(-127, 127).to(torch.int8)
            found[f"{name}_scale"] = scale
        else:
            found[name] = tensor.squeeze()
    return found


def rounded_to_int8(tensors: Tensors) -> Tensors:
    """The values that an int8 file can hold."""
    return {
        name: found.float() * quantized[f"{name}_scale"].float().unsqueeze(1) if found.dtype is torch.int8 else found
        for quantized in [to_albatross(tensors)]
        for name, found in quantized.items()
        if not name.endswith("_scale")
    }


def write_sharded(folder: Path, tensors: Tensors, save: Callable[[Tensors, Path], object], name: str) -> Path:
    """Write a Hugging Face folder with two files and their index; returns the index."""
    stem, suffix = name.rsplit(".", 1)
    names = sorted(tensors)
    weight_map = {}
    for part, some in enumerate((names[::2], names[1::2]), start=1):
        file = f"{stem}-{part:05}-of-00002.{suffix}"
        save({one: tensors[one].contiguous() for one in some}, folder / file)
        weight_map |= dict.fromkeys(some, file)
    (folder / "config.json").write_text('{"model_type": "rwkv"}')
    index = folder / f"{name}.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))
    return index


def save_safetensors(tensors: Tensors, path: Path) -> None:
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)


BYTE_TOKENS = ["<s>", *(repr(bytes([byte]))[2:-1] for byte in range(256))]


def write_gguf(
    path: Path,
    tensors: Tensors,
    generation: str,
    kind: str = "F32",
    *,
    tokens: list[str] | None = None,
    rescale: int = 0,
    change: Callable[[gguf.GGUFWriter], object] = lambda writer: None,
) -> Path:
    """Write what convert_hf_to_gguf.py makes of a model; matrices as `kind` where their rows can be."""
    arch = f"rwkv{generation}"
    writer = gguf.GGUFWriter(path, arch)
    writer.add_block_count(1 + max(int(name.split(".")[1]) for name in tensors if name.startswith("blocks.")))
    writer.add_embedding_length(tensors["emb.weight"].shape[1])
    writer.add_feed_forward_length(tensors["blocks.0.ffn.key.weight"].shape[0])
    writer.add_wkv_head_size(_head_size(tensors, generation))
    writer.add_layer_norm_eps(1e-5)
    writer.add_head_count(0)
    if rescale:
        writer.add_rescale_every_n_layers(rescale)
    tokens = BYTE_TOKENS if tokens is None else tokens
    if tokens:
        writer.add_tokenizer_model("rwkv")
        writer.add_token_list([token.encode() for token in tokens])
        writer.add_token_types([3, *(5 if token.startswith("[PAD") else 1 for token in tokens[1:])])
    change(writer)
    for name, tensor in to_gguf(tensors, generation, rescale).items():
        data = tensor.contiguous().numpy().astype(np.float32)
        kind_here = GGMLQuantizationType[kind if _is_matrix(name, data, kind) else "F32"]
        writer.add_tensor(name, gguf.quants.quantize(data, kind_here), raw_dtype=kind_here)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _is_matrix(name: str, data: np.ndarray, kind: str) -> bool:
    block = gguf.GGML_QUANT_SIZES[GGMLQuantizationType[kind]][0]
    small = ("norm", "lerp", "time_mix_w1", "time_mix_w2", "decay", "first")
    return data.ndim >= 2 and data.shape[-1] % block == 0 and not any(part in name for part in small)


def _head_size(tensors: Tensors, generation: str) -> int:
    return int(tensors["blocks.0.att.r_k" if generation == "7" else "blocks.0.att.time_faaaa"].shape[1])


def to_gguf(tensors: Tensors, generation: str, rescale: int = 0) -> Tensors:
    """Rename, transpose, fuse and rescale as llama.cpp's converter does."""
    whole = {"emb.weight": "token_embd.weight", "head.weight": "output.weight"}
    modules = {"ln1": "attn_norm", "ln2": "attn_norm_2", "att.ln_x": "time_mix_ln"}
    bare = {
        "ffn.x_k": "channel_mix_lerp_k",
        "ffn.time_maa_k": "channel_mix_lerp_k",
        "ffn.time_maa_r": "channel_mix_lerp_r",
    }
    bare |= {"att.time_faaaa": "time_mix_first", "att.time_maa_x": "time_mix_lerp_x"}
    letters, prefix = ("rwkvag", "x") if generation == "7" else ("wkvrg", "time_maa")
    found = {}
    for name, tensor in tensors.items():
        if not name.startswith("blocks.") or ".ln0." in name:
            new = name.replace("blocks.0.ln0", "token_embd_norm").replace("ln_out", "output_norm")
            found[whole.get(name, new)] = tensor
            continue
        _, layer, rest = name.split(".", 2)
        block, (module, _, end) = f"blk.{layer}.", rest.rpartition(".")
        if module == "att" and end in {f"{prefix}_{letter}" for letter in letters}:
            continue
        if end in ("weight", "bias"):
            new = modules.get(module, module.replace("att.", "time_mix_").replace("ffn.", "channel_mix_"))
            halvings = int(layer) // rescale if rescale and module in ("att.output", "ffn.value") else 0
            found[f"{block}{new}.{end}"] = tensor / 2**halvings
        elif low_rank(name):
            found[f"{block}time_mix_{end.replace('time_maa_', '').replace('time_', '')}.weight"] = tensor.transpose(
                -1, -2
            )
        else:
            new = bare.get(rest, f"time_mix_{end.replace('time_', '')}")
            found[f"{block}{new}.weight"] = tensor if end == "time_faaaa" else tensor.flatten()
    layers = 1 + max(int(name.split(".")[1]) for name in tensors if name.startswith("blocks."))
    for layer in range(layers):
        mixes = [tensors[f"blocks.{layer}.att.{prefix}_{letter}"].reshape(1, 1, 1, -1) for letter in letters]
        found[f"blk.{layer}.time_mix_lerp_fused.weight"] = torch.cat(mixes)
    if generation == "7":
        for side in "012":  # the converter fills these places with copies of the a's
            found[f"blk.0.time_mix_v{side}.weight"] = found[f"blk.0.time_mix_a{side}.weight"]
    return found


RWKV_CPP_KINDS = {"F32": 0, "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q5_0": 7, "Q5_1": 8, "Q8_0": 9}


def write_rwkv_cpp(path: Path, tensors: Tensors, generation: str, kind: str = "F32", version: int = 101) -> Path:
    """Write what convert_pytorch_to_ggml.py (and quantize.py) make of a model."""
    layers = 1 + max(int(name.split(".")[1]) for name in tensors if name.startswith("blocks."))
    rows, width = tensors["emb.weight"].shape
    with path.open("wb") as file:
        file.write(struct.pack("<6i", 0x67676D66, version, rows, width, layers, RWKV_CPP_KINDS[kind]))
        for name, tensor in to_rwkv_cpp(tensors, generation).items():
            data = tensor.contiguous().numpy().astype(np.float32)
            plain = data.ndim < 2 or name in ("emb.weight", "head.weight") or ".att.time_" in name or "r_k" in name
            here = "F32" if plain or (generation == "7" and low_rank(name)) or data.shape[-1] % 32 else kind
            file.write(struct.pack("<3i", data.ndim, len(name), RWKV_CPP_KINDS[here]))
            file.write(struct.pack(f"<{data.ndim}i", *reversed(data.shape)))
            file.write(name.encode())
            file.write(gguf.quants.quantize(data, GGMLQuantizationType[here]).tobytes())
    return path


def to_rwkv_cpp(tensors: Tensors, generation: str) -> Tensors:
    found = {}
    for name, tensor in tensors.items():
        if name.endswith("time_decay"):
            tensor = {"4": lambda x: -x.exp(), "6": lambda x: x.reshape(HEADS, SIZE, 1)}.get(
                generation, lambda x: (-x.exp()).exp().reshape(HEADS, -1, 1)
            )(tensor)
        elif name.endswith("time_first") and generation == "5.0":
            tensor = tensor.exp().reshape(HEADS, 1, 1)
        elif name.endswith("time_faaaa"):
            tensor = tensor.reshape(HEADS, SIZE, 1)
        elif low_rank(name):
            tensor = tensor.transpose(-1, -2)
        found[name] = tensor
    if generation == "7":
        for layer in range(1 + max(int(name.split(".")[1]) for name in tensors if name.startswith("blocks."))):
            mixes = [found.pop(f"blocks.{layer}.att.x_{letter}") for letter in "rwkvag"]
            found[f"blocks.{layer}.att.x_rwkvag"] = torch.cat(mixes).reshape(6, 1, -1)
    return found
