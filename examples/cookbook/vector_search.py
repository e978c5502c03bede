"""The sentences of a DuckDB database, as `unspool export --to duckdb` makes it, that are nearest to a question.

python examples/cookbook/vector_search.py CONTRACTS.duckdb "QUESTION"
"""

from __future__ import annotations

import sys

import duckdb

import rwkv_runtime
from pipeline.vectors import isolated

NEAREST = """
    SELECT array_cosine_similarity(embedding, ?::FLOAT[384]) AS score, source_uri, page, text
    FROM sentences JOIN documents USING (doc_id) ORDER BY score DESC LIMIT 3
"""


def main(path: str, question: str) -> None:
    engine = rwkv_runtime.Engine(rwkv_runtime.load("default"), window=512, lanes=1)
    [vector] = isolated(engine, [question])
    with duckdb.connect(path, read_only=True) as database:
        for score, uri, page, text in database.execute(NEAREST, [vector.tolist()]).fetchall():
            print(f"{score:.2f}  {uri}, page {page}: {' '.join(text.split())[:90]}")


if __name__ == "__main__":
    main(*sys.argv[1:])
