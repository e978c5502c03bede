"""Calibration from the documents to a job that uses its profile."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline import calibrate
from pipeline.calibrate import sampled
from pipeline.errors import OptionError
from tests.jobs.project import Project, prose, unspool
from tests.pipeline.readings import save_model
from tests.rwkv_runtime.tiny import tiny_tensors

TEXT = prose(120, seed=4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model without a head, a text, and a profile made of both."""
    folder = tmp_path_factory.mktemp("calibrate")
    save_model(folder / "model", tiny_tensors(vocabulary=16_384, layers=2))
    (folder / "a.txt").write_text(TEXT, "utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calibrate, "PAIRS", 30)
        patch.setattr(calibrate, "SPARE", 60)
        said = unspool(*arguments(folder), "--json")
    assert said.code == 0, said.err
    (folder / "said.json").write_text(said.out, "utf-8")
    return folder


def arguments(folder: Path) -> tuple[str, ...]:
    return ("calibrate", str(folder / "a.txt"), "-m", str(folder / "model"), "-o", str(folder / "best.safetensors"))


def test_the_profile_is_that_of_the_best_kind_that_was_tried(folder: Path) -> None:
    import json

    found = json.loads((folder / "said.json").read_text("utf-8"))
    values = [trial["value"] for trial in found["trials"]]

    assert values == sorted(values, reverse=True) and all(0 < value <= 100 for value in values)
    assert {trial["pooling"] for trial in found["trials"]} == {"isolated", "eol", "echo"}
    assert {trial["map"].split()[0] for trial in found["trials"]} == {"none", "F0", "F1"}
    assert {tuple(trial["layers"]) for trial in found["trials"]} == {(), (1,), (2,)}


def test_a_job_makes_vectors_with_it_and_keeps_to_it(folder: Path, tmp_path: Path) -> None:
    project = Project(tmp_path / "project", a=prose(8))
    task = {"name": "v", "type": "embed", "pooling": "isolated", "profile": str(folder / "best.safetensors")}
    project.write_job(model={"source": str(folder / "model"), "dtype": "fp32"}, tasks=[task])
    assert project.run().code == 0

    table = pq.read_table(project.out / "output" / "sentences")
    vectors = np.array(table["embedding"].to_pylist(), np.float32)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    text = table["text"][3].as_py()
    hits = unspool("search", str(project.out), text, "--json").data
    assert hits[0]["text"] == text and hits[0]["cosine"] > 0.9999
    copy = tmp_path / "moved.safetensors"
    copy.write_bytes((folder / "best.safetensors").read_bytes())
    project.write_job(model={"source": str(folder / "model"), "dtype": "fp32"}, tasks=[task | {"profile": str(copy)}])
    assert project.run().code == 0  # the same profile elsewhere
    copy.write_bytes(b"x" * 100)
    said = project.run()
    assert said.code == 4 and "profile_sha256" in said.err


def test_pairs_with_scores_are_measured_by_their_correlation(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibrate, "SPARE", 40)
    monkeypatch.setattr(calibrate, "WAYS", ("isolated",))
    lines = [f'{{"a": "one {n}", "b": "two {n * n}", "score": {n}}}' for n in range(12)]
    (tmp_path / "pairs.jsonl").write_text("\n".join(lines), "utf-8")
    command = (*arguments(folder)[:-1], str(tmp_path / "p.safetensors"), "--pairs", str(tmp_path / "pairs.jsonl"))

    said = unspool(*command)
    assert said.code == 0 and "correlation with scores" in said.out.splitlines()[0]
    (tmp_path / "pairs.jsonl").write_text('{"a": 1}', "utf-8")
    assert "pairs.jsonl:1" in unspool(*command).err


def test_too_little_text_is_said() -> None:
    with pytest.raises(OptionError, match="1 pairs of sentences are too few to calibrate on"):
        sampled(["A sentence that is long enough.", "Another one that is long enough."])


def test_maps_are_made_of_other_sentences_than_they_are_measured_on() -> None:
    sentences = [f"This is the sentence of number {n} of all." for n in range(2000)]
    sample = sampled(sentences)

    assert len(sample.firsts) == 200 and 200 < len(sample.spare) <= calibrate.SPARE
    assert not {*sample.firsts, *sample.seconds} & {*sample.spare}
