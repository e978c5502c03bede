"""Reads a long document with an RWKV-7 and with a Llama of the same size, random weights, bfloat16, one thread.

    python -m tests.bench.transformer [--tokens 32768]

The Llama (transformers) has the layers, the width and the vocabulary of RWKV-7 0.1B and reads windows of 512 tokens
with its key-value cache; neither computes logits but for the last token. Times are of the processor, measured once: the
Llama takes minutes. Prints one JSON line.
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
    count = parser.parse_args().tokens
    torch.set_num_threads(1)
    tokens = [(place * 7919 + 13) % 65000 + 1 for place in range(count)]
    readers = {"unspool": rwkv(tokens), "llama": llama(tokens)}
    found = {name: round(seconds(read), 2) for name, read in readers.items()}
    ratio = round(found["llama"] / found["unspool"], 1)
    print(json.dumps({**facts("transformer", 1), "tokens": count, "processor_seconds": found, "ratio": ratio}))
    return 0


def rwkv(tokens: list[int]) -> Callable[[], object]:
    model = model_of(SIZE, "bf16", "native")
    model.forward(tokens[:WINDOW], model.initial_state())
    return lambda: model.forward(tokens, model.initial_state())


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


def seconds(read: Callable[[], object]) -> float:
    """Processor time."""
    started = time.process_time()
    read()
    return time.process_time() - started


if __name__ == "__main__":
    sys.exit(main())
