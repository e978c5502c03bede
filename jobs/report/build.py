"""From a finished run to the page that shows it. Reads the tables, the ledger and the metrics; decides what fits.

The page is one file with its data inside. It stays below 2 MB whatever the run: the budgets say how many documents,
passages and points of the map are shown, and the page says what it leaves out.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, cast, get_args

from jobs.errors import ExitCode, JobError, usage_error
from jobs.ledger import LedgerView, RunLedger
from jobs.report.help import help_for
from jobs.rows import rows_of
from jobs.run_directory import RunDirectory

if TYPE_CHECKING:
    from pipeline.overview import Overview, TimeLine

MOST_BYTES: Final = 2_000_000
_LONGEST_MESSAGE: Final = 400
_LONGEST_POINT: Final = 120
_LONGEST_HEADING: Final = 60
_CONTEXT: Final = 160
_SAMPLES: Final = 300
_LONGEST_GAP: Final = 60.0
_DIGITS: Final = "0123456789abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class Budget:
    """How much of a run the page shows."""

    documents: int = 1000
    passages: int = 3000
    sections: int = 6000
    points: int = 2500
    passage_chars: int = 400

    def halved(self) -> Budget:
        return Budget(
            self.documents, self.passages // 2, self.sections // 2, self.points // 2, self.passage_chars * 2 // 3
        )


Arrangement = Literal["pca", "tsne"]
"""Of the map: by the directions in which vectors differ most, or by neighbours."""


def arrangement_of(name: str) -> Arrangement:
    """The arrangement of this name. Raises JobError (exit 2) if there is none."""
    for known in get_args(Arrangement):
        if name == known:
            return cast(Arrangement, known)
    raise usage_error("REPORT-MAP", f"no arrangement `{name}`; there are {', '.join(get_args(Arrangement))}")


def write_report(run: RunDirectory, arrangement: Arrangement = "pca") -> Path:
    """Write report.html of a finished run, in place of an earlier one; `arrangement` is that of the map.

    Raises JobError (exit 6), OSError.
    """
    view = RunLedger.read(run.ledger)
    if view.final is None:
        raise run.not_finished()
    budget = Budget()
    page = _page(run, view, budget, arrangement)
    while len(page) > MOST_BYTES and budget.passages:
        budget = budget.halved()
        page = _page(run, view, budget, arrangement)
    run.disk.publish(run.report, page)
    return run.report


def _page(run: RunDirectory, view: LedgerView, budget: Budget, arrangement: Arrangement) -> bytes:
    template = resources.files("jobs.report").joinpath("page.html").read_text("utf-8")
    text = json.dumps(_data(run, view, budget, arrangement), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    # Nothing in the data may end the script that holds it, or begin a comment in it.
    safe = text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    return template.replace("/*DATA*/", safe).encode("utf-8", "backslashreplace")


def _data(run: RunDirectory, view: LedgerView, budget: Budget, arrangement: Arrangement) -> dict[str, Any]:
    rows = rows_of(run, "documents")
    shown = rows[: budget.documents]
    seen = _overview(run, {row["doc_id"]: row["chars"] or 0 for row in shown}, budget.points, arrangement)
    each = max(budget.passages // max(len(shown), 1), 2)
    passages = _Passages(run, frozenset(row["doc_id"] for row in shown), each, budget.passage_chars)
    sections = max(budget.sections // max(len(shown), 1), 4)
    failures = {row["doc_id"]: row for row in rows_of(run, "failures")}
    documents = [_document(row, view, seen.lines.get(row["doc_id"]), sections, passages, failures) for row in shown]
    places = {row["doc_id"]: place for place, row in enumerate(shown)}
    return {
        "run": _facts(run, view, rows),
        "throughput": throughput(run.metrics),
        "failures": _failures(run, list(failures.values())),
        "documents": documents,
        "map": [
            [
                round(point.x, 3),
                round(point.y, 3),
                places[point.doc_id],
                point.char_start,
                _cut(point.text, _LONGEST_POINT),
            ]
            for point in seen.points
            if point.doc_id in places
        ],
    }


def _facts(run: RunDirectory, view: LedgerView, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    read = [row for row in rows if row["status"] in ("ok", "partial")]
    finished = [document for document in map(view.finished, view.finished_ids()) if document]
    covered = sum((row["coverage"] or 0) * (row["bytes"] or 0) for row in read)
    size = sum(row["bytes"] or 0 for row in read)
    versions = ", ".join(f"{name} {version}" for name, version in sorted(run.info.versions.items()))
    model = Path(str(run.info.spec.get("model", {}).get("source", ""))).name
    return {
        "name": str(run.info.spec.get("name", run.path.name)),
        "about": f"{run.info.created_utc}, model {model} ({run.info.model_fp[:12]})",
        "foot": f"Run {run.info.run_id}. Made with {versions}. The same rows are in output/, as Parquet.",
        "documents": len(rows),
        "failed": sum(row["status"] == "failed" for row in rows),
        "tokens": sum(row["tokens_read"] or 0 for row in rows),
        "read_per_token": _read_per_token(read),
        "sentences": sum(document.rows("sentences") for document in finished),
        "coverage": covered / size if size else None,
        "seconds": round(_seconds_reading(run.metrics) or sum(document.seconds for document in finished), 1),
    }


def _read_per_token(rows: Sequence[Mapping[str, Any]]) -> float | None:
    """How often the model has read a token of the text: once, unless units are read by themselves or states probed."""
    known = [row for row in rows if row.get("tokens_fed") is not None]
    tokens = sum(row["tokens"] or 0 for row in known)
    return round(sum(row["tokens_fed"] for row in known) / tokens, 3) if tokens else None


def _seconds_reading(metrics: Path) -> float:
    """The time in which the run's processes reported progress; what lies between two of them is left out."""
    times = [at for at, _ in _samples(metrics)]
    gaps = (later - earlier for earlier, later in pairwise(times))
    return sum(gap for gap in gaps if gap <= _LONGEST_GAP)


def throughput(metrics: Path) -> list[list[float]]:
    """Tokens a second over the time of the run: [seconds since the first sample, rate], at most a few hundred."""
    samples = _samples(metrics)
    width = -(-len(samples) // _SAMPLES) or 1
    groups = [samples[begin : begin + width] for begin in range(0, len(samples), width)]
    return [
        [round(group[-1][0] - samples[0][0], 1), round(sum(rate for _, rate in group) / len(group), 1)]
        for group in groups
    ]


def _samples(metrics: Path) -> list[tuple[float, float]]:
    """(seconds since 1970, tokens a second), in the order of time."""
    samples: list[tuple[float, float]] = []
    try:
        lines = metrics.read_text("utf-8").splitlines()
    except OSError:
        return []
    for line in lines:
        try:
            found = json.loads(line)
            samples.append((datetime.fromisoformat(found["ts"]).timestamp(), float(found["unspool_tokens_per_second"])))
        except (ValueError, KeyError, TypeError):
            continue  # a line that a crash has cut
    return sorted(samples)


def _failures(run: RunDirectory, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    by_type: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        by_type[row["error_type"]].append(row)
    return [
        {
            "type": name,
            "count": len(found),
            "uri": found[0]["source_uri"],
            "message": _cut(found[0]["message"] or "", _LONGEST_MESSAGE),
            "help": help_for(name, found[0]["source_uri"] or "").words,
            "commands": _commands(run, name, found[0]),
        }
        for name, found in sorted(by_type.items(), key=lambda item: (-len(item[1]), item[0]))
    ]


def _commands(run: RunDirectory, name: str, failure: Mapping[str, Any]) -> list[str]:
    """What to type: what mends the document, if anything does, then what reads it again."""
    mend = help_for(name, failure["source_uri"] or "").command
    return [*([mend] if mend else []), f"unspool retry {run.path.name} --failed"]


def _document(
    row: Mapping[str, Any],
    view: LedgerView,
    line: TimeLine | None,
    most_sections: int,
    passages: _Passages,
    failures: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    doc_id = row["doc_id"]
    finished, failure = view.finished(doc_id), failures.get(doc_id)
    sections = (
        _fewer([(one.name, one.char_start, one.char_end) for one in line.sections], most_sections) if line else []
    )
    return {
        "id": doc_id,
        "uri": row["source_uri"],
        "title": row["title"],
        "status": row["status"],
        "language": row["language"],
        "bytes": row["bytes"],
        "chars": row["chars"],
        "tokens": row["tokens_read"],
        "pages": row["pages"],
        "coverage": row["coverage"],
        "seconds": finished.seconds if finished else None,
        "error": f"{failure['error_type']}: {failure['message']}" if failure else None,
        "help": help_for(failure["error_type"], row["source_uri"]).words if failure else None,
        "sentences": line.sentences if line else 0,
        "sections": [[_cut_before(name, _LONGEST_HEADING), start, end] for name, start, end in sections],
        "shift": digits(line.shift) if line else "",
        "surprise": digits(line.surprise) if line else "",
        "summaries": passages.summaries.get(doc_id, []),
        "extractions": passages.extractions.get(doc_id, []),
        "more": passages.left_out.get(doc_id, 0),
    }


class _Passages:
    """Summaries and extractions of the shown documents, so many of each."""

    def __init__(self, run: RunDirectory, doc_ids: frozenset[str], each: int, longest: int) -> None:
        self.left_out: dict[str, int] = {}
        self.summaries = self._few((_summary(row, longest) for row in rows_of(run, "summaries")), doc_ids, each)
        rows = rows_of(run, "extractions")
        texts = _sentence_texts(run, [row["sentence_id"] for row in rows if row["doc_id"] in doc_ids])
        self.extractions = self._few((_extraction(row, texts) for row in rows), doc_ids, each)

    def _few(
        self, found: Iterable[tuple[str, dict[str, Any]]], doc_ids: frozenset[str], each: int
    ) -> dict[str, list[dict[str, Any]]]:
        kept: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for doc_id, item in found:
            if doc_id in doc_ids and len(kept[doc_id]) < each:
                kept[doc_id].append(item)
            elif doc_id in doc_ids:
                self.left_out[doc_id] = self.left_out.get(doc_id, 0) + 1
        return kept


def _summary(row: Mapping[str, Any], longest: int) -> tuple[str, dict[str, Any]]:
    span = {"start": row["char_start"], "end": row["char_end"]}
    first = row["citations"][0] if row["citations"] else None
    if first is not None:
        span = {"start": first["char_start"], "end": row["citations"][-1]["char_end"]}
    item = {"task": row["task"], "level": row["level"], "text": _cut(row["text"] or "", longest), **span}
    return row["doc_id"], item


def _extraction(row: Mapping[str, Any], texts: Mapping[str, tuple[int, str]]) -> tuple[str, dict[str, Any]]:
    start, text = texts.get(row["sentence_id"], (row["char_start"], row["quote"] or ""))
    begin, end = row["char_start"] - start, row["char_end"] - start
    if text[begin:end] != row["quote"]:  # the sentence does not hold all of it
        begin, end, text = 0, len(row["quote"] or ""), row["quote"] or ""
    item = {
        "task": row["task"],
        "field": row["field"],
        "value": _cut(_plain(row["normalized"] or row["value"]), _LONGEST_MESSAGE),
        "quote": text[begin:end],
        "before": ("…" if begin > _CONTEXT else "") + text[max(begin - _CONTEXT, 0) : begin],
        "after": text[end : end + _CONTEXT] + ("…" if end + _CONTEXT < len(text) else ""),
        "start": row["char_start"],
        "end": row["char_end"],
        "page": row["page"],
        "confidence": row["confidence"],
    }
    return row["doc_id"], item


def _plain(value: Any) -> str:
    """A value as people write it: the `value` column holds JSON."""
    try:
        found = json.loads(value) if isinstance(value, str) else value
    except ValueError:
        found = value
    return found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)


def _sentence_texts(run: RunDirectory, ids: Sequence[str | None]) -> dict[str, tuple[int, str]]:
    """Where each of these sentences begins, and its text."""
    wanted = sorted({one for one in ids if one})
    if not wanted:
        return {}
    import pyarrow.dataset as ds

    rows = rows_of(run, "sentences", ds.field("id").isin(wanted), ["id", "char_start", "text"])
    return {row["id"]: (row["char_start"], row["text"]) for row in rows}


def _overview(run: RunDirectory, chars: Mapping[str, int], points: int, arrangement: Arrangement) -> Overview:
    from pipeline.errors import MissingExtraError
    from pipeline.neighbours_map import arranged
    from pipeline.overview import Overview, overview

    folders = [run.output / table for table in ("sentences", "vectors")]
    folder = next((folder for folder in folders if folder.is_dir()), None)
    if folder is None:
        return Overview({}, ())
    try:
        return overview(folder, chars, points, arranged if arrangement == "tsne" else None)
    except MissingExtraError as error:
        raise JobError("REPORT-EXTRA", str(error), exit_code=ExitCode.ENVIRONMENT) from error


def _fewer(sections: list[tuple[str, int, int]], most: int) -> list[tuple[str, int, int]]:
    """At most so many sections: neighbours are joined under the first one's name."""
    width = -(-len(sections) // most) or 1
    groups = [sections[begin : begin + width] for begin in range(0, len(sections), width)]
    return [(group[0][0], group[0][1], group[-1][2]) for group in groups]


def digits(values: Sequence[float]) -> str:
    """Values as one digit of base 36 each, from the smallest to the largest of them."""
    if not values:
        return ""
    low, high = min(values), max(values)
    scale = (len(_DIGITS) - 1) / (high - low) if high > low else 0.0
    return "".join(_DIGITS[round((value - low) * scale)] for value in values)


def _cut(text: str, longest: int) -> str:
    joined = " ".join(text.split())
    return joined if len(joined) <= longest else joined[: longest - 1] + "…"


def _cut_before(path: str, longest: int) -> str:
    """A heading path without its beginning where it is long: what tells sections apart stands at its end."""
    joined = " ".join(path.split())
    return joined if len(joined) <= longest else "…" + joined[1 - longest :]
