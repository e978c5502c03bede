"""The output: the rows of the parts in the order of the manifest, in files whose bytes depend on the rows alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from jobs import finalize as finalize_module
from jobs.errors import JobError
from jobs.finalize import CUTS, DEFAULT_CUT, _row_groups, finalize, materialise_states
from jobs.ledger import RunLedger
from jobs.manifest import ManifestEntry, read_manifest
from jobs.records import Done, Epoch, Finished
from jobs.run_directory import RunDirectory
from pipeline.durable import sha256_hex
from pipeline.parts import Part
from tests.jobs.fake_driver import (
    CUTS as SMALL_CUTS,
)
from tests.jobs.fake_driver import (
    DESCRIPTION,
    SCHEMAS,
    drive,
    make_corpus,
    new_run,
    parquet_bytes,
    publish,
    quick_disk,
    result,
    rows_of,
    sentence,
)

HASH = "ab" * 32


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    make_corpus(folder)
    drive(folder, quick_disk())
    return folder


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> RunDirectory:
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    return RunDirectory.open(tmp_path / "run", quick_disk())


def take_over(run: RunDirectory) -> RunLedger:
    owner = Epoch.of_this_process("test", {})
    return RunLedger.take_over(RunLedger.read(run.ledger), run.disk, run.torn_records, owner)


def one_document(folder: Path, parts_of: Any) -> tuple[RunDirectory, RunLedger, list[ManifestEntry]]:
    """A run with one document, which has the parts that `parts_of(run)` makes."""
    run = new_run(folder, quick_disk())
    ledger = take_over(run)
    ledger.commit(Done((Finished("d0", "ok", tuple(parts_of(run))),)))
    return run, ledger, [ManifestEntry(0, "d0", "a.txt", 1, 1, "text")]


def sentences_part(run: RunDirectory, name: str, first: int, count: int) -> Part:
    rows = [sentence("d0", index, "x", HASH) for index in range(first, first + count)]
    return publish(run, "sentences", name, parquet_bytes(rows_of(SCHEMAS["sentences"], rows)), count)


def files(run: RunDirectory, table: str) -> list[Path]:
    return sorted((run.output / table).iterdir())


def test_rows_come_in_the_order_of_the_manifest_and_of_the_document(run: RunDirectory) -> None:
    view = RunLedger.read(run.ledger)
    rows = [row for path in files(run, "sentences") for row in pq.read_table(path).select(["id"]).to_pylist()]
    expected = [
        {"id": f"{entry.doc_id}#s{index:07d}"}
        for entry in read_manifest(run.manifest)
        if (document := view.finished(entry.doc_id))
        for index in range(document.rows("sentences"))
    ]

    assert rows == expected
    assert len(rows) == 3 + 7 + 11 + 15


def test_files_and_row_groups_have_fixed_sizes(run: RunDirectory) -> None:
    groups = [
        [
            pq.ParquetFile(path).metadata.row_group(place).num_rows
            for place in range(pq.ParquetFile(path).num_row_groups)
        ]
        for path in files(run, "sentences")
    ]

    assert groups == [[4, 4], [4, 4], [4, 4], [4, 4], [4]]
    assert [path.name for path in files(run, "sentences")] == [f"part-{n:05d}-of-00005.parquet" for n in range(5)]


def test_failed_documents_have_their_rows(run: RunDirectory) -> None:
    documents = pa.concat_tables([pq.read_table(path) for path in files(run, "documents")]).to_pylist()
    failures = pq.read_table(files(run, "failures")[0]).to_pylist()

    assert [row["status"] for row in documents] == ["ok", "ok", "ok", "ok", "failed"]
    assert [(row["source_uri"], row["error_type"]) for row in failures] == [("empty.txt", "empty")]


def test_a_table_without_rows_is_one_file_with_the_schema(run: RunDirectory) -> None:
    (path,) = files(run, "summaries")

    assert path.name == "part-00000-of-00001.parquet"
    assert pq.read_table(path).num_rows == 0
    assert pq.read_schema(path).names == SCHEMAS["summaries"].names


def test_the_schema_metadata_are_in_every_file(run: RunDirectory) -> None:
    for path in files(run, "sentences"):
        assert pq.read_schema(path).metadata[b"model"] == b"fake"


def test_columns_are_written_as_the_contract_says(run: RunDirectory) -> None:
    group = pq.ParquetFile(files(run, "sentences")[0]).metadata.row_group(0)
    columns = {group.column(place).path_in_schema: group.column(place) for place in range(group.num_columns)}
    dictionaries = {name for name, column in columns.items() if column.has_dictionary_page}

    assert "BYTE_STREAM_SPLIT" in columns["embedding.list.element"].encodings
    assert dictionaries == {"doc_id", "section"}
    assert {column.compression for column in columns.values()} == {"ZSTD"}
    assert all(column.has_column_index and column.has_offset_index for column in columns.values())


def test_a_flipped_bit_in_a_page_of_the_output_is_noticed_by_a_reader(run: RunDirectory) -> None:
    path = files(run, "sentences")[0]
    column = pq.ParquetFile(path).metadata.row_group(0).column(14)
    data = bytearray(path.read_bytes())
    data[column.data_page_offset + column.total_compressed_size - 3] ^= 1
    path.write_bytes(data)

    with pytest.raises(OSError):
        pq.read_table(path, page_checksum_verification=True)


def test_the_file_list_names_every_other_file_with_its_hash(run: RunDirectory) -> None:
    listed = json.loads((run.output / "_MANIFEST.json").read_text(encoding="utf-8"))["files"]
    there = {path.relative_to(run.output).as_posix(): path for path in run.output.rglob("*") if path.is_file()}
    expected = [
        {"path": name, "bytes": path.stat().st_size, "sha256": sha256_hex(path.read_bytes())}
        for name, path in sorted(there.items())
        if name != "_MANIFEST.json"
    ]

    assert listed == expected
    final = RunLedger.read(run.ledger).final
    assert final is not None
    assert {file.path for file in final.files} == there.keys()


def test_the_card_names_the_files_of_every_table_with_rows(run: RunDirectory) -> None:
    front = yaml.safe_load((run.output / "README.md").read_text(encoding="utf-8").split("---")[1])

    filled = {name for name in SCHEMAS if pq.read_table(run.output / name).num_rows}
    assert {config["config_name"] for config in front["configs"]} == filled
    for config in front["configs"]:
        assert sorted(run.output.glob(config["data_files"])) == files(run, config["config_name"])


def test_the_datasets_library_loads_every_table_with_rows_by_the_card(run: RunDirectory, tmp_path: Path) -> None:
    import datasets

    for name in datasets.get_dataset_config_names(str(run.output)):
        loaded = datasets.load_dataset(str(run.output), name, split="train", cache_dir=str(tmp_path / "cache"))
        table = pq.read_table(run.output / name)
        known = [field.name for field in table.schema if not pa.types.is_map(field.type)]
        assert loaded.column_names == known
        assert loaded.with_format("arrow")[:].equals(table.select(known).replace_schema_metadata())


def test_dataset_json_holds_the_description_and_the_columns(run: RunDirectory) -> None:
    dataset = json.loads((run.output / "dataset.json").read_text(encoding="utf-8"))

    assert dataset["units"] == "half-open"
    assert dataset["tables"]["sentences"]["rows"] == 36
    assert [column["name"] for column in dataset["tables"]["failures"]["columns"]] == SCHEMAS["failures"].names


def test_doing_it_again_in_another_epoch_gives_the_same_bytes(run: RunDirectory) -> None:
    before = result(run.path.parent)
    ledger = take_over(run)
    for _ in range(2):
        finalize(run, ledger, read_manifest(run.manifest), SCHEMAS, DESCRIPTION, SMALL_CUTS)
        materialise_states(run, ledger.view)

    assert result(run.path.parent) == before
    assert not list(run.path.rglob("*.tmp-*"))


def test_only_the_owner_can_read_the_output(run: RunDirectory) -> None:
    modes = {path.stat().st_mode & 0o077 for path in [run.output, *run.output.rglob("*")]}

    assert modes == {0}


def test_an_unfinished_run_has_no_output(tmp_path: Path) -> None:
    run, ledger, manifest = one_document(tmp_path, lambda run: [])
    unread = ManifestEntry(1, "d1", "b.txt", 1, 1, "text")

    with pytest.raises(ValueError, match=r"1 documents are not finished, the first is b\.txt"):
        finalize(run, ledger, [*manifest, unread], SCHEMAS, DESCRIPTION)
    assert not run.output.exists()


def test_parts_of_a_table_that_nobody_asked_for_are_not_dropped_silently(tmp_path: Path) -> None:
    run, ledger, manifest = one_document(tmp_path, lambda run: [sentences_part(run, "a.parquet", 0, 2)])
    schemas = {name: schema for name, schema in SCHEMAS.items() if name != "sentences"}

    with pytest.raises(ValueError, match="rows of sentences"):
        finalize(run, ledger, manifest, schemas, DESCRIPTION)


def test_a_part_with_other_columns_is_refused(tmp_path: Path) -> None:
    data = parquet_bytes(pa.table({"id": ["a"]}))
    run, ledger, manifest = one_document(tmp_path, lambda run: [publish(run, "sentences", "a.parquet", data, 1)])

    with pytest.raises(JobError, match="not the columns of sentences"):
        finalize(run, ledger, manifest, SCHEMAS, DESCRIPTION)


def test_a_part_with_another_number_of_rows_is_refused(tmp_path: Path) -> None:
    data = parquet_bytes(rows_of(SCHEMAS["sentences"], [sentence("d0", 0, "x", HASH)]))
    run, ledger, manifest = one_document(tmp_path, lambda run: [publish(run, "sentences", "a.parquet", data, 2)])

    with pytest.raises(JobError, match="1 rows, the ledger says 2"):
        finalize(run, ledger, manifest, SCHEMAS, DESCRIPTION)


@pytest.mark.parametrize("path", ["../outside.parquet", "/etc/hostname", ""])
def test_a_part_outside_of_the_run_directory_is_not_read(tmp_path: Path, path: str) -> None:
    (tmp_path / "outside.parquet").write_bytes(b"x")
    part = Part(path, "sentences", 1, sha256_hex(b"x"), 1)
    run, ledger, manifest = one_document(tmp_path, lambda run: [part])

    with pytest.raises(JobError, match="leads out of the run directory"):
        finalize(run, ledger, manifest, SCHEMAS, DESCRIPTION)


@pytest.mark.parametrize("name", ["", ".hidden", "../escape.arrow", "a/b.arrow"])
def test_a_kept_state_gets_no_name_outside_of_its_folder(tmp_path: Path, name: str) -> None:
    run, ledger, _ = one_document(tmp_path, lambda run: [publish(run, "states", "a.arrow", b"x", 0, name)])

    with pytest.raises(JobError, match="is no name for a kept state"):
        materialise_states(run, ledger.view)


def test_a_kept_state_of_a_document_that_was_read_again_replaces_the_old_one(tmp_path: Path) -> None:
    run, ledger, _ = one_document(tmp_path, lambda run: [publish(run, "states", "a.arrow", b"new", 0, "d0.end.arrow")])
    (run.states / "d0.end.arrow").write_bytes(b"old")

    for _ in range(2):
        assert materialise_states(run, ledger.view) == [run.states / "d0.end.arrow"]
    assert [path.read_bytes() for path in run.states.iterdir()] == [b"new"]


@given(sizes=st.lists(st.integers(0, 9), max_size=30), rows=st.integers(1, 7))
def test_row_groups_hold_all_rows_in_order_whatever_the_parts_were(sizes: list[int], rows: int) -> None:
    starts = [sum(sizes[:place]) for place in range(len(sizes))]
    numbers = [range(start, start + size) for start, size in zip(starts, sizes, strict=True)]
    tables = [pa.table({"n": pa.array(chosen, pa.int64())}) for chosen in numbers]
    groups = list(_row_groups(tables, rows))

    assert [n for group in groups for n in group.column("n").to_pylist()] == list(range(sum(sizes)))
    assert all(group.num_rows == rows for group in groups[:-1])
    assert all(0 < group.num_rows <= rows and group.column("n").num_chunks == 1 for group in groups)


def test_many_tables_of_one_row_are_kept_together() -> None:
    (group,) = _row_groups((pa.table({"n": [n]}) for n in range(1000)), 5000)

    assert group.column("n").to_pylist() == list(range(1000))


def test_files_hold_whole_row_groups_within_the_limits_of_the_format() -> None:
    for cut in (*CUTS.values(), DEFAULT_CUT):
        assert cut.file_rows % cut.group_rows == 0
        assert cut.group_rows <= 25_000
        assert cut.file_rows <= 250_000


def test_rows_of_an_earlier_version_have_null_where_a_column_came_later() -> None:
    schema = SCHEMAS["documents"]
    row = pa.Table.from_pylist([{"doc_id": "a", "tokens": 5, "metadata": []}], schema)
    found = finalize_module._with_all_columns(row.drop_columns(["tokens_fed"]), schema).cast(schema)

    assert found.schema == schema
    assert (found["tokens_fed"].to_pylist(), found["tokens"].to_pylist()) == ([None], [5])
    with pytest.raises(ValueError, match=r"."):
        finalize_module._with_all_columns(row.drop_columns(["tokens"]), schema).cast(schema)
