"""A whole run over the shipped model: the same bytes however it was interrupted, and tables that others can read."""

from __future__ import annotations

import io
import json
import signal
from itertools import pairwise
from pathlib import Path
from typing import Any

import duckdb
import polars
import pyarrow.parquet as pq
import pytest
from rich.console import Console

import jobs
from jobs.errors import ExitCode, JobError
from jobs.progress import Tally
from jobs.run import RunOptions, _display
from pipeline.durable import TEMPORARY
from pipeline.tables import unit_vectors
from rwkv_runtime import State, load
from tests.jobs.project import Project, contents, events, finish, prose, start, unspool, wait_for_event

TABLES = ("contexts", "documents", "failures", "sentences", "summaries")
ODD_TEXT = "\ufeffDas ist ein Satz. Ein zweiter, mit Umlauten: äöü!\r\n\r\n𝔘nd 日本語 dazu. “Quoted.” No end"
DIMENSIONS = 384


def make(folder: Path) -> Project:
    """Documents of several kinds; the largest takes several checkpoints, one cannot be read."""
    project = Project(folder, a=prose(40), odd=ODD_TEXT, empty="")
    project.document("b.md", f"# One\n\n{prose(6, seed=1)}\n\n## Two\n\n{prose(8, seed=2)}")
    return project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return make(tmp_path / "project")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A run that nothing disturbed, to be looked at only."""
    project = make(tmp_path_factory.mktemp("run") / "project")
    assert project.run().code == 3
    return project


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.run.processors", lambda: 1)


def rows(project: Project, table: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(project.out / "output" / table).to_pylist()
    return found


def text_of(project: Project, uri: str) -> str:
    """The text of a document as a table's spans count it: without a byte order mark."""
    return (project.folder / uri).read_bytes().decode("utf-8").removeprefix("\ufeff")


def results(project: Project) -> dict[str, str]:
    return contents(project.out / "output") | contents(project.out / "states")


# What a run makes ----------------------------------------------------------------------------------------------------


def test_every_sentence_stands_at_its_byte_and_character_span(finished: Project) -> None:
    uris = {row["doc_id"]: row["source_uri"] for row in rows(finished, "documents")}
    sentences = rows(finished, "sentences")

    assert len(sentences) > 50
    for row in sentences:
        text = text_of(finished, uris[row["doc_id"]])
        assert text[row["char_start"] : row["char_end"]] == row["text"]
        assert text.encode()[row["byte_start"] : row["byte_end"]] == row["text"].encode()


def test_the_sentences_of_a_document_hold_all_of_it_but_white_space(finished: Project) -> None:
    for document in rows(finished, "documents"):
        if document["status"] == "ok":
            text = text_of(finished, document["source_uri"])
            said = [row["text"] for row in rows(finished, "sentences") if row["doc_id"] == document["doc_id"]]
            assert "".join("".join(said).split()) == "".join(text.split())


def test_token_spans_meet_without_a_gap_and_count_the_tokens_of_the_encoding(finished: Project) -> None:
    tokenizer = load("default").tokenizer
    for document in rows(finished, "documents"):
        if document["status"] == "ok":
            spans = [row for row in rows(finished, "sentences") if row["doc_id"] == document["doc_id"]]
            assert spans[0]["token_start"] == 0
            assert all(a["token_end"] == b["token_start"] for a, b in pairwise(spans))
            assert document["tokens"] == len(tokenizer.encode(text_of(finished, document["source_uri"])))
            assert spans[-1]["token_end"] <= document["tokens"] == document["tokens_read"]


def test_documents_that_were_read_have_a_coverage_of_one_and_the_others_say_why_not(finished: Project) -> None:
    documents = {row["source_uri"]: row for row in rows(finished, "documents")}

    assert list(documents) == ["docs/a.txt", "docs/b.md", "docs/empty.txt", "docs/odd.txt"]
    for uri, row in documents.items():
        expected = (
            ("failed", 0.0, None) if uri == "docs/empty.txt" else ("ok", 1.0, f"states/{row['doc_id']}.end.arrow")
        )
        assert (row["status"], row["coverage"], row["state_path"]) == expected
    assert documents["docs/odd.txt"]["chars"] == len(text_of(finished, "docs/odd.txt"))
    assert [row["source_uri"] for row in rows(finished, "failures")] == ["docs/empty.txt"]


def test_summaries_are_sentences_of_the_document_with_their_spans(finished: Project) -> None:
    uris = {row["doc_id"]: row["source_uri"] for row in rows(finished, "documents")}
    sentences = {row["id"]: row for row in rows(finished, "sentences")}
    summaries = rows(finished, "summaries")

    assert {row["level"] for row in summaries} == {"section", "document"}
    for row in summaries:
        text = text_of(finished, uris[row["doc_id"]])
        assert 1 <= len(row["citations"]) <= 3
        for cited in row["citations"]:
            quoted = text[cited["char_start"] : cited["char_end"]]
            assert quoted in row["text"]
            assert quoted == sentences[cited["sentence_id"]]["text"]
            assert row["char_start"] <= cited["char_start"] < cited["char_end"] <= row["char_end"]


def test_topics_are_sections_of_a_text_without_headings_if_the_job_asks_for_them(tmp_path: Path) -> None:
    project = make(tmp_path / "project")
    assert project.run("--set", "split.sections=topics").code == 3
    uris = {row["source_uri"]: row["doc_id"] for row in rows(project, "documents")}

    sections = {
        uri: {row["section"] for row in rows(project, "sentences") if row["doc_id"] == doc_id}
        for uri, doc_id in uris.items()
    }

    assert sections["docs/a.txt"] == {"topic 1"}
    assert sections["docs/b.md"] == {"One", "One > Two"}


def test_kept_states_are_those_of_reading_the_text_at_once(finished: Project) -> None:
    model = load("default")
    for document in rows(finished, "documents"):
        if document["status"] == "ok":
            kept = State.from_arrow(finished.out / document["state_path"], model)
            tokens = model.tokenizer.encode(text_of(finished, document["source_uri"]))
            whole = model.forward(tokens, model.initial_state(), logits="none").state
            assert kept.tokens_seen == len(tokens)
            for name, tensor in whole.tensors.items():
                distance = (kept.tensors[name] - tensor).norm() / tensor.norm()
                assert distance < 1e-4, name


def test_duckdb_reads_the_vectors_and_their_lengths(finished: Project) -> None:
    files = f"{finished.out}/output/sentences/*.parquet"
    query = f"SELECT count(*), min(len(embedding)), max(len(embedding)), count(DISTINCT id) FROM '{files}'"

    [(count, shortest, longest, ids)] = duckdb.sql(query).fetchall()

    assert (shortest, longest) == (DIMENSIONS, DIMENSIONS)
    assert count == ids == len(rows(finished, "sentences"))


def test_polars_reads_the_vectors_as_arrays_of_length_one(finished: Project) -> None:
    table = polars.read_parquet(finished.out / "output" / "sentences" / "*.parquet")

    assert table.schema["embedding"] == polars.Array(polars.Float32, DIMENSIONS)
    vectors = table["embedding"].to_numpy()
    assert abs((vectors**2).sum(axis=1) - 1).max() < 1e-5


@pytest.mark.parametrize(("dtype", "numbers"), [("float16", polars.Float16), ("int8", polars.Int8)])
def test_smaller_vectors_are_read_back_as_the_numbers_asked_for(
    tmp_path: Path, dtype: str, numbers: type[polars.DataType]
) -> None:
    project = Project(tmp_path / "project", a=prose(5))
    project.write_job(tasks=[{"name": "vectors", "type": "embed", "dims": 64, "dtype": dtype}])

    assert project.run().code == 0
    table = polars.read_parquet(project.out / "output" / "sentences" / "*.parquet")
    assert table.schema["embedding"] == polars.Array(numbers, 64)
    vectors = unit_vectors(table["embedding"].to_arrow(), 64)
    assert abs((vectors**2).sum(axis=1) - 1).max() < 0.05


def test_the_python_surface_opens_the_tables_of_a_run(finished: Project) -> None:
    result = jobs.open_run(finished.out)

    assert (result.exit_code, result.documents, result.failed) == (3, 4, 1)
    for table in TABLES:
        assert result.table(table).count_rows() == len(rows(finished, table))
    with pytest.raises(
        JobError, match="no table `sentence`; there are contexts, documents, failures, sentences, summaries"
    ):
        result.table("sentence")


def test_opening_what_is_no_run_says_so(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="no run directory") as caught:
        jobs.open_run(tmp_path / "none")

    assert caught.value.exit_code == 6


# Again and elsewhere -------------------------------------------------------------------------------------------------


def test_a_finished_run_has_nothing_to_do_and_stays_as_it_is(project: Project) -> None:
    (project.folder / "docs" / "empty.txt").unlink()
    assert project.run().code == 0
    before = results(project)

    said = project.run()

    assert said.code == 0
    assert "3 of 3 documents are done" in said.err and "nothing was left to read" in said.err
    assert results(project) == before


def test_the_python_surface_runs_and_resumes_as_the_command_does(project: Project, finished: Project) -> None:
    ran = jobs.run_job(project.job)
    again = jobs.resume_run(project.out)

    assert (ran.exit_code, again.exit_code) == (ExitCode.FAILURES, ExitCode.FAILURES)
    assert ran.tokens == ran.tokens_fed == again.tokens > 0
    assert (again.tokens_fed, again.path) == (0, ran.path)
    assert project.output() == finished.output()


def test_a_copied_project_makes_the_same_bytes_in_another_folder(finished: Project, tmp_path: Path) -> None:
    copy = make(tmp_path / "somewhere" / "else")

    assert copy.run().code == 3

    assert results(copy) == results(finished)


def test_lanes_and_checkpoints_change_no_byte(finished: Project, project: Project) -> None:
    checkpoint = {"every": {"tokens": 1_000_000, "seconds": 3600}}
    project.write_job(run={"workers": 0, "window": 64, "lanes": 3}, checkpoint=checkpoint)

    assert project.run().code == 3

    assert project.output() == finished.output()


def test_a_limit_reads_the_first_documents_of_the_list(project: Project) -> None:
    assert project.run("--limit", "2").code == 0

    assert [row["source_uri"] for row in rows(project, "documents")] == ["docs/a.txt", "docs/b.md"]


def test_mode_overwrite_starts_anew_and_keeps_nothing(project: Project, finished: Project) -> None:
    project.run("--set", "tasks.gist.max_sentences=1")
    before = json.loads((project.out / "run.json").read_bytes().splitlines()[0])["run_id"]

    assert project.run("--set", "output.mode=overwrite").code == 3

    assert json.loads((project.out / "run.json").read_bytes().splitlines()[0])["run_id"] != before
    assert project.output() == finished.output()
    assert [path.name for path in project.folder.iterdir() if TEMPORARY in path.name] == []


def test_mode_error_starts_once_and_never_again(project: Project) -> None:
    assert project.run("--set", "output.mode=error").code == 3

    assert project.run("--set", "output.mode=error").code == 2


def test_new_and_changed_inputs_are_noted_and_the_run_goes_on_with_its_own(project: Project) -> None:
    assert project.run(faults="checkpoint.after_write=raise:EIO@1").code == 6
    project.document("new.txt", "Came later.")
    project.document("odd.txt", "Is another now.")

    said = project.run()

    assert said.code == 3
    assert "note: 1 new file(s) match the inputs" in said.err
    assert "note: 1 input(s) have changed since the run was started, the first is docs/odd.txt" in said.err
    assert "docs/new.txt" not in {row["source_uri"] for row in rows(project, "documents")}


def test_a_run_is_resumed_from_its_folder_alone(project: Project, finished: Project) -> None:
    assert project.run(faults="checkpoint.after_write=raise:EIO@3").code == 6
    project.job.unlink()

    assert unspool("resume", str(project.out), "--no-progress").code == 3

    assert results(project) == results(finished)


def test_a_project_that_is_moved_in_the_middle_of_a_run_goes_on_where_it_is_now(
    project: Project, finished: Project
) -> None:
    assert project.run(faults="checkpoint.after_write=raise:EIO@3").code == 6
    project.folder = project.folder.rename(project.folder.with_name("moved"))

    assert project.run().code == 3

    assert results(project) == results(finished)


def test_a_finished_run_is_all_there_after_its_inputs_are_gone(project: Project) -> None:
    assert project.run().code == 3
    project.out.rename(project.folder.with_name("kept"))
    kept = project.folder.with_name("kept")
    project.folder.rename(project.folder.with_name("gone"))

    for command in ("resume", "verify", "status"):
        assert unspool(command, str(kept)).code == (3 if command == "resume" else 0)


# Interrupted ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [
        "checkpoint.before_write=kill@3",
        "checkpoint.after_write=kill@4",
        "part.after_write=kill@2",
        "commit.after_link=kill@6",
        "finalize.after_rename=kill",
    ],
)
def test_a_run_that_is_killed_makes_the_same_bytes_when_it_goes_on(
    project: Project, finished: Project, fault: str
) -> None:
    killed = finish(start("run", str(project.job), "--quiet", faults=fault))
    assert killed.code == -signal.SIGKILL

    assert project.run().code == 3

    assert results(project) == results(finished)
    assert unspool("verify", str(project.out)).code == 0


def test_each_life_of_a_run_goes_on_from_the_newest_checkpoint(project: Project, finished: Project) -> None:
    for _ in range(2):  # each saves once, and dies while it saves again
        assert project.run(faults="checkpoint.before_write=raise:EIO@2").code == 6
    whole = len(load("default").tokenizer.encode(text_of(project, "docs/a.txt")))

    assert project.run().code == 3

    [done] = [event for event in events(project.out) if event.get("doc_id") and event["tokens"] == whole]
    assert done["tokens_fed"] == whole - 2 * 128
    assert results(project) == results(finished)


def test_a_run_that_is_asked_to_stop_saves_and_goes_on_with_the_same_bytes(tmp_path: Path) -> None:
    project, whole = (Project(tmp_path / name, a=prose(120), b=prose(5, seed=1)) for name in ("stopped", "whole"))
    for each in (project, whole):  # nothing is saved but by being asked to stop
        each.write_job(checkpoint={"every": {"tokens": 1_000_000, "seconds": 3600}})
    process = start("run", str(project.job), "--json")
    wait_for_event(project.out, "worker_ready", process)
    process.send_signal(signal.SIGTERM)

    said = finish(process)

    assert (said.code, said.data["exit_code"]) == (75, 75)
    assert "interrupted after a checkpoint; to go on: unspool resume" in said.err
    now = unspool("status", str(project.out), "--json").data
    assert (now["state"], now["done"], [document["uri"] for document in now["open"]]) == ("stopped", 0, ["docs/a.txt"])
    assert not (project.out / "output").exists()
    again = project.run("--json")
    assert (again.code, whole.run().code) == (0, 0)
    assert said.data["tokens_fed"] + again.data["tokens_fed"] == again.data["tokens"]
    assert results(project) == results(whole)


# Damaged -------------------------------------------------------------------------------------------------------------


def flip(path: Path) -> None:
    """Change one bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_a_run_as_it_was_left_passes_verify(finished: Project) -> None:
    said = unspool("verify", str(finished.out))

    assert (said.code, said.out) == (0, "")
    assert unspool("verify", str(finished.out), "--json").data["differences"] == []


@pytest.mark.parametrize(
    "pattern",
    ["output/sentences/*.parquet", "output/README.md", "parts/*/*.parquet", "parts/states/*", "states/*.end.arrow"],
)
def test_a_flipped_bit_is_found_by_verify(project: Project, pattern: str) -> None:
    project.run()
    damaged = sorted(project.out.glob(pattern))[0]
    flip(damaged)

    said = unspool("verify", str(project.out))

    assert (said.code, said.out, said.err.count("error[")) == (6, "", 1)
    assert said.err.splitlines()[-1].startswith("error[VERIFY]")
    assert damaged.name in said.err


def test_a_flipped_bit_in_a_checkpoint_is_found_by_verify_and_the_run_goes_on_before_it(
    project: Project, finished: Project
) -> None:
    project.run(faults="checkpoint.after_write=raise:EIO@3")
    *_, newest = sorted(project.out.glob("checkpoints/*/*.arrow"))
    flip(newest)

    assert unspool("verify", str(project.out)).code == 6
    assert project.run().code == 3

    done = [event for event in events(project.out) if event["event"] == "document_done"]
    assert 256 in [event["tokens"] - event["tokens_fed"] for event in done]  # the damaged one stood at 384
    assert results(project) == results(finished)


def test_a_damaged_part_is_noticed_on_resuming_and_its_document_is_read_again(
    project: Project, finished: Project
) -> None:
    assert project.run(faults="finalize.before_rename=raise:EIO").code == 6
    flip(sorted(project.out.glob("parts/sentences/*.parquet"))[0])

    said = project.run()

    assert said.code == 3
    assert "warning: 1 finished document(s) have damaged parts and are read again" in said.err
    assert results(project) == results(finished)
    assert unspool("verify", str(project.out)).code == 0


def test_a_damaged_part_of_a_finished_run_is_mended_by_running_again(project: Project, finished: Project) -> None:
    project.run()
    for part in project.out.glob("parts/sentences/*.parquet"):
        part.unlink()

    said = project.run()

    assert said.code == 3
    assert "warning: 3 finished document(s) have damaged parts" in said.err
    assert [path.name for path in project.out.iterdir() if TEMPORARY in path.name] == []
    assert results(project) == results(finished)
    assert unspool("verify", str(project.out)).code == 0


def test_the_faults_that_tests_ask_for_can_be_given_from_python_too(project: Project) -> None:
    with pytest.raises(JobError, match=r"injected at checkpoint\.after_write"):
        jobs.run_job(project.job, options=RunOptions(progress="none", faults="checkpoint.after_write=raise:EIO"))


def test_with_no_progress_nothing_is_drawn_and_what_must_be_said_is_said() -> None:
    written = io.StringIO()
    display = _display(RunOptions(progress="silent", console=Console(file=written, force_terminal=True)))
    display.draw(Tally({}, {}, {}))
    assert written.getvalue() == ""
    display.say("a word")
    assert "a word" in written.getvalue()
