"""Measures how fast World text is encoded, by the Rust encoder and by the rule in Python.

    python -m tests.bench.tokenizer_speed [--rounds 7]

Compares the tokens of both with those of the `rwkv` package first and prints no speed if they differ. Then prints one
JSON line: megabytes (10^6 UTF-8 bytes) a second of processor time, medians of the rounds, in which the ways take
turns. `stream_N` pushes N characters at a time; documents are read in pushes of about PUSHED_CHARS.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import rwkv
from rwkv.rwkv_tokenizer import TRIE_TOKENIZER

from pipeline.segments import PUSHED_CHARS
from rwkv_runtime.tokenizers import Piece
from rwkv_runtime.tokenizers.world import WorldTokenizer, shipped_vocabulary
from tests.bench.prefill_speed import TEXT, _commit, _processor

PARTS = (300, 1000, PUSHED_CHARS, 65536)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    text = TEXT.read_text("utf-8")
    rust = WorldTokenizer.shipped()
    rule = WorldTokenizer(shipped_vocabulary(), rust.fingerprint, find_bulk=lambda _: None)
    reference = TRIE_TOKENIZER(str(Path(rwkv.__file__).with_name("rwkv_vocab_v20230424.txt")))
    if not rust.encode(text) == rule.encode(text) == reference.encode(text):
        print("the tokens differ from those of the rwkv package; no speed is worth measuring", file=sys.stderr)
        return 1
    ways = _ways(rust, text, "rust") | _ways(rule, text, "rule") | {"rwkv.encode": lambda: reference.encode(text)}
    speeds = _speeds(ways, rounds, len(text.encode()) / 1e6)
    result = {
        "bench": "tokenizer_speed",
        "commit": _commit(),
        "machine": f"{_processor()}, {os.cpu_count()} processors",
        "text": TEXT.name,
        "rounds": rounds,
        "megabytes_per_second": speeds,
        "rust_over_rule": round(speeds["rust.encode"] / speeds["rule.encode"], 1),
    }
    print(json.dumps(result))
    return 0


def _ways(tokenizer: WorldTokenizer, text: str, name: str) -> dict[str, Callable[[], object]]:
    ways: dict[str, Callable[[], object]] = {
        f"{name}.encode": lambda: tokenizer.encode(text),
        f"{name}.encode_with_offsets": lambda: tokenizer.encode_with_offsets(text),
    }
    for size in PARTS:
        ways[f"{name}.stream_{size}"] = lambda size=size: _streamed(tokenizer, text, size)  # type: ignore[misc]
    return ways


def _streamed(tokenizer: WorldTokenizer, text: str, size: int) -> list[Piece]:
    stream, pieces = tokenizer.stream(), []
    for start in range(0, len(text), size):
        pieces += stream.push(text[start : start + size])
    return pieces + stream.finish()


def _speeds(ways: dict[str, Callable[[], object]], rounds: int, megabytes: float) -> dict[str, float]:
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            start = time.process_time()
            way()
            seconds[name].append(time.process_time() - start)
    return {name: round(megabytes / statistics.median(found), 1) for name, found in seconds.items()}


if __name__ == "__main__":
    sys.exit(main())
