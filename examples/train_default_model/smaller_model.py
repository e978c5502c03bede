"""A model made smaller: its files again, with the large matrices in int8.

    python -m examples.train_default_model.smaller_model MODEL OUT

writes MODEL with its tables and large matrices in int8, which takes a model from bfloat16 to nearly half its size.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from safetensors.torch import load_file

from examples.train_default_model.export import CONFIG, ROTATION_NAME, stored_form, write_model
from examples.train_default_model.prepare import TOKENIZER
from examples.train_default_model.words import WORD_TOKENS
from rwkv_runtime.errors import RwkvError
from rwkv_runtime.identity import find
from rwkv_runtime.weights.row_scaled import SUFFIX


def write_smaller(start: str, folder: Path) -> None:
    """The model `start`, a folder or default, with its tables and large matrices in int8. What is so already stays."""
    weights = find(start).weights_path
    stored = load_file(weights)
    done = {name for name in stored if name + SUFFIX in stored}
    done |= {name + SUFFIX for name in done} | {ROTATION_NAME, WORD_TOKENS}
    smaller = stored_form({name: one for name, one in stored.items() if name not in done})
    kept = {name: one for name, one in stored.items() if name in done}
    described = json.loads(weights.with_name(CONFIG).read_text("utf-8"))
    write_model(folder, kept | smaller, weights.with_name(TOKENIZER), described)


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="smaller_model", description="a model with its large matrices in int8")
    parser.add_argument("model", help="a folder, or default")
    parser.add_argument("out", type=Path, help="folder for the smaller model")
    options = parser.parse_args(arguments)
    try:
        write_smaller(options.model, options.out)
    except (FileNotFoundError, RuntimeError, RwkvError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
