"""Reads a long document with an RWKV-7 and with a Llama of the same size, random weights, bfloat16.

    python -m tests.bench.transformer [--tokens 32768] [--threads 1] [--dtype bf16 int8]

The Llama (transformers) has the layers, the width and the vocabulary of RWKV-7 0.1B and reads windows of 512 tokens
with its key-value cache, in bfloat16; neither computes logits but for the last token. Measured once, since the Llama
takes minutes: one thread in processor time, several by the clock, on an idle machine. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable

import torch
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM

from rwkv_runtime.benchmark import model_of
from rwkv_runtime.synthetic import Shape
from tests.bench.peer_models import SIZE, facts

WINDOW = 512


def main() -> int:
    parser = argparse.ArgumentParser(description="A long document beside a transformer of the same size.")
    parser.add_argument("--tokens", type=int, default=32_768)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--dtype", nargs="+", default=["bf16"], help="precisions of ours")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    clock = time.process_time if arguments.threads == 1 else time.perf_counter
    tokens = [(place * 7919 + 13) % 65000 + 1 for place in range(arguments.tokens)]
    readers = {f"unspool {dtype}": rwkv(tokens, dtype) for dtype in arguments.dtype} | {"llama bf16": llama(tokens)}
    found = {name: round(seconds(read, clock), 2) for name, read in readers.items()}
    ratios = {dtype: round(found["llama bf16"] / found[f"unspool {dtype}"], 1) for dtype in arguments.dtype}
    unit = "processor_seconds" if arguments.threads == 1 else "seconds"
    told = {**facts("transformer", 1, arguments.threads), "tokens": arguments.tokens, unit: found, "ratio": ratios}
    print(json.dumps(told))
    return 0


def rwkv(tokens: list[int], dtype: str) -> Callable[[], object]:
    model = model_of(SIZE, dtype, "native")
    model.prefill(tokens[:WINDOW], model.initial_state())
    return lambda: model.prefill(tokens, model.initial_state())


def llama(tokens: list[int]) -> Callable[[], object]:
    shape = Shape.named(SIZE)
    config = LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.width,
        intermediate_size=8 * shape.width // 3,  # three matrices, so as many weights as two of 4 times the width
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.width // 64,
        max_position_embeddings=len(tokens),
    )
    model = LlamaForCausalLM(config).to(torch.bfloat16).eval()

    def read() -> None:
        cache = DynamicCache(config=config)
        with torch.inference_mode():
            for begin in range(0, len(tokens), WINDOW):
                window = torch.tensor([tokens[begin : begin + WINDOW]])
                model(window, past_key_values=cache, use_cache=True, logits_to_keep=1)

    return read


def seconds(read: Callable[[], object], clock: Callable[[], float]) -> float:
    """What a reading takes by a clock."""
    started = clock()
    read()
    return clock() - started


if __name__ == "__main__":
    sys.exit(main())
