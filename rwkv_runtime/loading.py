"""From a source that a user names to a model: find it, read it strictly, recognise its generation.

Strict means that every tensor of the file is used and none is missing. Knows nothing of containers (weights/) or
layers (generations/).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

from torch import Tensor

from rwkv_runtime import auto_dtype, eos_heads, generations, native, spans, tokenizers, triton, weights
from rwkv_runtime import strategy as strategies
from rwkv_runtime.allocator import keep_freed_memory
from rwkv_runtime.errors import ModelFileError, StrategyError, UnsupportedModelError
from rwkv_runtime.identity import identify
from rwkv_runtime.matrices import PRECISIONS, RowByRow, RowProduct
from rwkv_runtime.memory import memory_limit_bytes
from rwkv_runtime.model import Model
from rwkv_runtime.native.library import Library
from rwkv_runtime.native.matrices import NativeRows
from rwkv_runtime.native.operations import NativeOperations
from rwkv_runtime.operations import Operations, TorchOperations
from rwkv_runtime.placement import Plan
from rwkv_runtime.pooling import PREFIX, EmbeddingHead
from rwkv_runtime.weights import Weights
from rwkv_runtime.weights import lora as lora_files

LARGEST_COPY = 1 / 3
"""Share of the memory that this process may have that weights may take beside the file that they are copied from."""
KERNELS = ("auto", "native", "triton", "torch")


def load(
    source: str | Path = "default",
    device: str = "auto",
    dtype: str = "fp32",
    lora: str | Path | None = None,
    lora_alpha: float | None = None,
    strategy: str | None = None,
    kernels: str = "auto",
    shared: bool = False,
) -> Model:
    """Load "default" (the shipped model), or a weights file of any container in weights/, or a folder with one.

    `device` is cpu, cuda, cuda:1, … or auto, which is the CPU. `dtype` is how large matrices are kept and multiplied:
    fp32, bf16, fp16, int8, int4, or auto for the faster of fp32 and bf16. A `strategy` of the `rwkv` package says both
    for each layer. `kernels` say what computes between the matrices: native (on a CPU), triton (on a GPU), torch, or
    auto for the faster ones where they start. Matrices that a file has in `dtype` are copied to where single
    tokens are written faster, if the system has huge pages and the file is at most a third of the memory; `shared`
    leaves them mapped from their file, once for all processes of this machine. `lora` is a LoRA file to merge, with
    the alpha that it was trained with, which no file holds; the model then has a fingerprint of its own. Raises
    ModelFileError if a file cannot be read, WeightsError if its tensors are not exactly those of a model,
    UnsupportedModelError for what this version does not run, StrategyError for a device that is not there,
    TokenizerError if the tokenizer beside or inside it is damaged or does not fit.
    """
    plan = _computed(_plan(device, dtype, strategy), kernels)
    keep_freed_memory()
    identity = identify(source)
    stored, fingerprint = weights.read(identity.weights_path), identity.fingerprint
    if not shared and identity.weights_bytes <= LARGEST_COPY * memory_limit_bytes():
        plan = plan.unshared()
    if lora is not None:
        stored, fingerprint = _with_lora(stored, fingerprint, Path(lora), lora_alpha)
    network = generations.read(stored, plan)
    trained_head = any(name.startswith(PREFIX) for name in stored.names())
    config = network.config
    head = EmbeddingHead.read(stored, config.n_embd, config.vocab_size, _rows_of(kernels)) if trained_head else None
    eos = eos_heads.read(stored, config.n_embd)
    stored.finish()
    tokenizer = tokenizers.load(identity.tokenizer_path)
    tokenizers.check_fits(tokenizer, config.vocab_size)
    reader = _span_reader(identity.weights_path.with_name(spans.FILE), fingerprint)
    return Model(network, tokenizer, fingerprint, head, plan.name, eos, reader)


def operations_of(kernels: str) -> Operations:
    """What computes between the matrices: "native", "torch", or "auto". Raises UnsupportedModelError."""
    library = _library_of(kernels)
    if kernels not in KERNELS:
        raise UnsupportedModelError(f"kernels {kernels!r} are not known; use {', '.join(KERNELS)}")
    if kernels == "native" and library is None:
        raise UnsupportedModelError(f"{native.status().reason}; or use kernels torch")
    return TorchOperations() if library is None else NativeOperations(library)


def _library_of(kernels: str) -> Library | None:
    """The native kernels, where they are wanted and were built."""
    return None if kernels == "torch" else native.load()


def _rows_of(kernels: str) -> Callable[[Tensor], RowProduct]:
    """What multiplies the rows of a head, which stays on the CPU."""
    library = _library_of(kernels)
    return RowByRow if library is None else partial(NativeRows, library=library)


def _computed(plan: Plan, kernels: str) -> Plan:
    """The plan with what computes in each of its places; Triton, which takes a while, is imported for a GPU alone."""
    if kernels == "triton" and not (found := triton.status()).available:
        raise UnsupportedModelError(f"{found.reason}; {found.remedy}, or use kernels torch")
    plan = plan.computed_by(operations_of(kernels))
    if all(part.placement.device.type != "cuda" for part in plan.parts):
        return plan
    on_gpu = None if kernels == "torch" else triton.load()
    return plan.computed_by(on_gpu or TorchOperations(), "cuda")


def _plan(device: str, dtype: str, strategy: str | None) -> Plan:
    if strategy is not None:
        if (device, dtype) != ("auto", "fp32"):
            raise StrategyError(f"device {device!r} and dtype {dtype!r} beside a strategy; the strategy says both")
        return strategies.parse(strategy)
    name = auto_dtype.resolve(dtype, device)
    if name not in PRECISIONS:
        raise UnsupportedModelError(f"dtype {name!r} is not supported; use {', '.join(PRECISIONS)} or auto")
    return Plan.uniform(strategies.device(device), PRECISIONS[name])


def _span_reader(path: Path, fingerprint: str) -> spans.SpanReader | None:
    """The reader beside a model, if there is one that was fitted on it."""
    if not path.is_file() or spans.fitted_on(path) != fingerprint:
        return None
    return spans.SpanReader.read(path)


def _with_lora(stored: Weights, fingerprint: str, path: Path, alpha: float | None) -> tuple[Weights, str]:
    """Return (the model with the LoRA in it, the fingerprint of both)."""
    if alpha is None or not math.isfinite(alpha):
        raise ModelFileError(f"{path}: lora_alpha is {alpha}; give the value that the LoRA was trained with")
    merged = lora_files.merged(stored, weights.read(path), alpha)
    with path.open("rb") as file:
        adapter_sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return merged, hashlib.sha256(f"{fingerprint} {adapter_sha256} {float(alpha)!r}".encode("ascii")).hexdigest()
