"""A map on which a sentence lies beside its neighbours (t-SNE), for collections whose groups a projection lays over
each other. Knows vectors alone; needs the extra `viz`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import MissingExtraError

PERPLEXITY = 30.0
"""About how many neighbours count for each point."""
FEWEST = 8
"""Fewer points have no neighbourhoods to speak of: they lie on a line."""


def arranged(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Places within 0 and 1 for unit vectors [n, D], near ones beside each other: [n, 2]. The same ones every time.

    By openTSNE, with cosine distances and begun from the principal components. Raises MissingExtraError.
    """
    if len(vectors) < FEWEST:
        return np.stack([np.linspace(0, 1, len(vectors)), np.full(len(vectors), 0.5)], axis=1).astype(np.float32)
    try:
        from openTSNE import TSNE
    except ImportError as error:
        raise MissingExtraError("a map by neighbours needs openTSNE: pip install 'unspool[viz]'") from error
    perplexity = min(PERPLEXITY, (len(vectors) - 1) / 3)
    found = TSNE(perplexity=perplexity, metric="cosine", initialization="pca", n_jobs=1, random_state=0).fit(
        vectors.astype(np.float64)
    )
    low, high = np.min(found, axis=0), np.max(found, axis=0)
    scaled: NDArray[np.float32] = ((np.asarray(found) - low) / np.maximum(high - low, 1e-9)).astype(np.float32)
    return scaled
