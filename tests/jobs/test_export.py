"""`unspool export`: the tables of a finished run for other tools, whole or not at all."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import duckdb
import pyarrow.dataset as ds
import pytest

from pipeline.sinks import sinks
from tests.jobs.fake_driver import drive, make_corpus, new_run, quick_disk
from tests.jobs.project import contents, unspool

ROWS = {"documents": 5, "failures": 1, "sentences": 36, "summaries": 0}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    make_corpus(folder)
    drive(folder, quick_disk())
    return folder / "run"


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def test_the_help_names_every_sink() -> None:
    said = " ".join(unspool("export", "--help").out.split())

    assert [sink for sink in sinks() if sink not in said] == []


@pytest.mark.parametrize("sink", [name for name in sorted(sinks()) if name != "lance"])
def test_a_run_is_exported_beside_itself_and_left_as_it_was(sink: str, run: Path) -> None:
    before = contents(run)
    said = unspool("export", str(run), "--to", sink, "--json")

    target = run.with_name(f"run{sinks()[sink].SUFFIX}")
    assert (said.code, said.data) == (0, {"target": str(target), "rows": ROWS})
    assert sorted(run.parent.iterdir()) == sorted([run, target])
    assert contents(run) == before


def test_the_target_table_and_dimensions_can_be_chosen(run: Path, tmp_path: Path) -> None:
    target = tmp_path / "new" / "folder" / "vectors.db"
    options = ("-o", str(target), "--table", "sentences", "--dims", "2")

    said = unspool("export", str(run), "--to", "duckdb", *options)

    assert (said.code, said.err) == (0, f"written to {target}: sentences 36 rows\n")
    with duckdb.connect(str(target)) as database:
        assert database.execute("SELECT typeof(embedding), count(*) FROM sentences GROUP BY 1").fetchall() == [
            ("FLOAT[2]", 36)
        ]


def test_rows_come_in_the_order_of_the_output(run: Path) -> None:
    assert unspool("export", str(run), "--to", "jsonl").code == 0

    lines = run.with_name("run.jsonl").joinpath("sentences.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line)["id"] for line in lines] == ds.dataset(run / "output" / "sentences").to_table()[
        "id"
    ].to_pylist()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--to", "excel"], "error[EXPORT-TO] 'excel' is no place to export to; choose one of csv, duckdb, hf,"),
        (["--to", "hf", "--raw"], "error[EXPORT-OPTION] `hf` hands text on as it is; leave --raw out"),
        (["--to", "csv", "--dsn", "x"], "error[EXPORT-OPTION] `csv` is no server; leave --dsn out"),
        (["--to", "pgvector", "--dsn", "x", "-o", "y"], "error[EXPORT-OPTION] rows go into a database (--dsn) or into"),
        (["--to", "csv", "--dims", "9"], "error[EXPORT-DIMS] the vectors of sentences have 4 dimensions, 9 cannot be"),
        (["--to", "csv", "--table", "nope"], "the run has no table 'nope'; it has documents, failures, sentences,"),
        (["--to", "csv", "-o", "{run}"], "{run}: is there already; remove it, or name another place with -o"),
        (["--to", "csv", "-o", "{run}/x"], "{run}/x: lies in the run directory; name a place outside of it with -o"),
        ([], "error[USAGE] Missing option '--to'"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_makes_nothing(options: list[str], message: str, run: Path) -> None:
    said = unspool("export", str(run), *(option.format(run=run) for option in options))

    assert (said.code, said.err.count("\n")) == (2, 1)
    assert message.format(run=run) in said.err
    assert list(run.parent.iterdir()) == [run]


def test_an_unfinished_run_is_not_exported(tmp_path: Path) -> None:
    new_run(tmp_path, quick_disk())

    said = unspool("export", str(tmp_path / "run"), "--to", "csv")

    assert said.code == 6
    assert "error[RUN-NOT-FINISHED]" in said.err
    assert f"`unspool resume {tmp_path / 'run'}` goes on with it" in said.err


def test_damaged_output_is_not_exported(run: Path) -> None:
    path = next((run / "output" / "sentences").iterdir())
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)

    said = unspool("export", str(run), "--to", "csv")

    assert said.code == 6
    assert f"error[RUN-OUTPUT-DAMAGED] {path}: damaged" in said.err
    assert list(run.parent.iterdir()) == [run]


def test_a_package_that_is_missing_is_said_with_the_line_that_installs_it(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "lance", None)

    said = unspool("export", str(run), "--to", "lance")

    assert (said.code, said.err.count("\n")) == (2, 1)
    assert "pip install 'unspool[lance]'" in said.err
    assert list(run.parent.iterdir()) == [run]


def test_an_export_that_fails_in_the_middle_leaves_nothing(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pipeline.sinks.jsonl.plain_rows", full)

    said = unspool("export", str(run), "--to", "jsonl")

    assert said.code == 6
    assert "error[RUN-STORAGE]" in said.err
    assert list(run.parent.iterdir()) == [run]
