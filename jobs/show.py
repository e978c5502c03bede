"""What a run has made, in a few lines for people: where the tables are, and one real row of each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from jobs.errors import ExitCode, safe
from jobs.progress import human_seconds

if TYPE_CHECKING:
    from jobs.run import RunResult

_LONGEST: Final = 100
_VECTOR_SHOWN: Final = 4
_TABLES: Final = ("documents", "sentences", "vectors", "summaries", "extractions", "failures")
# From the middle, so that the row is a sentence of a book and not its title.
_SHOWN_AT: Final = {"sentences": 0.5, "vectors": 0.5, "summaries": 1.0}


def summary_line(result: RunResult) -> str:
    """What happened, in one line."""
    state = "stopped" if result.exit_code is ExitCode.INTERRUPTED else "finished"
    rate = f", {result.tokens_fed / result.seconds:,.0f} tokens/s" if result.seconds and result.tokens_fed else ""
    now = f"this time {result.tokens_fed:,} in {human_seconds(result.seconds)}{rate}"
    if state == "finished" and not result.tokens_fed:
        now = "nothing was left to read"
    return f"{state}: {result.documents} documents, {result.failed} failed, {result.tokens:,} tokens; {now}"


def one_row_of_each(result: RunResult) -> Iterator[str]:
    """The report and the tables of a finished run, each table with one of its rows."""
    yield f"\n{result.path / 'report.html'}: what was read and what came of it, for a browser"
    for name in _TABLES:
        if not (result.path / "output" / name).is_dir():
            continue
        dataset = result.table(name)
        count = dataset.count_rows()
        yield f"\n{result.path / 'output' / name}: {count:,} rows"
        if count:
            place = min(int(_SHOWN_AT.get(name, 0.0) * count), count - 1)
            row = dataset.take([place]).to_pylist()[0]
            yield from (f"  {key}: {_shown(value)}" for key, value in row.items() if value is not None)


def _shown(value: Any) -> str:
    if isinstance(value, list) and value and isinstance(value[0], float):
        head = ", ".join(f"{number:.4f}" for number in value[:_VECTOR_SHOWN])
        return f"[{head}, …] ({len(value)} dimensions)"
    text = safe(" ".join(str(value).split()))
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
