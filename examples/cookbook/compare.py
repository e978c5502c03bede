"""Compare two documents of a finished run: which sentences of the second have no counterpart in the first.

    python examples/cookbook/compare.py RUN FIRST SECOND

FIRST and SECOND are ids or addresses as in the table `documents`. A counterpart is the sentence with the nearest
vector; the least alike pairs come first.
"""

from __future__ import annotations

import sys

import numpy as np
import pyarrow.dataset as ds

from jobs import RunResult, open_run

SHOWN = 2
LEAST_WORDS = 8


def sentences(run: RunResult, name: str) -> tuple[list[str], np.ndarray]:
    """The longer sentences of a document, and their vectors [n, D] of length 1."""
    documents = run.table("documents").to_table(columns=["doc_id", "source_uri"]).to_pylist()
    doc_id = next(row["doc_id"] for row in documents if name in (row["doc_id"], row["source_uri"]))
    table = run.table("sentences").to_table(columns=["text", "embedding"], filter=ds.field("doc_id") == doc_id)
    rows = [row for row in table.to_pylist() if len(row["text"].split()) >= LEAST_WORDS]
    return [" ".join(row["text"].split()) for row in rows], np.array([row["embedding"] for row in rows])


def main(path: str, first: str, second: str) -> None:
    run = open_run(path)
    there, vectors_there = sentences(run, first)
    here, vectors_here = sentences(run, second)
    alike = vectors_here @ vectors_there.T
    nearest, best = alike.argmax(axis=1), alike.max(axis=1)
    order = best.argsort()
    print(f"In {second} alone:")
    for place in order[:SHOWN]:
        print(f"  {best[place]:.2f}  {here[place][:100]}")
    print("In both:")
    for place in order[: -SHOWN - 1 : -1]:
        print(f"  {best[place]:.2f}  {here[place][:100]}\n        {there[nearest[place]][:100]}")


if __name__ == "__main__":
    main(*sys.argv[1:])
