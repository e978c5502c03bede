"""Searching, asking and one document at once, through the command line."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import signal
import subprocess
import sys
import zipfile
from datetime import date
from pathlib import Path
from typing import Annotated
from unittest import mock

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import BaseModel, Field

import rwkv_runtime
from jobs import extract
from jobs.errors import JobError
from jobs.oneshot import OneShot, rows_of, run_once
from jobs.run import RunOptions
from pipeline.fields.shipped import names, options_of
from rwkv_runtime import tokenizers
from rwkv_runtime.engine import Engine
from rwkv_runtime.model import Model
from tests.jobs.project import REPOSITORY, TASKS, Project, contents, prose, unspool
from tests.pipeline.samples import archive, parquet
from tests.rwkv_runtime.tiny import tiny_model

KEY = "The brass key of Ines Grantham is kept in locker 376 at Fennwick station."
OTHER = "The inspector who signed the Duskmoor register in that year was Nadia Okonkwo."
QUESTION = "In which locker at Fennwick station is the brass key of Ines Grantham kept?"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A finished run over two documents, one with what is asked for in its middle."""
    text = f"{prose(30)}\n\n{KEY}\n\n{prose(30, seed=1)} It was signed on 3 March 2020 for $5,000."
    project = Project(tmp_path_factory.mktemp("answers") / "project", a=text, b=f"{prose(20, seed=2)}\n\n{OTHER}")
    project.write_job(tasks=[{"name": "vectors", "type": "embed"}, TASKS[2]])
    assert project.run().code == 0
    return project


def document(project: Project) -> Path:
    return project.folder / "docs" / "a.txt"


def test_a_search_finds_the_sentence_with_its_place_and_document(project: Project) -> None:
    said = unspool("search", str(project.out), "brass key locker", "--top", "3", "--json")

    assert (said.code, said.err, len(said.data)) == (0, "", 3)
    first = said.data[0]
    text = document(project).read_text("utf-8")
    assert text[first["char_start"] : first["char_end"]] == first["text"] == KEY
    assert first["document"] == "docs/a.txt"
    assert [hit["score"] for hit in said.data] == sorted((hit["score"] for hit in said.data), reverse=True)


def test_a_search_among_sections_and_windows_finds_the_one_that_holds_the_words(tmp_path: Path) -> None:
    text = f"# One\n\n{prose(8)}\n\n# Two\n\n{KEY} {prose(6, seed=1)}\n\n# Three\n\n{prose(8, seed=2)}"
    project = Project(tmp_path / "units", **{"a.md": text})
    each = [
        {"name": "parts", "type": "embed", "unit": "section", "pooling": "contextual+isolated", "dtype": "binary"},
        {"name": "wide", "type": "embed", "unit": "window", "tokens": 64, "pooling": "contextual+isolated"}
        | {"dtype": "binary"},
    ]
    project.write_job(tasks=each)
    assert project.run().code == 0

    for task, others in ((), ("--task", "wide")), (("--task", "wide"), ()):
        found = unspool("search", str(project.out), "brass key locker", "--json", *task).data
        assert KEY in text[found[0]["char_start"] : found[0]["char_end"]]
        assert found[0]["sentence_id"] not in [
            hit["sentence_id"] for hit in unspool("search", str(project.out), "brass key", "--json", *others).data
        ]
    assert "there are ['parts', 'wide']" in unspool("search", str(project.out), "x", "--task", "parst").err
    assert "the run has no sentences" in unspool("ask", str(project.out), "Where is it?").err
    assert unspool("verify", str(project.out)).code == 0
    exported = tmp_path / "rows.jsonl"
    assert unspool("export", str(project.out), "--to", "jsonl", "-o", str(exported)).code == 0
    rows = [json.loads(line) for line in (exported / "vectors.jsonl").read_text("utf-8").splitlines()]
    assert {row["unit"] for row in rows} == {"section", "window"} and all(len(row["embedding"]) == 192 for row in rows)
    assert '"map":[[' in (project.out / "report.html").read_text("utf-8")


def test_a_search_without_words_or_without_vectors_is_refused(project: Project, tmp_path: Path) -> None:
    other = Project(tmp_path / "other", a=prose(3))
    other.write_job(tasks=[{"name": "terms", "type": "extract"}])
    assert other.run().code == 0

    assert unspool("search", str(project.out), " ").code == 2
    assert "add a task of type embed" in unspool("search", str(other.out), "rain").err


@pytest.mark.parametrize("kind", ["run", "document", "state", "document behind a state"])
def test_an_answer_is_a_quote_of_the_document_with_its_place(project: Project, kind: str) -> None:
    [state] = [path for path in (project.out / "states").glob("*.end.arrow") if _uri(project, path) == "docs/a.txt"]
    target = {"run": project.out, "state": state}.get(kind, document(project))
    more = ["--state", str(state)] if kind == "document behind a state" else []
    before = contents(project.out)
    said = unspool("ask", str(target), QUESTION, "--json", *more)

    assert (said.code, said.err) == (0, "")
    assert said.data["answer"] == KEY
    text = document(project).read_text("utf-8")
    best = said.data["passages"][0]
    assert text[best["char_start"] : best["char_end"]] == KEY
    cited = said.data["citation"]
    assert text[cited["char_start"] : cited["char_end"]] == said.data["answer"]
    assert said.data["passages"][said.data["passage"]]["sentence_id"] == cited["sentence_id"]
    assert 0 < said.data["tokens_read"] < 3000
    assert contents(project.out) == before
    if kind in ("state", "document behind a state"):
        assert said.data["state_sha256"] == hashlib.sha256(state.read_bytes()).hexdigest()


def _uri(project: Project, state: Path) -> str:
    rows = pq.read_table(project.out / "output" / "documents").to_pylist()
    return next(str(row["source_uri"]) for row in rows if state.name.startswith(row["doc_id"]))


def test_a_model_that_writes_copies_words_out_of_the_quote_and_nothing_else(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = tokenizers.load(Path(rwkv_runtime.__file__).parent / "default" / "tokenizer.json")
    model = Model(tiny_model(vocabulary=16384, layers=1, width=32)._network, tokenizer, "tiny")
    monkeypatch.setattr("jobs.answers._load", lambda source, fingerprint: model)
    said = unspool("ask", str(document(project)), QUESTION, "--copy", "--model", "tiny", "--json").data

    cited = said["citation"]
    assert said["method"] == "copied" and said["answer"] == cited["text"] in KEY
    assert document(project).read_text("utf-8")[cited["char_start"] : cited["char_end"]] == said["answer"]


def test_the_model_in_the_box_is_not_asked_to_write(project: Project) -> None:
    for target in (document(project), project.out):
        said = unspool("ask", str(target), QUESTION, "--copy")
        assert (said.code, said.out) == (2, "") and "cannot write" in said.err


def test_a_state_is_asked_about_its_own_document_only(project: Project) -> None:
    [state] = [path for path in (project.out / "states").glob("*.end.arrow") if _uri(project, path) == "docs/a.txt"]

    assert unspool("ask", str(project.out), "Who signed the Duskmoor register?", "--json").data["answer"] == OTHER
    assert unspool("ask", str(state), "Who signed the Duskmoor register?", "--json").data["answer"] is None


def test_an_answer_for_people_names_the_passage_that_it_quotes(project: Project) -> None:
    said = unspool("ask", str(document(project)), QUESTION).out

    place = re.search(r"^A quote from (\[\d\])", said, re.MULTILINE)
    assert place is not None
    [passage] = [lines for lines in re.split(r"^(?=\[\d\])", said, flags=re.MULTILINE) if lines.startswith(place[1])]
    assert KEY in passage


def test_what_is_not_in_the_document_is_not_known(project: Project) -> None:
    said = unspool("ask", str(document(project)), "How many crowns was Quentin Tremaine paid?")

    assert said.code == 0
    assert said.out.startswith("Not in this text")
    assert unspool("ask", str(document(project)), "Where is it?", "--json").data["outcome"] == "absent"


def test_what_may_answer_is_shown_as_unsure_and_is_no_answer(project: Project) -> None:
    question = "Who keeps a silver key at Fennwick?"
    said, shown = (unspool("ask", str(document(project)), question, *more) for more in (["--json"], []))

    assert (said.data["outcome"], said.data["answer"], said.data["citation"]) == ("unsure", None, None)
    assert said.data["passages"][0]["quote"] == KEY
    assert shown.out.startswith("Not sure (confidence ") and KEY in shown.out


def test_what_a_text_is_about_is_said_in_its_own_sentences_and_nothing_is_read(project: Project) -> None:
    said = unspool("ask", str(document(project)), "What is this document about?", "--json").data

    text = document(project).read_text("utf-8")
    assert (said["outcome"], said["method"], said["citation"], said["tokens_read"]) == ("answered", "summary", None, 0)
    assert said["answer"].split("\n") == [
        text[one["char_start"] : one["char_end"]].replace("\n", " ") for one in said["passages"]
    ]


def test_a_value_of_the_kind_that_was_asked_for_has_its_own_place(tmp_path: Path) -> None:
    note = tmp_path / "note.txt"
    note.write_text("Invoice No.: 2024-118\nInvoice date: 3 May 2024\nThe sum of it is the total: $216.00\n", "utf-8")
    said = unspool("ask", str(note), "What is the invoice date?", "--json").data

    value = said["value"]
    assert (value["text"], said["answer"]) == ("3 May 2024", "Invoice date: 3 May 2024")
    assert note.read_text("utf-8")[value["char_start"] : value["char_end"]] == value["text"]
    shown = unspool("ask", str(note), "What is the invoice date?").out
    assert "\nWhat was asked for: 3 May 2024\nA quote from [1]" in shown


def test_a_text_of_one_passage_is_asked_as_a_long_one_is(tmp_path: Path) -> None:
    note = tmp_path / "note.txt"
    note.write_text("The booking ID is IBZY2087. The guest is called Sanjay.", "utf-8")

    assert (
        unspool("ask", str(note), "What is the booking ID?", "--json").data["answer"] == "The booking ID is IBZY2087."
    )
    assert unspool("ask", str(note), "Who won the world cup in 2014?", "--json").data["answer"] is None


@pytest.mark.parametrize("more", [["-m", "default"], ["--state", "x.end.arrow"]])
def test_a_run_heeds_no_model_or_state_of_another_and_says_so(project: Project, more: list[str]) -> None:
    said = unspool("ask", str(project.out), QUESTION, *more)

    assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)
    assert f"leave out {'--model default' if more[0] == '-m' else '--state x.end.arrow'}" in said.err


def test_sentences_of_an_answer_have_the_ids_that_embedding_gives_them(project: Project) -> None:
    cited = unspool("ask", str(document(project)), QUESTION, "--json").data["citation"]
    said = unspool("embed", str(document(project)), "-q")
    rows = [json.loads(line) for line in said.out.splitlines()]

    assert (said.code, said.err) == (0, "")
    assert {row["text"]: row["id"] for row in rows}[cited["text"]] == cited["sentence_id"]


def test_what_is_on_stdin_is_asked_like_a_file(project: Project) -> None:
    with document(project).open(encoding="utf-8") as stdin, mock.patch("sys.stdin", stdin):
        piped = unspool("ask", "-", QUESTION, "--json")
    read = unspool("ask", str(document(project)), QUESTION, "--json")

    assert (piped.code, piped.err) == (0, "")
    assert (piped.data["answer"], piped.data["citation"]["document"]) == (read.data["answer"], "stdin.txt")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["embed", "--unit", "foo"], "error[SPEC-BAD-VALUE] --unit: expected "),
        (["embed", "--pooling", "foo"], "--pooling"),
        (["summarize", "--language", "english!"], "--language"),
        (["extract", "--schema", "{folder}/none.yaml"], "none.yaml: cannot be read"),
        (["extract", "--schema", "{folder}/bad.yaml"], "bad.yaml:1:17: fields[0].name: expected"),
    ],
)
def test_what_is_wrong_with_an_option_is_said_of_it_and_of_no_other_file(
    project: Project, arguments: list[str], says: str
) -> None:
    (project.folder / "bad.yaml").write_text("fields: [{name: 3}]", "utf-8")
    words = [word.format(folder=project.folder) for word in arguments]
    said = unspool(words[0], str(document(project)), *words[1:], "-q")

    assert (said.code, said.out, said.err.count("\n")) == (2, "", 1), said.err
    assert says in said.err
    assert [word for word in ("job.yaml", "tasks[0]", "/unspool-") if word in said.err] == []


def test_what_is_wrong_with_an_argument_in_python_is_said_of_it(project: Project) -> None:
    with pytest.raises(JobError) as caught:
        extract(document(project), {})

    assert "schema" in str(caught.value)
    assert [word for word in ("job.yaml", "tasks[0]", "/unspool-") if word in str(caught.value)] == []


def test_the_help_of_extract_names_every_schema_in_the_box() -> None:
    said = unspool("extract", "--help")

    assert [name for name in names() if f"`{name}`" not in said.out] == []


def test_a_folder_is_no_document_and_says_what_to_do(project: Project) -> None:
    said = unspool("summarize", str(project.folder))

    assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)
    assert "is a folder" in said.err and "unspool init" in said.err


@pytest.mark.parametrize("target", ["nowhere.txt", "x.arrow"])
def test_what_cannot_be_asked_is_refused_in_one_line(tmp_path: Path, target: str) -> None:
    if target.endswith(".arrow"):
        (tmp_path / target).touch()
    said = unspool("ask", str(tmp_path / target), "Why?")

    assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)


def test_one_document_is_extracted_without_a_job_file(project: Project) -> None:
    said = unspool("extract", str(document(project)), "--json", "--no-progress")

    assert said.code == 0
    assert {(row["field"], row["normalized"]) for row in said.data} == {("date", "2020-03-03"), ("money", "USD 5000")}


def test_a_schema_may_be_given_to_extract(project: Project, tmp_path: Path) -> None:
    schema = tmp_path / "fields.yaml"
    schema.write_text("fields: [{name: signed, type: date, cues: [signed on]}]", "utf-8")
    said = unspool("extract", str(document(project)), "--schema", str(schema), "-q")

    assert (said.code, said.err) == (0, "")
    assert said.out.startswith("signed\t2020-03-03\t[")


def test_a_document_is_extracted_from_python_into_a_model_of_ones_own(project: Project) -> None:
    class Signed(BaseModel):
        day: date
        price: Annotated[str | None, Field(json_schema_extra={"x-unspool": {"type": "money"}})] = None

    found = extract(document(project), Signed)

    assert {row["field"]: row["normalized"] for row in found} == {"day": "2020-03-03", "price": "USD 5000"}
    assert extract(document(project), "contract") == extract(str(document(project)), {"fields": options_of("contract")})


def test_one_document_is_summarized_with_sentences_of_its_own(project: Project) -> None:
    said = unspool("summarize", str(document(project)), "--sentences", "2", "-q")

    text = document(project).read_text("utf-8")
    lines = [line for line in said.out.splitlines() if line]
    assert 0 < len(lines) <= 2
    assert all(line in " ".join(text.split()) for line in lines)


@pytest.mark.parametrize("kind", ["summarize", "extract"])
def test_a_task_that_goes_by_words_leaves_the_document_unread_and_its_rows_are_the_same(
    project: Project, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    feeds, feed = [], Engine.feed
    monkeypatch.setattr(Engine, "feed", lambda self, given: feeds.append(given) or feed(self, given))
    shot = OneShot(str(project.folder / "docs" / "b.txt"), {"type": kind})
    with run_once(shot, RunOptions(progress="none")) as result:
        rows = list(rows_of(result, shot.table))
    assert not feeds

    monkeypatch.setattr("pipeline.worker.need_no_model", lambda tasks: False)
    with run_once(shot, RunOptions(progress="none")) as result:
        assert list(rows_of(result, shot.table)) == rows
    assert feeds


def test_text_on_stdin_is_embedded_into_lines_of_json(tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(b"Rain falls. Lamps burn late.")
    with (tmp_path / "text").open(encoding="utf-8") as stdin, mock.patch("sys.stdin", stdin):
        said = unspool("embed", "-", "--dims", "8", "-q")

    rows = [json.loads(line) for line in said.out.splitlines()]
    assert [row["text"] for row in rows] == ["Rain falls.", "Lamps burn late."]
    assert all(len(row["embedding"]) == 8 for row in rows)


@pytest.mark.parametrize("command", [["embed"], ["summarize", "--sections"], ["extract"]])
def test_rows_of_a_text_on_stdin_are_those_of_the_same_text_in_a_file(project: Project, command: list[str]) -> None:
    with document(project).open(encoding="utf-8") as stdin, mock.patch("sys.stdin", stdin):
        piped = unspool(*command, "-", "--json", "-q")
    read = unspool(*command, str(document(project)), "--json", "-q")

    assert (piped.code, piped.err) == (read.code, read.err) == (0, "")
    other = read.data[0]["doc_id"]
    assert json.loads(read.out.replace(other, piped.data[0]["doc_id"])) == piped.data


def test_what_is_no_text_on_stdin_ends_with_its_reason(tmp_path: Path) -> None:
    for content, reason in ((b"", "empty"), (b"%PDF-1.7", "parse_error")):
        (tmp_path / "text").write_bytes(content)
        with (tmp_path / "text").open(encoding="utf-8") as stdin, mock.patch("sys.stdin", stdin):
            said = unspool("embed", "-", "-q")

        assert (said.code, said.out, said.err.count("\n"), reason in said.err) == (3, "", 1, True), said.err


def test_rows_of_an_endless_text_come_while_it_goes_on_and_a_signal_ends_it_in_good_order() -> None:
    text = prose(100)
    program = "import jobs.cli, jobs.oneshot; jobs.oneshot.processors = lambda: 1; jobs.cli.main()"
    command = [sys.executable, "-c", program, "embed", "-", "--language", "en", "-q"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=REPOSITORY, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdin and process.stdout and process.stderr
        process.stdin.write(text)
        process.stdin.flush()
        first = json.loads(process.stdout.readline())  # the pipe is still open
        process.send_signal(signal.SIGINT)
        rows = [first, *map(json.loads, process.stdout.read().splitlines())]
        said = process.stderr.read()

    assert (process.returncode, said) == (0, "")
    assert rows[-1]["char_end"] == len(text.rstrip())  # all that had come


@pytest.mark.parametrize("name", ["none/rows.parquet", "none/rows.jsonl"])
def test_rows_for_a_folder_that_is_not_there_are_refused_before_anything_is_read(
    project: Project, tmp_path: Path, name: str
) -> None:
    said = unspool("embed", str(document(project)), "-o", str(tmp_path / name))

    assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)
    assert f"the folder {tmp_path / 'none'} does not exist; make it, or choose another" in said.err


@pytest.mark.parametrize("name", ["rows.parquet", "rows.jsonl"])
def test_rows_may_go_into_a_file(project: Project, tmp_path: Path, name: str) -> None:
    target = tmp_path / name
    said = unspool("extract", str(document(project)), "-o", str(target), "--no-progress")

    assert (said.code, said.out) == (0, "")
    is_parquet = name.endswith("t")
    rows = (
        pq.read_table(target).to_pylist()
        if is_parquet
        else [json.loads(x) for x in target.read_text("utf-8").splitlines()]
    )
    assert [row["field"] for row in rows] == ["date", "money"]


def test_a_file_of_another_kind_is_refused_before_anything_is_read(project: Project, tmp_path: Path) -> None:
    said = unspool("extract", str(document(project)), "-o", str(tmp_path / "rows.csv"))

    assert (said.code, said.out) == (2, "")
    assert "end it in .parquet or .jsonl" in said.err
    assert not (tmp_path / "rows.csv").exists()


def test_a_packed_document_is_read_and_two_packed_ones_that_cannot_be_are_told_in_one_line(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.zip", tmp_path / "bad.zip"
    for path, content in ((good, "Rain falls."), (bad, "")):
        with zipfile.ZipFile(path, "w") as made:
            made.writestr("one.txt", content)
            made.writestr("two.txt", content)
    read, refused = unspool("embed", str(good), "-q"), unspool("embed", str(bad), "-q")

    assert (read.code, read.err, len(read.out.splitlines())) == (0, "", 2)
    assert refused.code == 3
    assert refused.err.count("error[DOCUMENT]") == 1 and "1 more" in refused.err


def test_a_document_that_cannot_be_read_ends_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").touch()
    said = unspool("summarize", str(tmp_path / "empty.txt"), "-q")

    assert (said.code, said.out) == (3, "")
    assert "empty" in said.err and said.err.count("\n") == 1
    assert unspool("summarize", str(tmp_path / "missing.txt")).code == 2


@pytest.mark.parametrize(
    ("name", "data", "option"),
    [
        ("records.jsonl", b'{"body": "It rains."}\n', "inputs.text_key"),
        ("rows.csv", b"body,title\nIt rains.,One\n", "inputs.text_key"),
        ("rows.parquet", parquet(pa.table({"body": ["It rains."]})), "inputs.text_key"),
        ("wide.txt", "It rains. ".encode("utf-16-le") * 9, "inputs.encoding"),
    ],
)
def test_one_document_that_needs_an_option_of_a_job_says_that_it_is_one_of_a_job_file(
    tmp_path: Path, name: str, data: bytes, option: str
) -> None:
    (tmp_path / name).write_bytes(data)
    for command in (["ask", str(tmp_path / name), QUESTION], ["summarize", str(tmp_path / name), "-q"]):
        said = unspool(*command)

        assert (said.code, said.out, said.err.count("\n")) == (3, "", 1)
        assert "in a job file" in said.err and option in said.err


def test_a_file_of_many_documents_is_asked_as_all_of_them(tmp_path: Path) -> None:
    records = tmp_path / "records.jsonl"
    records.write_text("".join(json.dumps({"text": text}) + "\n" for text in (prose(9), KEY, OTHER)), "utf-8")
    with zipfile.ZipFile(tmp_path / "texts.zip", "w") as archive:
        archive.writestr("other.txt", prose(9))
        archive.writestr("key.txt", KEY)

    for path, name in ((records, "records.jsonl#2"), (tmp_path / "texts.zip", "texts.zip#key.txt")):
        found = unspool("ask", str(path), QUESTION, "--json").data
        assert "376" in found["answer"] and found["citation"]["document"].endswith(name)


def test_a_state_is_of_one_document_and_not_of_many(project: Project, tmp_path: Path) -> None:
    (tmp_path / "records.jsonl").write_text(json.dumps({"text": KEY}) + "\n" + json.dumps({"text": OTHER}), "utf-8")
    state = next((project.out / "states").glob("*.end.arrow"))
    said = unspool("ask", str(tmp_path / "records.jsonl"), QUESTION, "--state", str(state))
    assert (said.code, "holds 2 documents" in said.err) == (2, True)


def test_a_document_whose_name_is_not_utf8_is_extracted_like_any_other(project: Project, tmp_path: Path) -> None:
    path = tmp_path / "caf\udce9.txt"
    path.write_bytes(document(project).read_bytes())
    said = unspool("extract", str(path), "--json", "-q")
    assert (said.code, len(said.data)) == (0, 2), said.err


def two_of(kind: str) -> bytes:
    """A file of two documents: what else was said, and the key."""
    if kind == "zip":
        return archive({"1.txt": OTHER, "2.txt": KEY})
    if kind == "mbox":
        return "".join(f"From a@b Mon Jan  1 00:00:00 2024\nFrom: a@b\n\n{text}\n\n" for text in (OTHER, KEY)).encode()
    if kind == "csv":
        return f"text\n{OTHER}\n{KEY}\n".encode()
    if kind == "parquet":
        return parquet(pa.table({"text": [OTHER, KEY]}))
    lines = "".join(json.dumps({"text": text}) + "\n" for text in (OTHER, KEY)).encode()
    return gzip.compress(lines) if kind == "jsonl.gz" else lines


@pytest.mark.parametrize("kind", ["zip", "mbox", "csv", "parquet", "jsonl", "jsonl.gz"])
def test_a_file_of_many_documents_whose_name_is_not_utf8_is_asked_and_read(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"caf\udce9.{kind}"
    path.write_bytes(two_of(kind))
    asked = unspool("ask", str(path), QUESTION, "--json")
    read = unspool("summarize", str(path), "--json", "-q")

    assert asked.code == 0, asked.err
    assert "376" in asked.data["answer"]
    assert f"/caf\\xe9.{kind}#" in asked.data["citation"]["document"]
    assert (read.code, len(read.data)) == (0, 2), read.err
    assert all(text in row["text"] for text, row in zip((OTHER, KEY), read.data, strict=True))


def test_of_a_file_of_many_documents_those_that_can_be_read_are_and_the_others_named(tmp_path: Path) -> None:
    records = tmp_path / "records.jsonl"
    records.write_text('{"text": "Signed on 3 March 2020."}\n{broken\n{"text": "Due on 4 April 2021."}\n', "utf-8")
    target = tmp_path / "rows.jsonl"

    said = unspool("extract", str(records), "--json", "-q")
    kept = unspool("extract", str(records), "-o", str(target), "-q")

    assert (said.code, [row["normalized"] for row in said.data]) == (3, ["2020-03-03", "2021-04-04"])
    assert (said.err.count("\n"), "parse_error" in said.err) == (1, True)
    assert (kept.code, target.read_text("utf-8").count("\n")) == (3, 2)
