"""Making the next of something while the one before is being used. Knows nothing of what it is."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")


def one_ahead(items: Iterator[Item]) -> Iterator[Item]:
    """The same items, in the same order; a thread makes the next while one is being used, and no further one.

    What `items` raises is raised where its item would have come.
    """

    def made() -> list[Item]:
        return list(islice(items, 1))

    with ThreadPoolExecutor(1, "one-ahead") as maker:
        coming = maker.submit(made)
        while found := coming.result():
            coming = maker.submit(made)
            yield found[0]
