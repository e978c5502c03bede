"""Durable writes: whole or absent, never over somebody else's file, and never a failed flush tried again."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.durable import Disk, Fault, Faults, Point, json_line, read_bytes, seal, sha256_file, unseal


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def disk_with(text: str) -> Disk:
    return Disk(Faults.parse(text))


def test_a_published_file_has_the_content_and_is_for_its_owner_only(tmp_path: Path) -> None:
    Disk().publish(tmp_path / "a", b"one")
    Disk().publish(tmp_path / "a", b"two")

    assert (tmp_path / "a").read_bytes() == b"two"
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o600
    assert names(tmp_path) == ["a"]


def test_of_all_who_put_the_same_name_the_first_one_wins(tmp_path: Path) -> None:
    Disk().put_if_absent(tmp_path / "1", b"mine")
    with pytest.raises(FileExistsError):
        Disk().put_if_absent(tmp_path / "1", b"yours")

    assert (tmp_path / "1").read_bytes() == b"mine"
    assert names(tmp_path) == ["1"]


def test_without_hard_links_a_name_is_still_given_once_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "no hard links here")

    monkeypatch.setattr(os, "link", refuse)
    Disk().put_if_absent(tmp_path / "1", b"mine")
    with pytest.raises(FileExistsError):
        Disk().put_if_absent(tmp_path / "1", b"yours")
    Disk().link(tmp_path / "1", tmp_path / "copy")

    assert (tmp_path / "1").read_bytes() == (tmp_path / "copy").read_bytes() == b"mine"
    assert names(tmp_path) == ["1", "copy"]


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_a_failed_flush_is_not_tried_again_and_leaves_nothing(tmp_path: Path, code: int) -> None:
    flushed = []

    def fail(descriptor: int) -> None:
        flushed.append(descriptor)
        raise OSError(code, os.strerror(code))

    (tmp_path / "a").write_bytes(b"old")
    disk = Disk(flush=fail)
    for write in (disk.publish, disk.put_if_absent):
        with pytest.raises(OSError, match=os.strerror(code)):
            write(tmp_path / "a", b"new")

    assert len(flushed) == 2
    assert (tmp_path / "a").read_bytes() == b"old"
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize(
    ("point", "remains"),
    [("publish.before_rename", ["old"]), ("publish.after_rename", ["a", "old"])],
)
def test_an_error_while_publishing_leaves_no_temporary_file(tmp_path: Path, point: str, remains: list[str]) -> None:
    (tmp_path / "old").touch()
    with pytest.raises(OSError, match="No space"):
        disk_with(f"{point}=raise:ENOSPC").publish(tmp_path / "a", b"x")

    assert names(tmp_path) == remains


def test_the_folder_is_flushed_after_the_file_has_its_name(tmp_path: Path) -> None:
    seen: list[tuple[bool, list[str]]] = []

    def flush(descriptor: int) -> None:
        seen.append((stat.S_ISDIR(os.fstat(descriptor).st_mode), names(tmp_path)))

    Disk(flush=flush).publish(tmp_path / "a", b"x")

    (file_is_folder, before), (folder_is_folder, after) = seen
    assert (file_is_folder, folder_is_folder) == (False, True)
    assert "a" not in before
    assert after == ["a"]


def test_short_writes_are_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:3]))
    Disk().publish(tmp_path / "a", b"0123456789")

    assert (tmp_path / "a").read_bytes() == b"0123456789"


def test_a_file_written_in_pieces_knows_its_size_and_hash(tmp_path: Path) -> None:
    with Disk().create(tmp_path / "a") as file:
        file.write(b"abc")
        file.write(memoryview(b"def"))

    assert (file.size, file.sha256) == (6, sha256_file(tmp_path / "a"))
    with pytest.raises(FileExistsError), Disk().create(tmp_path / "a"):
        pass


def test_folders_are_private_and_never_links(tmp_path: Path) -> None:
    Disk().make_folder(tmp_path / "a" / "b")
    Disk().make_folder(tmp_path / "a" / "b")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")

    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o700
    with pytest.raises(FileExistsError):
        Disk().make_folder(tmp_path / "link")


def test_linking_twice_leaves_one_name(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    for _ in range(2):
        Disk().link(tmp_path / "a", tmp_path / "b")

    assert names(tmp_path) == ["a", "b"]


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    os.mkfifo(tmp_path / "fifo")

    for name in ("link", "fifo", "."):
        with pytest.raises(OSError):
            read_bytes(tmp_path / name)


def test_documents_that_do_harm_are_read_from_text() -> None:
    faults = Faults.parse("commit.before_link=kill; documents=hang:docs/a:b.txt,memory:docs/c.txt")

    assert dict(faults.poisons.harms) == {"docs/a:b.txt": "hang", "docs/c.txt": "memory"}
    assert len(faults.planned) == 1
    with pytest.raises(ValueError, match="nap"):
        Faults.parse("documents=nap:docs/a.txt")


def test_faults_are_read_from_text() -> None:
    assert Faults.parse(" commit.before_link=kill@3; publish.before_rename=raise:ENOSPC ").planned == (
        Fault(Point.COMMIT_BEFORE_LINK, 3, None),
        Fault(Point.PUBLISH_BEFORE_RENAME, 1, errno.ENOSPC),
    )
    assert Faults.parse("") == Faults.none()


@pytest.mark.parametrize(
    "text", ["nowhere=kill", "commit.before_link", "commit.before_link=kill@0", "commit.before_link=raise:EWHAT"]
)
def test_a_wrong_fault_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no fault"):
        Faults.parse(text)


def test_a_fault_happens_the_nth_time_only(tmp_path: Path) -> None:
    disk = disk_with("publish.before_rename=raise:EIO@2")
    disk.publish(tmp_path / "a", b"x")
    with pytest.raises(OSError, match="injected"):
        disk.publish(tmp_path / "b", b"x")
    disk.publish(tmp_path / "c", b"x")

    assert names(tmp_path) == ["a", "c"]


@given(lines=st.binary(max_size=200), place=st.integers(min_value=0), bit=st.integers(0, 7))
def test_every_flipped_bit_breaks_a_seal(lines: bytes, place: int, bit: int) -> None:
    sealed = bytearray(seal(lines + b"\n"))
    assert unseal(bytes(sealed)) == lines + b"\n"

    sealed[place % len(sealed)] ^= 1 << bit
    with pytest.raises(ValueError, match="sha256"):
        unseal(bytes(sealed))


@given(lines=st.binary(max_size=50), keep=st.integers(0, 200))
def test_every_truncation_breaks_a_seal(lines: bytes, keep: int) -> None:
    sealed = seal(lines + b"\n")
    with pytest.raises(ValueError, match="sha256"):
        unseal(sealed[: min(keep, len(sealed) - 1)])


def test_json_lines_are_canonical_and_hold_any_string() -> None:
    assert json_line({"b": 1, "a": "ü\ud800"}) == '{"a":"ü\\ud800","b":1}\n'.encode()


def test_a_name_that_was_given_by_a_request_sent_twice_is_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    really = os.link

    def answer_lost(*arguments: Any, **named: Any) -> None:
        really(*arguments, **named)
        really(*arguments, **named)

    monkeypatch.setattr(os, "link", answer_lost)
    Disk().put_if_absent(tmp_path / "record", b"ours")

    assert (tmp_path / "record").read_bytes() == b"ours"
    with pytest.raises(FileExistsError):
        Disk().put_if_absent(tmp_path / "record", b"theirs")


def test_room_is_kept_also_where_the_system_cannot_be_asked_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "posix_fallocate", raising=False)  # as on macOS
    size = (1 << 20) + 3

    Disk().reserve(tmp_path / "reserve", size)

    kept = (tmp_path / "reserve").stat()
    assert kept.st_size == size and kept.st_blocks * 512 >= size
