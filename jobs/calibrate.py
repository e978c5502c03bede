"""Calibration for people: documents are read into sentences, every kind of vectors is tried, a profile is written.

Turns what the pipeline and the runtime refuse into exit codes. Importing it loads no torch.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from jobs.answers import document_errors, reference
from jobs.errors import usage_error
from jobs.models import model_errors
from jobs.run_directory import storage_errors
from pipeline.durable import Disk, sha256_file
from pipeline.errors import OptionError

if TYPE_CHECKING:
    from pipeline.calibrate import Calibration, Trial
    from rwkv_runtime.tokenizers import Tokenizer

_SHOWN: Final = 8
_MOST_SENTENCES: Final = 20_000


@dataclass(frozen=True)
class Calibrated:
    """What was found, and the profile that was written."""

    calibration: Calibration
    path: Path
    sha256: str
    seconds: float

    def to_json(self) -> dict[str, Any]:
        found = self.calibration
        return {
            "profile": str(self.path),
            "sha256": self.sha256,
            "measure": found.measure,
            "seconds": round(self.seconds, 1),
            "trials": [asdict(trial) for trial in found.trials],
        }


def calibrate(documents: Sequence[Path], source: str, pairs: Path | None, target: Path) -> Calibrated:
    """Try every kind of vectors on some documents and write the profile of the best.

    Raises JobError: exit 2 (too little text, wrong pairs), 3 (a document), 6 (the target), 7 (the model).
    """
    began = time.monotonic()
    scored = [] if pairs is None else list(_pairs(pairs))
    with model_errors():
        import rwkv_runtime
        from pipeline.calibrate import calibrate as tried
        from pipeline.calibrate import sampled

        model = rwkv_runtime.load(source)
        sentences = [one for path in documents for one in _sentences(path, model.tokenizer)]
        try:
            found = tried(model, sampled(sentences[:_MOST_SENTENCES], scored))
        except OptionError as error:
            raise usage_error("CALIBRATE", f"{error}; give longer documents") from error
    with storage_errors(target):
        target.write_bytes(found.profile.to_bytes())
    return Calibrated(found, target, sha256_file(target), time.monotonic() - began)


def lines_of(found: Calibrated) -> Iterator[str]:
    """What was found, for a terminal: the best kinds, the plain one, and what to write into a job."""
    from pipeline.calibrate import with_best_first

    yield f"{'layers':>8} {'read':>10} {'map':<22} {found.calibration.measure}"
    for trial in with_best_first(found.calibration.trials, _SHOWN):
        yield _line(trial)
    best = found.calibration.profile
    yield f"written to {found.path}; for a task of type embed:"
    yield f"  {{name: vectors, type: embed, pooling: {best.pooling}, profile: {found.path}}}"


def _line(trial: Trial) -> str:
    layers = ", ".join(map(str, trial.layers)) or "usual"
    return f"{layers:>8} {trial.pooling:>10} {trial.map:<22} {trial.value:.2f}"


def _sentences(path: Path, tokenizer: Tokenizer) -> list[str]:
    if not path.is_file():
        raise usage_error("NO-INPUT", "no such file; give the paths of documents", str(path))
    with tempfile.TemporaryDirectory(prefix="unspool-calibrate-") as scratch, document_errors(path):
        from pipeline.answers.lines import lines_of_document
        from pipeline.formats import open_document
        from pipeline.text_store import TextStore

        document = open_document(reference(path), TextStore(Path(scratch), Disk()))
        return [line.text for line in lines_of_document(document, tokenizer)]


def _pairs(path: Path) -> Iterator[tuple[str, str, float]]:
    """Pairs of sentences with scores: a JSON object a line, with `a`, `b` and `score`."""
    with storage_errors(path):
        lines = path.read_text("utf-8").splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            found = json.loads(line)
            yield str(found["a"]), str(found["b"]), float(found["score"])
        except (ValueError, TypeError, KeyError) as error:
            message = "is no JSON object with a, b and score; write one a line"
            raise usage_error("CALIBRATE-PAIRS", message, f"{path}:{number}") from error
