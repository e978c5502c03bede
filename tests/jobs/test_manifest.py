"""The manifest: which files a pattern names, in an order and under ids that do not depend on the machine."""

from __future__ import annotations

import fnmatch
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.errors import ExitCode, JobError
from jobs.manifest import (
    InputPattern,
    ManifestEntry,
    _name_expression,
    called,
    document_id,
    expand,
    read_manifest,
    with_members,
    write_manifest,
)
from pipeline.durable import Disk, seal, unseal
from pipeline.errors import DocumentError
from pipeline.records import Member

TREE = [
    "a.txt",
    "b.md",
    "A.txt",
    "ü.txt",
    "sub/a.txt",
    "sub/deep/c.txt",
    ".hidden.txt",
    ".git/d.txt",
    "sub/draft-1.txt",
]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    for name in TREE:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name, encoding="utf-8")
    return folder


def uris(root: Path, *patterns: str, exclude: tuple[str, ...] = (), limit: int | None = None) -> list[str]:
    inputs = [InputPattern(str(root / pattern), exclude) for pattern in patterns]
    return [entry.uri for entry in expand(inputs, root, limit, lambda path: path.rpartition(".")[2])]


def refused(root: Path, pattern: str, exclude: tuple[str, ...] = ()) -> JobError:
    with pytest.raises(JobError) as caught:
        uris(root, pattern, exclude=exclude)
    assert caught.value.exit_code == ExitCode.USAGE
    return caught.value


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("a.txt", ["a.txt"]),
        ("*.txt", ["A.txt", "a.txt", "ü.txt"]),
        ("**/*.txt", ["A.txt", "a.txt", "sub/a.txt", "sub/deep/c.txt", "sub/draft-1.txt", "ü.txt"]),
        ("**", ["A.txt", "a.txt", "b.md", "sub/a.txt", "sub/deep/c.txt", "sub/draft-1.txt", "ü.txt"]),
        ("*/*.txt", ["sub/a.txt", "sub/draft-1.txt"]),
        ("sub/**/c.txt", ["sub/deep/c.txt"]),
        ("[ab].*", ["a.txt", "b.md"]),
        ("[!ab].txt", ["A.txt", "ü.txt"]),
        ("?.md", ["b.md"]),
        (".*.txt", [".hidden.txt"]),
        (".git/*", [".git/d.txt"]),
        ("**/.git/*", [".git/d.txt"]),
    ],
)
def test_patterns_name_regular_files_in_the_order_of_their_bytes(root: Path, pattern: str, expected: list[str]) -> None:
    assert uris(root, pattern) == expected


@pytest.mark.parametrize("exclude", ["**/draft-*", "draft-*", "sub/draft-?.txt", "{root}/**/draft-*"])
def test_excluded_files_are_left_out(root: Path, exclude: str) -> None:
    assert uris(root, "sub/*", exclude=(exclude.format(root=root),)) == ["sub/a.txt"]


def test_a_file_that_is_named_twice_is_read_once(root: Path) -> None:
    assert uris(root, "a.txt", "*.txt", "sub/../a.txt") == ["A.txt", "a.txt", "ü.txt"]


def test_the_limit_takes_the_first_ones(root: Path) -> None:
    assert uris(root, "**/*.txt", limit=2) == ["A.txt", "a.txt"]


def test_a_name_that_looks_like_a_pattern_is_taken_as_it_is_if_it_exists(root: Path) -> None:
    (root / "a[1].txt").touch()

    assert uris(root, "a[1].txt") == ["a[1].txt"]


def test_entries_say_what_the_file_was_when_it_was_listed(root: Path) -> None:
    (entry,) = expand([InputPattern(str(root / "b.md"))], root, None, lambda path: "markdown")
    facts = (root / "b.md").stat()

    assert entry == ManifestEntry(0, document_id("b.md"), "b.md", 4, facts.st_mtime_ns, "markdown")
    assert entry.path(root) == root / "b.md"


def test_a_copied_project_has_the_same_documents(root: Path, tmp_path: Path) -> None:
    (tmp_path / "shared.txt").touch()
    copy = tmp_path / "elsewhere" / "copy"
    shutil.copytree(root, copy)
    shutil.copy(tmp_path / "shared.txt", copy.parent)

    assert uris(root, "**/*", "../shared.txt") == uris(copy, "**/*", "../shared.txt")
    assert uris(root, "../shared.txt") == ["../shared.txt"]


def test_linked_files_are_read_and_linked_folders_are_not_entered(root: Path) -> None:
    (root / "sub" / "link.txt").symlink_to(root / "a.txt")
    (root / "sub" / "loop").symlink_to(root)
    (root / "start").symlink_to(root / "sub")

    assert uris(root, "sub/**/*.txt") == ["sub/a.txt", "sub/deep/c.txt", "sub/draft-1.txt", "sub/link.txt"]
    assert uris(root, "start/*.txt") == ["start/a.txt", "start/draft-1.txt", "start/link.txt"]


def test_links_that_lead_nowhere_are_listed_so_that_reading_them_says_so(root: Path) -> None:
    (root / "sub" / "dangling.txt").symlink_to(root / "nothing")
    (root / "sub" / "loop.txt").symlink_to(root / "sub" / "loop.txt")

    assert uris(root, "sub/[dl]*.txt") == ["sub/dangling.txt", "sub/draft-1.txt", "sub/loop.txt"]


def test_patterns_pass_over_what_is_no_file(root: Path) -> None:
    os.mkfifo(root / "sub" / "fifo.txt")

    assert "sub/fifo.txt" not in uris(root, "sub/*.txt")
    assert uris(root, "sub/fifo.txt") == ["sub/fifo.txt"]  # named by the user: its reader will refuse it


def test_a_missing_file_is_named_with_its_absolute_path(root: Path) -> None:
    error = refused(root, "nothing.txt")

    assert str(error) == (
        f"error[INPUT-MISSING] {root}/nothing.txt: there is no such file; correct the path in `inputs`"
    )


@pytest.mark.parametrize("pattern", ["*.pdf", "nothing/*", "a.txt/*"])
def test_a_pattern_that_matches_nothing_is_named_in_full(root: Path, pattern: str) -> None:
    error = refused(root, pattern)

    assert (error.code, error.where) == ("INPUT-EMPTY", f"{root}/{pattern}")


def test_excluding_everything_is_said(root: Path) -> None:
    assert "all 3 files that it matches are excluded" in str(refused(root, "*.txt", ("*",)))


def test_a_folder_is_refused_with_what_to_write_instead(root: Path) -> None:
    error = refused(root, "sub")

    assert error.code == "INPUT-FOLDER"
    assert "**/*" in str(error)


def test_an_impossible_pattern_is_refused(root: Path) -> None:
    assert refused(root, "[z-a].txt").code == "INPUT-PATTERN"


def test_a_file_whose_name_is_not_utf8_is_found_again_under_an_address_that_is(root: Path, tmp_path: Path) -> None:
    path = root / os.fsdecode(b"caf\xe9.txt")
    path.touch()
    entries = expand([InputPattern(str(root / "c*.txt"))], root, None, lambda path: "text")
    write_manifest(tmp_path / "m", entries, Disk())

    assert [entry.uri for entry in entries] == ["caf\\xe9.txt"]
    assert [entry.path(root) for entry in read_manifest(tmp_path / "m")] == [path]


def test_a_folder_that_cannot_be_listed_is_an_error(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scandir = os.scandir

    def refuse(folder: str) -> object:
        if str(folder).endswith("deep"):
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refuse)

    assert refused(root, "**/*.txt").code == "INPUT-UNREADABLE"


def test_folders_below_the_reach_of_a_pattern_are_not_listed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = []
    scandir = os.scandir

    def note(folder: str) -> object:
        listed.append(os.path.relpath(folder, root))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", note)
    uris(root, "*.txt")

    assert listed == ["."]


@given(name=st.text("ab.-]^&", min_size=1, max_size=5), pattern=st.text("ab.-*?]^&", min_size=1, max_size=6))
def test_names_match_as_in_the_shell(name: str, pattern: str) -> None:
    import re

    assert bool(re.fullmatch(_name_expression(pattern), name)) == fnmatch.fnmatchcase(name, pattern)


names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=9)


@given(uris=st.lists(names, max_size=5), options=st.dictionaries(names, names, max_size=2))
def test_a_manifest_read_back_is_the_manifest(
    tmp_path_factory: pytest.TempPathFactory, uris: list[str], options: dict[str, str]
) -> None:
    path = tmp_path_factory.mktemp("manifest") / "m.jsonl"
    entries = [ManifestEntry(n, document_id(uri), uri, n, n, "text", options) for n, uri in enumerate(uris)]
    write_manifest(path, entries, Disk())

    assert read_manifest(path) == entries


def test_a_manifest_is_written_once(tmp_path: Path) -> None:
    write_manifest(tmp_path / "m", [], Disk())
    with pytest.raises(FileExistsError):
        write_manifest(tmp_path / "m", [], Disk())


def test_a_file_that_two_patterns_name_has_the_options_of_the_first(tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("text", "utf-8")
    inputs = [InputPattern(str(tmp_path / "a.txt"), (), {"encoding": "cp1252"}), InputPattern(str(tmp_path / "*.txt"))]

    entries = expand(inputs, tmp_path, None, lambda path: "text")

    assert [(entry.uri, entry.options) for entry in entries] == [("a.txt", {"encoding": "cp1252"}), ("b.txt", {})]


def listed(names: list[str]) -> Callable[[str, str, Mapping[str, str]], list[Member] | None]:
    def members_of(reader: str, path: str, options: Mapping[str, str]) -> list[Member] | None:
        lines = enumerate(names, start=1)
        return [Member(name, 1, {"line": str(line)}) for line, name in lines] if reader == "jsonl" else None

    return members_of


NAMED = [
    ManifestEntry(0, "d0", "a.txt", 1, 1, "text"),
    ManifestEntry(1, document_id("case-1", "given"), "b.txt", 1, 1, "text"),
    ManifestEntry(2, "d2", "c.jsonl#x", 1, 1, "jsonl", member="x"),
    ManifestEntry(3, "d3", "c.jsonl#y", 1, 1, "jsonl", member="y"),
    ManifestEntry(4, "d4", "d.jsonl#y", 1, 1, "jsonl", member="y"),
]
FILES = [ManifestEntry(n, document_id(uri), uri, 9, 1, uri.split(".")[1]) for n, uri in enumerate(["a.jsonl", "b.txt"])]


def test_a_file_of_many_documents_is_replaced_by_them(tmp_path: Path) -> None:
    entries = with_members(FILES, tmp_path, None, listed(["x", "#y"]))

    assert [(entry.ordinal, entry.uri, entry.member) for entry in entries] == [
        (0, "a.jsonl#x", "x"),
        (1, "a.jsonl##y", "#y"),
        (2, "b.txt", ""),
    ]
    assert [entry.path(tmp_path).name for entry in entries] == ["a.jsonl", "a.jsonl", "b.txt"]
    assert entries[0].doc_id == document_id("a.jsonl", "x")
    assert with_members(FILES, tmp_path, 1, listed(["x", "y"])) == entries[:1]


def test_a_file_without_documents_stays_so_that_reading_it_says_why(tmp_path: Path) -> None:
    assert with_members(FILES, tmp_path, None, listed([])) == FILES


def test_two_records_with_one_id_are_refused_with_their_lines(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="line 1 and line 3"):
        with_members(FILES, tmp_path, None, listed(["x", "y", "x"]))


def placed(known: list[tuple[str, bool]]) -> Callable[[str, str, Mapping[str, str]], list[Member]]:
    """Records by their names and whether these are only their places."""
    return lambda *file: [Member(name, 1, {"line": str(n)}, one) for n, (name, one) in enumerate(known, start=1)]


@pytest.mark.parametrize(
    ("known", "names"),
    [
        ([("1", True), ("x", False)], ["1", "x"]),
        ([("1", True), ("1", False)], ["line 1", "1"]),
        ([("2", False), ("2", True)], ["2", "line 2"]),
        ([("x", False), ("2", True), ("line 2", False), ("2", False)], ["x", "line line 2", "line 2", "2"]),
    ],
)
def test_a_record_without_an_id_is_named_beside_the_ids_there_are(
    tmp_path: Path, known: list[tuple[str, bool]], names: list[str]
) -> None:
    files = [replace(FILES[0], options={"id_key": "id"})]

    assert [entry.member for entry in with_members(files, tmp_path, None, placed(known))] == names


def test_a_file_that_is_damaged_behind_a_record_without_an_id_is_listed_up_to_there(tmp_path: Path) -> None:
    def broken(*file: object) -> Iterator[Member]:
        yield from placed([("2", False), ("2", True), ("x", False)])("", "", {})
        raise DocumentError("parse", "parse_error", "cut")

    files = [replace(FILES[0], options={"id_key": "id"})]
    assert [entry.member for entry in with_members(files, tmp_path, None, broken)] == ["2", "line 2", "x", ""]


def test_documents_without_an_id_key_are_listed_no_further_than_the_limit(tmp_path: Path) -> None:
    def endless(*file: object) -> Iterator[Member]:
        return (Member(str(n), 1, {}, is_placed=True) for n in count(1))

    assert [entry.member for entry in with_members(FILES, tmp_path, 2, endless)] == ["1", "2"]


@pytest.mark.parametrize(
    ("name", "found"),
    [("d0", "a.txt"), ("a.txt", "a.txt"), ("case-1", "b.txt"), ("x", "c.jsonl#x"), ("d.jsonl#y", "d.jsonl#y")],
)
def test_a_document_is_found_by_any_of_its_names(name: str, found: str) -> None:
    assert called(NAMED, name).uri == found


@pytest.mark.parametrize(("name", "says"), [("y", "both c.jsonl#y and d.jsonl#y"), ("z", "'z' is no document")])
def test_a_name_of_no_document_or_of_two_is_refused(name: str, says: str) -> None:
    with pytest.raises(JobError, match=says):
        called(NAMED, name)


@pytest.mark.parametrize("damage", ["missing", "flipped", "line lost", "other order"])
def test_a_damaged_manifest_is_refused(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "m"
    write_manifest(path, [ManifestEntry(n, f"d{n}", f"u{n}", 1, 1, "text") for n in range(3)], Disk())
    lines = unseal(path.read_bytes()).splitlines(keepends=True)
    if damage == "missing":
        path.unlink()
    else:
        changed = {
            "flipped": path.read_bytes().replace(b"u1", b"u7"),
            "line lost": seal(lines[0] + lines[2]),
            "other order": seal(lines[1] + lines[0] + lines[2]),
        }
        path.write_bytes(changed[damage])

    with pytest.raises(JobError, match="RUN-MANIFEST-DAMAGED") as caught:
        read_manifest(path)
    assert caught.value.exit_code == ExitCode.ENVIRONMENT
