"""Long inputs take no more memory than short ones: what the bench measures at full length, shortened."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.bench.memory_of_inputs import growth, measure, write_pdf, write_text

ALLOWED_BYTES = 16 << 20


@pytest.mark.parametrize(
    ("suffix", "write", "small", "large"),
    [("pdf", write_pdf, 10, 200), ("txt", write_text, 1, 6)],
    ids=["a PDF of 200 pages", "a text of 6 MB"],
)
def test_memory_does_not_grow_with_the_input(
    tmp_path: Path, suffix: str, write: Callable[[Path, int], None], small: int, large: int
) -> None:
    found = []
    for size in (small, large):
        write(tmp_path / f"{size}.{suffix}", size)
        found.append(measure(tmp_path / f"{size}.{suffix}"))

    assert found[1]["sentences"] > 5 * found[0]["sentences"]
    assert growth(found) <= ALLOWED_BYTES
