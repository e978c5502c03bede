"""Checkpoints: whole or passed over, used only where they belong, and never more of them than asked for."""

from __future__ import annotations

import shutil
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import checkpoints
from pipeline.checkpoints import Checkpoint, CheckpointFolder, Identity, from_bytes, to_bytes
from pipeline.durable import Disk, Faults, sha256_hex
from pipeline.errors import CheckpointError
from pipeline.parts import Attempt, Part, PartWriter

IDENTITY = Identity("run-1", "doc", "source", "model", "spec", "numeric")
ATTEMPT = Attempt("doc", 1, 1)


def quick_disk(faults: str = "") -> Disk:
    return Disk(Faults.parse(faults), flush=lambda _: None)


def checkpoint(tokens: int, **changes: Any) -> Checkpoint:
    rows = pa.table({"id": [f"doc#{n}" for n in range(3)], "x": pa.array([[0.1, -0.0]] * 3, pa.list_(pa.float32(), 2))})
    whole = Checkpoint(IDENTITY, tokens, b"state", b"boundary", {"n": tokens, "t": ["ü"]}, {"sentences": rows}, ())
    return replace(whole, **changes)


def folder_with(run: Path, *tokens: int, keep: int = 9) -> CheckpointFolder:
    folder = CheckpointFolder(run, quick_disk(), keep)
    for count in tokens:
        folder.save(checkpoint(count), ATTEMPT)
    return folder


def files(run: Path) -> list[Path]:
    """Of the document, oldest first."""
    return sorted((run / "checkpoints" / "doc").iterdir())


def newest_tokens(folder: CheckpointFolder, identity: Identity = IDENTITY) -> int | None:
    found, _ = folder.newest(identity)
    return found.tokens if found else None


class TestWhatIsSaved:
    @pytest.mark.parametrize("boundary", [None, b"", b"another state"])
    @pytest.mark.parametrize("rows", [0, 1, 3])
    def test_is_what_is_loaded(self, boundary: bytes | None, rows: int) -> None:
        saved = checkpoint(
            7,
            boundary=boundary,
            pending={name: table.slice(0, rows) for name, table in checkpoint(7).pending.items()},
            parts=(Part("parts/sentences/a.parquet", "sentences", 9, "f" * 64, 4), Part("b", "states", 1, "0", 0, "s")),
        )
        loaded = from_bytes(to_bytes(saved))

        assert loaded == saved
        assert to_bytes(loaded) == to_bytes(saved)
        assert loaded.pending["sentences"].schema == saved.pending["sentences"].schema

    def test_the_same_reading_gives_the_same_bytes(self) -> None:
        assert to_bytes(checkpoint(7)) == to_bytes(checkpoint(7))

    def test_a_newer_format_is_refused_by_its_name(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(checkpoints, "MAJOR", checkpoints.MAJOR + 1)
        newer = to_bytes(checkpoint(7))
        monkeypatch.undo()
        with pytest.raises(CheckpointError, match=r"checkpoint format unspool\.checkpoint 2 is newer"):
            from_bytes(newer)

    @pytest.mark.parametrize("data", [b"", b"ARROW1", b"\x00" * 400])
    def test_anything_else_is_no_checkpoint(self, data: bytes) -> None:
        with pytest.raises(CheckpointError, match="not a readable checkpoint"):
            from_bytes(data)

    def test_an_arrow_file_of_something_else_is_no_checkpoint(self) -> None:
        with pytest.raises(CheckpointError):
            from_bytes(checkpoints._table_bytes(pa.table({"a": [1]})))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with two checkpoints of a document, to be damaged and mended."""
    run = tmp_path_factory.mktemp("damage")
    folder_with(run, 100, 200)
    return run


class TestDamage:
    @settings(deadline=None, max_examples=150)
    @given(place=st.integers(0, 2**20), bit=st.integers(0, 7))
    def test_with_any_bit_flipped_it_is_passed_over_and_the_older_one_is_used(
        self, run: Path, place: int, bit: int
    ) -> None:
        newest = files(run)[-1]
        whole = newest.read_bytes()
        damaged = bytearray(whole)
        damaged[place % len(damaged)] ^= 1 << bit
        self.assert_passed_over(run, newest, bytes(damaged), whole)

    @settings(deadline=None, max_examples=80)
    @given(keep=st.integers(0, 2**20))
    def test_cut_anywhere_it_is_passed_over_and_the_older_one_is_used(self, run: Path, keep: int) -> None:
        newest = files(run)[-1]
        whole = newest.read_bytes()
        self.assert_passed_over(run, newest, whole[: keep % len(whole)], whole)

    def test_with_a_byte_too_many_it_is_passed_over(self, run: Path) -> None:
        newest = files(run)[-1]
        whole = newest.read_bytes()
        self.assert_passed_over(run, newest, whole + b"\0", whole)

    def assert_passed_over(self, run: Path, newest: Path, damaged: bytes, whole: bytes) -> None:
        try:
            newest.write_bytes(damaged)
            found, refused = CheckpointFolder(run, quick_disk()).newest(IDENTITY)
            assert found == checkpoint(100)
            assert refused == [f"{newest.name}: its content does not match the hash in its name"]
        finally:
            newest.write_bytes(whole)

    def test_if_all_are_damaged_reading_starts_anew_and_every_reason_is_given(self, tmp_path: Path) -> None:
        folder = folder_with(tmp_path, 100, 200, 300)
        for path in files(tmp_path):
            path.write_bytes(b"")
        found, refused = folder.newest(IDENTITY)

        assert found is None
        assert [reason.split("-")[0] for reason in refused] == ["000000000300", "000000000200", "000000000100"]

    def test_a_link_or_a_folder_in_its_place_is_passed_over(self, tmp_path: Path) -> None:
        folder = folder_with(tmp_path, 100, 200, 300)
        _, middle, newest = files(tmp_path)
        newest.rename(tmp_path / "elsewhere")
        newest.symlink_to(tmp_path / "elsewhere")
        middle.unlink()
        middle.mkdir()
        found, refused = folder.newest(IDENTITY)

        assert found == checkpoint(100)
        assert len(refused) == 2

    def test_what_is_no_checkpoint_by_its_name_is_not_looked_at(self, tmp_path: Path) -> None:
        folder = folder_with(tmp_path, 100)
        (files(tmp_path)[0].parent / "000000000900-e1a1-0.arrow.tmp-12").write_bytes(b"half")

        assert folder.newest(IDENTITY) == (checkpoint(100), [])

    def test_a_good_hash_over_no_checkpoint_is_passed_over(self, tmp_path: Path) -> None:
        folder = folder_with(tmp_path, 100)
        data = b"not Arrow at all"
        (files(tmp_path)[0].parent / f"000000000900-e1a1-{sha256_hex(data)[:32]}.arrow").write_bytes(data)
        found, refused = folder.newest(IDENTITY)

        assert found == checkpoint(100)
        assert "not a readable checkpoint" in refused[0]


class TestWhoseItIs:
    @pytest.mark.parametrize("field", [field.name for field in fields(Identity) if field.name != "doc_id"])
    def test_one_of_another_run_source_model_spec_or_arithmetic_is_passed_over_with_the_reason(
        self, tmp_path: Path, field: str
    ) -> None:
        folder = folder_with(tmp_path, 100)
        found, refused = folder.newest(replace(IDENTITY, **{field: "another"}))

        assert found is None
        assert len(refused) == 1
        assert f"it belongs to another {field} ({getattr(IDENTITY, field)}, now another)" in refused[0]

    def test_the_older_one_is_used_if_only_that_belongs_here(self, tmp_path: Path) -> None:
        folder = folder_with(tmp_path, 100)
        folder.save(checkpoint(200, identity=replace(IDENTITY, numeric="other bits")), ATTEMPT)

        assert newest_tokens(folder) == 100
        assert newest_tokens(folder, replace(IDENTITY, numeric="other bits")) == 200

    def test_a_file_copied_from_another_document_is_passed_over(self, tmp_path: Path) -> None:
        folder = folder_with(tmp_path, 100)
        other = tmp_path / "checkpoints" / "other"
        other.mkdir()
        shutil.copy(files(tmp_path)[0], other)
        found, refused = folder.newest(replace(IDENTITY, doc_id="other"))

        assert found is None
        assert "another doc_id" in refused[0]

    def test_a_document_without_checkpoints_has_none(self, tmp_path: Path) -> None:
        assert CheckpointFolder(tmp_path, quick_disk()).newest(IDENTITY) == (None, [])


class TestHowManyStay:
    @pytest.mark.parametrize("keep", [1, 2, 3])
    def test_only_the_newest_stay(self, tmp_path: Path, keep: int) -> None:
        for number, tokens in enumerate(range(100, 600, 100), start=1):
            folder = folder_with(tmp_path, tokens, keep=keep)

            assert len(files(tmp_path)) == min(number, keep)
            assert newest_tokens(folder) == tokens

    def test_of_the_same_place_the_one_of_the_later_life_is_the_newer(self, tmp_path: Path) -> None:
        folder = CheckpointFolder(tmp_path, quick_disk(), keep=1)
        for attempt in (Attempt("doc", 9, 1), Attempt("doc", 9, 2), Attempt("doc", 10, 1)):
            folder.save(checkpoint(100, memory={"life": attempt.mark}), attempt)
        found, _ = folder.newest(IDENTITY)

        assert found is not None
        assert found.memory == {"life": "e10a1"}

    def test_the_old_one_goes_only_once_the_new_one_is_there(self, tmp_path: Path) -> None:
        folder_with(tmp_path, 100)
        full = CheckpointFolder(tmp_path, quick_disk("publish.before_rename=raise:ENOSPC"), keep=1)
        with pytest.raises(OSError, match="No space"):
            full.save(checkpoint(200), ATTEMPT)

        assert newest_tokens(full) == 100
        assert len(files(tmp_path)) == 1

    def test_clearing_removes_them_all_and_twice_is_no_error(self, tmp_path: Path) -> None:
        folder = folder_with(tmp_path, 100, 200)
        for _ in range(2):
            folder.clear("doc")

        assert not (tmp_path / "checkpoints" / "doc").exists()
        assert newest_tokens(folder) is None


class TestReferences:
    def test_name_every_whole_checkpoint_and_its_parts(self, tmp_path: Path) -> None:
        folder = CheckpointFolder(tmp_path, quick_disk(), keep=9)
        parts = tuple(PartWriter(tmp_path, quick_disk()).state(ATTEMPT, b"x", f"s{n}") for n in range(3))
        for count in (1, 2, 3):
            folder.save(checkpoint(100 * count, parts=parts[:count]), ATTEMPT)
        files(tmp_path)[-1].write_bytes(b"damaged")
        whole = {f"checkpoints/doc/{path.name}" for path in files(tmp_path)[:-1]}

        assert folder.references(["doc", "unknown"]) == whole | {part.path for part in parts[:2]}

    def test_of_no_document_are_none(self, tmp_path: Path) -> None:
        assert folder_with(tmp_path, 100).references([]) == set()
