"""Where tables are handed on to: each result is opened by whoever it is for, and holds the rows of the run."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import MissingExtraError, OptionError, SinkError
from pipeline.exported import Dataset, SinkOptions, open_table, plain_rows
from pipeline.sinks import pgvector, sinks
from pipeline.sinks.csv import harmless
from tests.pipeline.exports import (
    documents,
    hard_dataset,
    in_float32,
    postgres,
    postgres_programs,
    rows_in,
    sentences,
    stored,
)

PROGRAMS = postgres_programs()


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return hard_dataset(tmp_path / "run")


def written(dataset: Dataset, sink: str, folder: Path, raw: bool = False) -> Path:
    target = folder / f"target{sinks()[sink].SUFFIX}"
    sinks()[sink].write(dataset, target, SinkOptions(raw))
    return target


def sorted_pairs(row: dict[str, Any]) -> dict[str, Any]:
    """A row whose metadata, a list of {key, value}, is an object again."""
    pairs = row.get("metadata")
    return row if pairs is None else {**row, "metadata": {pair["key"]: pair["value"] for pair in pairs}}


@pytest.mark.parametrize("sink", sorted(sinks()))
def test_a_sink_makes_one_target_and_never_writes_over_another(sink: str, dataset: Dataset, tmp_path: Path) -> None:
    if sink == "lance":
        pytest.importorskip("lance", reason="pylance is not installed: pip install 'unspool[lance]'")
    before = set(tmp_path.iterdir())
    target = written(dataset, sink, tmp_path)

    assert set(tmp_path.iterdir()) - before == {target}
    with pytest.raises((OSError, SinkError)):
        written(dataset, sink, tmp_path)


def test_json_lines_hold_every_row(dataset: Dataset, tmp_path: Path) -> None:
    target = written(dataset, "jsonl", tmp_path)

    for table in dataset.tables:
        lines = (target / f"{table.name}.jsonl").read_text("utf-8").split("\n")[:-1]
        assert in_float32([json.loads(line) for line in lines]) == rows_in(table)


def csv_rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def as_cell(value: object) -> str:
    """What the csv module of the standard library makes of a value of ours."""
    return (
        "" if value is None else json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else str(value)
    )


def test_raw_csv_holds_every_row(dataset: Dataset, tmp_path: Path) -> None:
    target = written(dataset, "csv", tmp_path, raw=True)

    for table in dataset.tables:
        found = csv_rows(target / f"{table.name}.csv")
        for row in found:
            row.update({name: str(np.float32(row[name])) for name in ("nll",) if row.get(name)})
            if "embedding" in row:
                row["embedding"] = as_cell(np.float32(json.loads(row["embedding"])).tolist())
        expected = [{name: as_cell(cell) for name, cell in row.items()} for row in rows_in(table)]
        for row in expected:
            row.update({name: str(np.float32(row[name])) for name in ("nll",) if row.get(name)})
        assert found == expected


def test_no_text_of_a_document_is_a_formula_in_csv(dataset: Dataset, tmp_path: Path) -> None:
    target = written(dataset, "csv", tmp_path)
    texts = [row["text"] for row in csv_rows(target / "sentences.csv")]

    assert [text for text in texts if text.startswith(("=", "+", "-", "@", "\t", "\r"))] == []
    assert {"'=1+1", "'@SUM(A1)", "plain", "'quoted'"} <= set(texts)
    assert {"'=section", ""} == {row["section"] for row in csv_rows(target / "sentences.csv")}


@given(st.text())
def test_text_made_harmless_is_the_text_behind_at_most_an_apostrophe(text: str) -> None:
    assert harmless(text) in (text, f"'{text}")
    assert not harmless(text).startswith(("=", "+", "-", "@", "\t", "\r"))


def test_polars_reads_the_csv_and_the_json_lines(dataset: Dataset, tmp_path: Path) -> None:
    rows = rows_in(dataset.tables[2])
    frames = [
        polars.read_csv(written(dataset, "csv", tmp_path, raw=True) / "sentences.csv", infer_schema_length=None),
        polars.read_ndjson(written(dataset, "jsonl", tmp_path) / "sentences.jsonl", infer_schema_length=None),
    ]

    for frame in frames:
        assert frame["text"].fill_null("").to_list() == [row["text"] for row in rows]
        assert frame["byte_start"].to_list() == [row["byte_start"] for row in rows]


def test_duckdb_opens_its_file_with_vectors_as_arrays(dataset: Dataset, tmp_path: Path) -> None:
    target = written(dataset, "duckdb", tmp_path)

    with duckdb.connect(str(target), read_only=True) as database:
        for table in dataset.tables:
            found = database.execute(f'SELECT * FROM "{table.name}"')
            names = [column[0] for column in found.description or ()]
            rows = [dict(zip(names, row, strict=True)) for row in found.fetchall()]
            assert in_float32([_lists(row) for row in rows]) == rows_in(table)
        [(kind,)] = database.execute("SELECT typeof(embedding) FROM sentences LIMIT 1").fetchall()
        assert kind == "FLOAT[6]"
        near = "SELECT id FROM sentences ORDER BY array_cosine_distance(embedding, ?::FLOAT[6]) LIMIT 1"
        row = rows_in(dataset.tables[2])[7]
        assert database.execute(near, [row["embedding"]]).fetchall() == [(row["id"],)]


def _lists(row: dict[str, Any]) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in row.items()}


def test_the_datasets_library_opens_the_folder_with_vectors_of_a_known_length(dataset: Dataset, tmp_path: Path) -> None:
    pytest.importorskip("datasets", reason="the datasets library is not installed: pip install datasets")
    import datasets

    target = written(dataset, "hf", tmp_path)

    assert sorted(datasets.get_dataset_config_names(str(target))) == ["documents", "sentences", "summaries"]
    for table in dataset.tables:
        if not table.rows:
            continue
        loaded = datasets.load_dataset(str(target), table.name, split="train", cache_dir=str(tmp_path / "cache"))
        assert [sorted_pairs(row) for row in loaded] == rows_in(table)
        if table.name == "sentences":
            assert loaded.features["embedding"].length == 6


def test_polars_and_duckdb_read_the_parquet_of_the_folder(dataset: Dataset, tmp_path: Path) -> None:
    target = written(dataset, "hf", tmp_path)
    table = dataset.tables[2]

    frame = polars.read_parquet(target / "sentences" / "*.parquet")
    assert frame.schema["embedding"] == polars.Array(polars.Float32, 6)
    assert frame["embedding"].to_list() == [row["embedding"] for row in rows_in(table)]
    [(rows,)] = duckdb.execute(f"SELECT count(*) FROM '{target}/sentences/*.parquet'").fetchall()
    assert rows == table.rows


def test_lance_opens_its_folder_and_finds_the_nearest_vector(dataset: Dataset, tmp_path: Path) -> None:
    lance = pytest.importorskip("lance", reason="pylance is not installed: pip install 'unspool[lance]'")
    target = written(dataset, "lance", tmp_path)

    for table in dataset.tables:
        opened = lance.dataset(str(target / f"{table.name}.lance"))
        assert [sorted_pairs(row) for row in opened.to_table().to_pylist()] == rows_in(table)
    row = rows_in(dataset.tables[2])[7]
    vectors = lance.dataset(str(target / "sentences.lance"))
    assert vectors.schema.field("embedding").type == pa.list_(pa.float32(), 6)
    query = np.float32(row["embedding"])
    assert vectors.to_table(nearest={"column": "embedding", "q": query, "k": 1})["id"].to_pylist() == [row["id"]]


_UNESCAPED = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\"}


def copied(line: str) -> list[str | None]:
    """The cells of a line in the text format of COPY, as PostgreSQL's manual says to read it."""
    cells: list[str | None] = []
    for cell in line.split("\t"):
        out, characters = "", iter(cell)
        for character in characters:
            out += _UNESCAPED[next(characters)] if character == "\\" and cell != "\\N" else character
        cells.append(None if cell == "\\N" else out)
    return cells


def copy_blocks(sql: str) -> Iterator[tuple[str, list[list[str | None]]]]:
    """The tables that a file for psql copies in, each with its lines."""
    lines = iter(sql.split("\n"))
    for line in lines:
        if line.startswith("COPY "):
            yield line.split('"')[1], [copied(row) for row in iter(lambda: next(lines), "\\.")]


def test_the_file_for_psql_holds_every_row(dataset: Dataset, tmp_path: Path) -> None:
    blocks = dict(copy_blocks(written(dataset, "pgvector", tmp_path).read_text("utf-8")))

    assert blocks.keys() == {table.name for table in dataset.tables}
    for table in dataset.tables:
        expected = [list(map(as_copied, row.values())) for row in rows_in(table)]
        found = blocks[table.name]
        if table.name == "sentences":
            places = [table.schema.names.index(name) for name in ("nll", "embedding")]
            for rows in (found, expected):
                for row in rows:
                    row[places[0]] = row[places[0]] and str(np.float32(row[places[0]]))
                    row[places[1]] = as_cell(np.float32(json.loads(row[places[1]] or "")).tolist())
        assert found == expected


def as_copied(value: object) -> str | None:
    return None if value is None else ("t" if value else "f") if isinstance(value, bool) else as_cell(value)


@settings(deadline=None, max_examples=60)
@given(text=st.text(), key=st.text(min_size=1))
def test_any_text_survives_copy_but_for_u_0000(text: str, key: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("copy")
    schema = pa.schema([("id", pa.string()), ("metadata", pa.map_(pa.string(), pa.string()))])
    rows = pa.Table.from_pylist([{"id": text, "metadata": [(key, text)]}], schema=schema)
    target = written(Dataset("t", (stored(folder, "documents", rows),)), "pgvector", folder)

    [(_, [[found, metadata]])] = copy_blocks(target.read_bytes().decode("utf-8"))
    assert found == text.replace("\0", "\ufffd")
    assert json.loads(metadata or "") == {key.replace("\0", "\ufffd"): text.replace("\0", "\ufffd")}


@pytest.mark.parametrize(("dims", "kind"), [(2000, "vector(2000)"), (2001, "halfvec(2001)"), (16000, "halfvec(16000)")])
def test_vectors_have_the_type_that_can_hold_and_index_them(dims: int, kind: str, tmp_path: Path) -> None:
    table = stored(tmp_path, "sentences", sentences(2, dims))
    sql = written(Dataset("t", (table,)), "pgvector", tmp_path).read_text("utf-8")

    assert f'"embedding" {kind}' in sql
    assert ("USING hnsw" in sql) == (dims <= 4000)


def test_vectors_that_pgvector_cannot_hold_are_refused_with_what_helps(tmp_path: Path) -> None:
    table = stored(tmp_path, "sentences", sentences(1, 16001))

    with pytest.raises(SinkError, match=r"16,001; shorten them: --dims"):
        written(Dataset("t", (table,)), "pgvector", tmp_path)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    if PROGRAMS is None:
        pytest.skip("no PostgreSQL with pgvector here: apt-get install postgresql postgresql-15-pgvector")
    with postgres(PROGRAMS) as address:
        yield address


def asked(address: str, question: str) -> list[str]:
    """The answer of psql, a line a row."""
    assert PROGRAMS is not None
    command = [PROGRAMS / "psql", "-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", address, "-c", question]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split("\n")[:-1]


def played(address: str, file: Path) -> int:
    assert PROGRAMS is not None
    command = [PROGRAMS / "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", address, "-f", file]
    return subprocess.run(command, capture_output=True).returncode


def test_postgresql_plays_the_file_and_finds_the_nearest_vector(server: str, dataset: Dataset, tmp_path: Path) -> None:
    assert played(server, written(dataset, "pgvector", tmp_path)) == 0

    for table in dataset.tables:
        rows = [json.loads(line) for line in asked(server, f'SELECT row_to_json(t) FROM "{table.name}" t')]
        for row in rows:
            if "embedding" in row:
                row["embedding"] = json.loads(row["embedding"])
        assert in_float32(rows) == rows_in(table)
    row = rows_in(dataset.tables[2])[7]
    nearest = f"SELECT id FROM sentences ORDER BY embedding <=> '{row['embedding']}' LIMIT 1"
    assert asked(server, nearest) == [row["id"]]
    asked(server, "CREATE INDEX ON sentences USING hnsw (embedding vector_cosine_ops)")
    assert played(server, tmp_path / "target.sql") != 0  # the tables are there already


def test_long_vectors_are_indexed_as_halves(server: str, tmp_path: Path) -> None:
    table = stored(tmp_path, "halves", sentences(5, 2500))
    assert played(server, written(Dataset("t", (table,)), "pgvector", tmp_path)) == 0

    asked(server, "CREATE INDEX ON halves USING hnsw (embedding halfvec_cosine_ops)")
    assert asked(server, "SELECT DISTINCT pg_typeof(embedding), vector_dims(embedding) FROM halves") == ["halfvec|2500"]


def test_rows_go_straight_into_a_database_all_or_none(server: str, tmp_path: Path) -> None:
    pytest.importorskip("psycopg", reason="psycopg is not installed: pip install 'unspool[pgvector]'")
    good = stored(tmp_path, "straight", sentences(20, 4))
    pgvector.load(Dataset("t", (good,)), server)
    twice = stored(tmp_path, "twice", sentences(3, 4), sentences(3, 4))

    with pytest.raises(SinkError, match=r"duplicate key.*nothing was written"):
        pgvector.load(Dataset("t", (twice,)), server)
    assert asked(server, "SELECT count(*) FROM straight") == ["20"]
    assert asked(server, "SELECT to_regclass('twice') IS NULL") == ["t"]


@pytest.mark.parametrize(
    ("sink", "package", "line"),
    [
        ("lance", "lance", "unspool[lance]"),
        ("duckdb", "duckdb", "unspool[duckdb]"),
        ("", "psycopg", "unspool[pgvector]"),
    ],
)
def test_a_missing_package_is_said_with_the_line_that_installs_it(
    sink: str, package: str, line: str, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)

    with pytest.raises(MissingExtraError, match="pip install") as caught:
        written(dataset, sink, tmp_path) if sink else pgvector.load(dataset, "host=/nowhere")
    assert line in str(caught.value)
    assert list(tmp_path.iterdir()) == [tmp_path / "run"]


@pytest.mark.skipif(find_spec("psycopg") is None, reason="psycopg is not installed: pip install 'unspool[pgvector]'")
def test_a_server_that_is_not_there_is_one_line(dataset: Dataset) -> None:
    with pytest.raises(SinkError, match="the database says") as caught:
        pgvector.load(dataset, "host=/nowhere dbname=x")
    assert "\n" not in str(caught.value)


@given(rows=st.integers(0, 20), dims=st.integers(1, 6), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=25)
def test_shortened_vectors_are_the_first_dimensions_scaled_to_length_1(
    rows: int, dims: int, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    whole = sentences(rows, 6, seed)
    table = stored(tmp_path_factory.mktemp("dims"), "sentences", whole, dims=dims)
    found = pa.Table.from_batches(table.batches(), table.schema)

    assert found.schema.field("embedding").type == pa.list_(pa.float32(), dims)
    assert found.drop_columns("embedding") == whole.drop_columns("embedding")
    heads = [np.float64(row[:dims]) for row in whole["embedding"].to_pylist()]
    expected = [head / max(float(np.sqrt((head**2).sum())), 1e-12) for head in heads]
    assert np.allclose(found["embedding"].to_pylist(), expected, atol=1e-6)


def test_a_row_without_a_vector_stays_without_one(tmp_path: Path) -> None:
    vectors = pa.array([[3.0, 4.0, 5.0], None, [0.0, 2.0, 1.0]], pa.list_(pa.float32(), 3))
    table = stored(tmp_path, "sentences", pa.table({"embedding": vectors}), dims=2)

    [batch] = table.batches()
    assert batch.to_pylist() == [
        {"embedding": [np.float32(0.6), np.float32(0.8)]},
        {"embedding": None},
        {"embedding": [0, 1]},
    ]
    [whole] = open_table("sentences", table.files).batches()
    assert [row["embedding"] for row in plain_rows(whole)] == ["[3, 4, 5]", None, "[0, 2, 1]"]


def test_what_the_schema_says_of_vectors_is_true_of_shortened_ones(tmp_path: Path) -> None:
    marks = {"unspool.embedding": json.dumps({"dimensions": 6, "metric": "cosine"}), "unspool.model": "m"}
    rows = sentences(3, 6).replace_schema_metadata(marks)
    dataset = Dataset("t", (stored(tmp_path, "sentences", rows, dims=2),))
    [path] = (written(dataset, "hf", tmp_path) / "sentences").iterdir()

    said = pq.read_schema(path).metadata
    assert json.loads(said[b"unspool.embedding"]) == {"dimensions": 2, "metric": "cosine"}
    assert said[b"unspool.model"] == b"m"


@pytest.mark.parametrize("dims", [0, -1, 7])
def test_dimensions_that_vectors_have_not_cannot_be_kept(dims: int, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=f"have 6 dimensions, {dims} cannot be kept; write 1 to 6"):
        stored(tmp_path, "sentences", sentences(3, 6), dims=dims)


@given(st.lists(st.floats(width=32), min_size=1, max_size=20))
@settings(deadline=None)
def test_float32_is_written_in_digits_that_give_it_back(numbers: list[float]) -> None:
    vectors = pa.array([numbers], pa.list_(pa.float32(), len(numbers)))
    [row] = plain_rows(pa.record_batch({"n": pa.array(numbers[:1], pa.float32()), "v": vectors}))

    for found, told in ((json.loads(row["v"]), numbers), ([row["n"]], numbers[:1])):
        assert [n if n is None else float(np.float32(n)) for n in found] == [
            n if np.isfinite(n) else None for n in told
        ]
        assert all(float(f"{n:.9g}") == n for n in found if n is not None)


def test_a_table_is_never_in_memory_as_a_whole(tmp_path: Path) -> None:
    rows, path = 8_192, tmp_path / "table.parquet"
    texts = [draw.bytes(500).hex() for draw in [np.random.RandomState(0)] for _ in range(rows)]
    pq.write_table(pa.table({"text": texts}), path, row_group_size=256, use_dictionary=False)
    table = open_table("t", [path])
    before = pa.total_allocated_bytes()

    assert max(pa.total_allocated_bytes() - before for _ in table.batches(64)) < rows * 1000 / 8


def test_a_flipped_bit_is_not_handed_on(tmp_path: Path) -> None:
    table = stored(tmp_path, "documents", documents())
    data = bytearray(table.files[0].read_bytes())
    place = pq.ParquetFile(table.files[0]).metadata.row_group(0).column(0)
    data[place.data_page_offset + place.total_compressed_size - 3] ^= 1
    table.files[0].write_bytes(data)

    with pytest.raises(OSError):
        list(table.batches())
