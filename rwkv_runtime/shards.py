"""The index of a model in several files, as Hugging Face writes it: {"weight_map": {tensor: file}}.

Light on purpose: needs neither torch nor numpy. Knows nothing of what is inside the files.
"""

from __future__ import annotations

import json
from pathlib import Path, PurePath
from typing import Any

from rwkv_runtime.errors import ModelFileError

SUFFIX = ".index.json"
LARGEST_INDEX = 32 << 20  # bytes; a thousand tensors take about 100 kB


def shards_of(index: Path) -> dict[str, str]:
    """Name the file of each tensor. Raises ModelFileError if the index is damaged or points out of its folder."""
    try:
        if index.stat().st_size > LARGEST_INDEX:
            raise ModelFileError(f"{index}: larger than {LARGEST_INDEX} bytes, so no index of a model's files")
        content: Any = json.loads(index.read_bytes())
        found = {str(name): str(file) for name, file in content["weight_map"].items()}
    except OSError as error:
        raise ModelFileError(f"{index}: cannot be read ({error.strerror}); check that it exists") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelFileError(
            f"{index}: is no index of a model's files ({str(error)[:80]}); download it again"
        ) from error
    for file in found.values():
        if PurePath(file).name != file or file in ("", ".", ".."):
            raise ModelFileError(f"{index}: names the file {file[:80]!r}, which is not beside it; nothing was opened")
    return found
