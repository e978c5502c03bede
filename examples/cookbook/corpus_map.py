"""Draw the sentences of a finished run as a map (SVG): near means alike, a colour is a document, hovering shows words.

python examples/cookbook/corpus_map.py RUN MAP.svg
"""

from __future__ import annotations

import sys
from pathlib import Path
from xml.sax.saxutils import escape

from jobs import open_run
from pipeline.overview import overview

SIZE = 900
POINTS = 2000
COLOURS = ("#0b6e6e", "#b4541a", "#5b4db0", "#2f7d32", "#b0306a", "#8a6d00")


def main(path: str, target: str) -> None:
    documents = open_run(path).table("documents").to_table(columns=["doc_id", "source_uri", "chars"]).to_pylist()
    chars = {row["doc_id"]: row["chars"] for row in documents}
    names = {row["doc_id"]: row["source_uri"] for row in documents}
    colours = {doc_id: COLOURS[place % len(COLOURS)] for place, doc_id in enumerate(chars)}
    points = overview(Path(path) / "output" / "sentences", chars, POINTS).points
    dots = [
        f'<circle cx="{point.x * SIZE:.1f}" cy="{point.y * SIZE:.1f}" r="4" fill="{colours[point.doc_id]}">'
        f"<title>{escape(names[point.doc_id])}: {escape(point.text[:200])}</title></circle>"
        for point in points
    ]
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-10 -10 {SIZE + 20} {SIZE + 20}">'
    Path(target).write_text("\n".join([head, *dots, "</svg>"]), "utf-8")
    print(f"{target}: {len(points)} sentences of {len(chars)} documents")


if __name__ == "__main__":
    main(*sys.argv[1:])
