"""Rows of the table `sentences` that the README shows, as the quickstart job makes them.

    python -m tests.rows [--write]

The job reads the beginning of the novel that the rows stand in: what follows changes no row before it, and a document
has its id from its path. `--write` puts the rows of now in place of those that stand there.
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jobs import open_run
from tests.console import is_near
from tests.jobs.project import REPOSITORY, unspool

README = REPOSITORY / "README.md"
_ROW = re.compile(r"^\| \w+#s\d+ \| (\d+) \| \d+ \| .*$", re.MULTILINE)
_NOVEL = "documents/moby-dick.txt"
_CHARS = 40_000
_LONGEST = 69
_NUMBERS = 2


def shown(page: str) -> list[str]:
    """The rows that stand on a page."""
    return [found[0] for found in _ROW.finditer(page)]


def rewritten(page: str, folder: Path) -> str:
    """A page with the rows that the job makes now of the places that it shows. `folder` is to work in."""
    rows = {row["char_start"]: row for row in _sentences(folder)}
    return _ROW.sub(lambda found: _line(rows[int(found[1])]), page)


def are_near(stand: list[str], made: list[str]) -> bool:
    """Whether rows are the same, the last digits of vectors apart, which depend on the processor."""
    same = [one.rpartition(" | ")[0] for one in stand] == [one.rpartition(" | ")[0] for one in made]
    return same and all(map(is_near, stand, made))


def _sentences(folder: Path) -> Iterator[Mapping[str, Any]]:
    (folder / "documents").mkdir()
    shutil.copy(REPOSITORY / "examples" / "quickstart.yaml", folder)
    text = (REPOSITORY / "examples" / _NOVEL).read_text("utf-8")
    (folder / _NOVEL).write_text(text[:_CHARS], "utf-8")
    only = f'inputs=[{{"path": "{_NOVEL}"}}]'
    said = unspool("run", str(folder / "quickstart.yaml"), "-j", "0", "-o", str(folder / "out"), "--set", only)
    assert said.code == 0, said.err
    yield from open_run(folder / "out").table("sentences").to_table().to_pylist()


def _line(row: Mapping[str, Any]) -> str:
    text = row["text"] if len(row["text"]) <= _LONGEST else f"{row['text'][:_LONGEST]}…"
    first = ", ".join(f"{number:.3f}" for number in row["embedding"][:_NUMBERS])
    vector = f"[{first}, …] ({len(row['embedding'])})"
    return f"| {row['id']} | {row['char_start']} | {row['char_end']} | {text} | {vector} |"


def main(arguments: list[str]) -> int:
    """Compare or rewrite the rows; 1 if they are not true."""
    page = README.read_text("utf-8")
    with tempfile.TemporaryDirectory() as folder:
        new = rewritten(page, Path(folder))
    if "--write" in arguments:
        README.write_text(new, "utf-8")
        return 0
    return int(not are_near(shown(page), shown(new)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
