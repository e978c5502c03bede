"""The manifest: the frozen list of a run's documents, in the order of the output.

Patterns become files here, in an order that depends on names alone. A document's URI is its path relative to the
folder of the job file, with slashes (`../` included for files outside of it), so a project that is copied elsewhere
keeps its document ids. Knows nothing of what the files hold.

In patterns `*` and `?` stand for anything but a slash, `[…]` for one of some characters, `**` for any number of
folders. They match hidden names only where the pattern spells the dot, and `**` does not enter linked folders.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

from jobs.errors import ExitCode, JobError, usage_error
from jobs.input_list import Listed
from pipeline.durable import Disk, json_line, read_bytes, seal, sha256_hex, unseal
from pipeline.errors import DocumentError, MissingExtraError
from pipeline.remote import RemoteFile, is_remote, look, walk

if TYPE_CHECKING:
    from pipeline.records import Member

_MAGIC: Final = re.compile(r"[*?[]")
_SPECIAL: Final = re.compile(r"[\\\[\]^&~|]")  # what means more inside […] of a regular expression than in a pattern
_NOT_HIDDEN: Final = r"(?!\.)"
_RUN_DIRECTORY: Final = {"run.json", "ledger", "inputs"}
"""What every run directory holds."""


@dataclass(frozen=True)
class InputPattern:
    """`path`: an absolute path or pattern. `exclude`: patterns of what to leave out. `options`: for the reader.

    `listed` are the documents of a list, and then `path` is of no account.

    An excluding pattern without a slash is held against file names, one that is absolute against absolute paths,
    any other against URIs.
    """

    path: str
    exclude: tuple[str, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)
    listed: tuple[Listed, ...] = ()


@dataclass(frozen=True)
class _Choice:
    """A file that is to be read: how, and under which id if it was given one."""

    options: Mapping[str, str]
    given_id: str = ""
    remote: RemoteFile | None = None


@dataclass(frozen=True)
class ManifestEntry:
    """One document. `ordinal` counts from 0; `size` in bytes and `mtime_ns` are those at the time of listing.

    `member` names it within a file of many; its `uri` is then that of the file, `#` and this name. `name` is the path
    where the `uri` cannot say it, as that of a file whose name is not UTF-8.
    """

    ordinal: int
    doc_id: str
    uri: str
    size: int
    mtime_ns: int
    reader: str
    options: Mapping[str, str] = field(default_factory=dict)
    member: str = ""
    name: str = ""

    def source(self, root: Path) -> str:
        """The path of the document's file, or its address if it is on a store."""
        file = self.uri.removesuffix(f"#{self.member}") if self.member else self.uri
        return file if is_remote(file) else str(self.path(root))

    def path(self, root: Path) -> Path:
        """Where the document lies, given the folder that URIs are relative to."""
        if self.name:
            return Path(os.path.normpath(root / self.name))
        file = self.uri.removesuffix(f"#{self.member}") if self.member else self.uri
        return Path(os.path.normpath(root / file))


def document_id(uri: str, member: str = "") -> str:
    """The id of a document; `member` names one document within a file of many."""
    return "d" + sha256_hex(f"{uri}\0{member}".encode())[:16]


def names(name: str) -> frozenset[str]:
    """What a user's name for a document may be of it: its id, its address, the id it was given in a list."""
    return frozenset((name, document_id(name, "given")))


def called(entries: Iterable[ManifestEntry], name: str) -> ManifestEntry:
    """The document that a user means: by its id, its address, the id it was given in a list or as a record.

    Raises JobError (exit 2) if there is none, or if records of several files are called so.
    """
    meant, records = names(name), list[ManifestEntry]()
    for entry in entries:
        if meant & {entry.doc_id, entry.uri}:
            return entry
        if entry.member == name:
            records.append(entry)
    if len(records) > 1:
        message = f"{name!r} are both {records[0].uri} and {records[1].uri}; say which"
        raise usage_error("RUN-NO-DOCUMENT", message)
    if not records:
        message = f"{name!r} is no document of this run; `unspool status` and the documents table name them"
        raise usage_error("RUN-NO-DOCUMENT", message)
    return records[0]


def expand(
    inputs: Sequence[InputPattern], root: Path, limit: int | None, reader_of: Callable[[str], str]
) -> list[ManifestEntry]:
    """The files that the patterns name, each once, ordered by the bytes of their URIs; at most `limit` of them.

    A file that several patterns name has the options of the first. One that a list names, or that was there a moment
    ago, need not be there: reading it says why. `reader_of` chooses the reader for a path. Raises JobError (exit 2): a
    file that is not there, a pattern that matches nothing, a folder, a folder that cannot be read, one id twice.
    """
    choices: dict[str, _Choice] = {}
    for pattern in inputs:
        for path, choice in _choices(pattern, root):
            choices.setdefault(path, choice)
    paths = {_uri(path, root): path for path in sorted(choices, reverse=True)}
    chosen = sorted(paths, key=lambda uri: uri.encode("utf-8"))[:limit]
    entries = [_entry(n, uri, paths[uri], root, reader_of, choices[paths[uri]]) for n, uri in enumerate(chosen)]
    _refuse_one_id_twice(entries)
    return entries


def _choices(pattern: InputPattern, root: Path) -> Iterator[tuple[str, _Choice]]:
    for one in pattern.listed:
        given = {"given": json.dumps(known)} if (known := _known(one)) else {}
        yield one.path, _Choice({**pattern.options, **given}, one.id)
    if is_remote(pattern.path):
        yield from ((one.address, _Choice(pattern.options, remote=one)) for one in remote_files(pattern, root))
    elif not pattern.listed:
        yield from ((path, _Choice(pattern.options)) for path in _paths(pattern, root))


def _known(one: Listed) -> dict[str, str]:
    """What the documents table is to say of a listed document."""
    return {**one.metadata, "id": one.id} if one.id else dict(one.metadata)


def _refuse_one_id_twice(entries: Iterable[ManifestEntry]) -> None:
    seen: dict[str, str] = {}
    for entry in entries:
        if entry.doc_id in seen:
            message = f"has the id of {seen[entry.doc_id]}; give each document of the lists an id of its own"
            raise usage_error("INPUT-DUPLICATE-ID", message, entry.uri)
        seen[entry.doc_id] = entry.uri


def with_members(
    entries: Iterable[ManifestEntry],
    root: Path,
    limit: int | None,
    members_of: Callable[[str, str, Mapping[str, str]], Iterable[Member] | None],
) -> list[ManifestEntry]:
    """The entries with files of many documents replaced by these, in their order there; at most `limit`.

    `members_of` lists the documents in a file, given reader, path and options. A file that cannot be listed to its
    end stays as it is (behind what was listed of it), so that reading it says why. Raises JobError (exit 2): two
    documents of a file have the same name.
    """
    every = (one for entry in entries for one in _members(entry, root, members_of))
    return [replace(entry, ordinal=number) for number, entry in enumerate(islice(every, limit))]


def _members(
    entry: ManifestEntry, root: Path, members_of: Callable[[str, str, Mapping[str, str]], Iterable[Member] | None]
) -> Iterator[ManifestEntry]:
    found = members_of(entry.reader, entry.source(root), entry.options)
    lines: dict[str, str] = {}
    listed = True
    try:
        for member in _told_apart(found or (), entry.options):
            line = member.options.get("place") or f"line {member.options.get('line', '?')}"
            if member.name in lines:
                message = f"two records have the id {member.name!r}, {lines[member.name]} and {line}; correct it"
                raise usage_error("INPUT-DUPLICATE-ID", message, entry.uri)
            lines[member.name] = line
            uri, doc_id = f"{entry.uri}#{member.name}", document_id(entry.uri, member.name)
            options = dict(member.options)
            yield replace(entry, doc_id=doc_id, uri=uri, size=member.size, options=options, member=member.name)
    except DocumentError:
        listed = False
    except OSError as error:
        raise _missing(str(entry.path(root)), error) from error
    if not lines or not listed:
        yield entry


def _told_apart(found: Iterable[Member], options: Mapping[str, str]) -> Iterator[Member]:
    """The documents of a file, those without an id under names that no other has as its id. Raises what listing does.

    Where nothing is without an id, or all are, nobody is waited for.
    """
    members, ids = iter(found), set[str]()
    for member in members:
        if member.is_placed and "id_key" in options:
            yield from _named_around(ids, [member], members)
            return
        ids.add(member.name)
        yield member


def _named_around(ids: set[str], held: list[Member], rest: Iterator[Member]) -> Iterator[Member]:
    """What is held back and the rest, once it is known which ids there are."""
    failure: DocumentError | None = None
    try:
        held.extend(rest)  # keeps what came before an error
    except DocumentError as error:
        failure = error
    ids.update(member.name for member in held if not member.is_placed)
    yield from (_beside(member, ids) if member.is_placed else member for member in held)
    if failure is not None:
        raise failure


def _beside(member: Member, ids: Set[str]) -> Member:
    """A record that is named by its place: as `8`, or if that is an id, as `line 8`."""
    name, word = member.name, "row" if member.options.get("place", "").startswith("row") else "line"
    while name in ids:
        name = f"{word} {name}"
    return replace(member, name=name)


def write_manifest(path: Path, entries: Sequence[ManifestEntry], disk: Disk) -> None:
    """Write the manifest, once and for all: FileExistsError if it is there. Raises OSError."""
    disk.put_if_absent(path, seal(b"".join(json_line(asdict(entry)) for entry in entries)))


def read_manifest(path: Path) -> list[ManifestEntry]:
    """Read what `write_manifest` wrote. Raises JobError (exit 6) if it is missing or damaged."""
    try:
        entries = _entries_in(path)
        if [entry.ordinal for entry in entries] != list(range(len(entries))):
            raise ValueError("the ordinals are not 0, 1, 2, …")
    except (OSError, ValueError, TypeError) as error:
        raise _damaged(path, error) from error
    return entries


def read_manifests(paths: Sequence[Path]) -> list[ManifestEntry]:
    """The documents of a run from its manifests, in the order in which these were written.

    A later one adds entries behind those before it, or says anew what stands at a place. Raises JobError (exit 6).
    """
    entries: list[ManifestEntry] = read_manifest(paths[0]) if paths else []
    for path in paths[1:]:
        try:
            for entry in _entries_in(path):
                if entry.ordinal > len(entries) or entry.doc_id != _id_at(entries, entry):
                    raise ValueError(f"{entry.uri} does not fit place {entry.ordinal} of {len(entries)}")
                entries[entry.ordinal : entry.ordinal + 1] = [entry]
        except (OSError, ValueError, TypeError) as error:
            raise _damaged(path, error) from error
    return entries


def _id_at(entries: Sequence[ManifestEntry], entry: ManifestEntry) -> str:
    """The document at the place of `entry`; behind the last place, any."""
    return entries[entry.ordinal].doc_id if entry.ordinal < len(entries) else entry.doc_id


def _entries_in(path: Path) -> list[ManifestEntry]:
    return [ManifestEntry(**json.loads(line)) for line in unseal(read_bytes(path)).splitlines()]


def _damaged(path: Path, error: Exception) -> JobError:
    message = f"cannot be read: {error}; restore this file from a copy, or start over in another output.path"
    return JobError("RUN-MANIFEST-DAMAGED", message, exit_code=ExitCode.ENVIRONMENT, where=str(path))


def _entry(
    ordinal: int, uri: str, path: str, root: Path, reader_of: Callable[[str], str], choice: _Choice
) -> ManifestEntry:
    size, mtime_ns = (choice.remote.size, choice.remote.mtime_ns) if choice.remote else _standing(path)
    doc_id = document_id(choice.given_id, "given") if choice.given_id else document_id(uri)
    name = "" if choice.remote or _is_said_by(uri, path, root) else os.path.relpath(path, root)
    return ManifestEntry(ordinal, doc_id, uri, size, mtime_ns, reader_of(path), dict(choice.options), name=name)


def _uri(path: str, root: Path) -> str:
    """What users would recognise: the path relative to `root`."""
    return readable(path if is_remote(path) else Path(os.path.relpath(path, root)).as_posix())


def readable(name: str) -> str:
    """The name of a file with bytes that are not UTF-8 as `\\xff`."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _is_said_by(uri: str, path: str, root: Path) -> bool:
    return Path(os.path.relpath(path, root)).as_posix() == uri


def _standing(path: str) -> tuple[int, int]:
    """Size and time of a file; zeros if it is not there."""
    try:
        facts = os.stat(path)
    except OSError:
        return 0, 0
    return facts.st_size, facts.st_mtime_ns


def remote_files(pattern: InputPattern, root: Path) -> list[RemoteFile]:
    """The files on a store that an address or a pattern names. Raises JobError (exit 2)."""
    try:
        file = look(pattern.path)
        if file is not None:
            return [file]
        if not _MAGIC.search(pattern.path):
            raise _missing(pattern.path)
        found = list(_remote_matches(pattern.path))
    except (DocumentError, MissingExtraError) as error:
        raise usage_error("INPUT-STORE", str(error), pattern.path) from error
    excluded = [_excluder(text, root) for text in pattern.exclude]
    kept = [one for one in found if not any(test(one.address) for test in excluded)]
    if not kept:
        raise _empty(pattern.path, len(found))
    return kept


def _remote_matches(pattern: str) -> Iterator[RemoteFile]:
    names = pattern.split("/")
    fixed = next(place for place, name in enumerate(names) if _MAGIC.search(name))
    if fixed < 3:
        raise usage_error("INPUT-PATTERN", "the bucket must be named in full; correct it in `inputs`", pattern)
    top, rest = "/".join(names[:fixed]), names[fixed:]
    matches = _expression("/".join(rest), _NOT_HIDDEN).fullmatch
    for file in walk(top, None if "**" in rest else len(rest)):
        if matches(file.address.removeprefix(f"{top}/")):
            yield file


def _paths(pattern: InputPattern, root: Path) -> list[str]:
    """The absolute paths of one pattern. What exists under the very name is meant, whatever characters it has."""
    path = os.path.normpath(pattern.path)
    if os.path.isdir(path):
        message = "is a folder; to read the files in it, write **/* behind it"
        raise usage_error("INPUT-FOLDER", message, path)
    if os.path.exists(path):
        return [path]
    if not _MAGIC.search(path):
        raise _missing(path)
    excluded = [_excluder(text, root) for text in pattern.exclude]
    found = list(_matching(path))
    kept = [name for name in found if not any(test(name) for test in excluded)]
    if not kept:
        raise _empty(path, len(found))
    return kept


def _empty(path: str, found: int) -> JobError:
    why = f"all {found} files that it matches are excluded" if found else "it matches no file"
    return usage_error("INPUT-EMPTY", f"{why}; correct the pattern in `inputs`", path)


def _missing(path: str, error: OSError | None = None) -> JobError:
    reason = error.strerror if error and not isinstance(error, FileNotFoundError) else "there is no such file"
    hint = " (`~` stands for itself: write ${HOME})" if "/~" in path else ""
    return usage_error("INPUT-MISSING", f"{reason}{hint}; correct the path in `inputs`", path)


def _matching(pattern: str) -> Iterator[str]:
    """The regular files that an absolute pattern matches, in no particular order."""
    names = pattern.split("/")
    fixed = next(place for place, name in enumerate(names) if _MAGIC.search(name))
    top, rest = "/".join(names[:fixed]) or "/", names[fixed:]
    matches = _expression("/".join(rest), _NOT_HIDDEN).fullmatch
    deepest = None if "**" in rest else len(rest)
    hidden = any(name.startswith(".") for name in rest)
    for path, below in _walk(top, deepest, hidden):
        if matches(below):
            yield path


def _walk(top: str, deepest: int | None, hidden: bool) -> Iterator[tuple[str, str]]:
    """The regular files below a folder: absolute path, and path relative to `top`.

    Run directories below it are passed over: what a run has written is nothing that another, or itself, is to read.
    """
    pending = [(top, "", 1)]
    while pending:
        folder, prefix, depth = pending.pop()
        entries = _listed(folder)
        if prefix and {entry.name for entry in entries} >= _RUN_DIRECTORY:
            continue
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                if (hidden or not entry.name.startswith(".")) and (deepest is None or depth < deepest):
                    pending.append((entry.path, f"{prefix}{entry.name}/", depth + 1))
            elif _is_file_or_leads_nowhere(entry):
                yield entry.path, prefix + entry.name


def _is_file_or_leads_nowhere(entry: os.DirEntry[str]) -> bool:
    """A link to what is not there, or to itself, is listed, so that reading it says so."""
    try:
        return entry.is_file() or (entry.is_symlink() and not os.path.exists(entry.path))
    except OSError:
        return True


def _listed(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        message = f"cannot list this folder: {error.strerror}; allow it or narrow the pattern"
        raise usage_error("INPUT-UNREADABLE", message, folder) from error


def _excluder(pattern: str, root: Path) -> Callable[[str], bool]:
    matches = _expression(pattern, "").fullmatch
    if pattern.startswith("/"):
        return lambda path: matches(path) is not None
    if "/" in pattern:
        return lambda path: matches(_uri(path, root)) is not None
    return lambda path: matches(os.path.basename(path)) is not None


def _expression(pattern: str, guard: str) -> re.Pattern[str]:
    """A pattern as a regular expression; `guard` stands in front of each name that begins with a wildcard."""
    names = pattern.split("/")
    pieces = []
    for place, name in enumerate(names):
        last = place == len(names) - 1
        if name == "**" and not last:
            pieces.append(f"(?:{guard}[^/]+/)*")
        elif name == "**":
            pieces.append(f"(?:{guard}[^/]+/)*{guard}[^/]+")
        else:
            pieces.append(
                (guard if name[:1] in ("*", "?", "[") else "") + _name_expression(name) + ("" if last else "/")
            )
    try:
        return re.compile("".join(pieces), re.DOTALL)
    except re.error as error:
        raise usage_error("INPUT-PATTERN", f"not a pattern: {error}; correct it in `inputs`", pattern) from error


def _name_expression(name: str) -> str:
    pieces = []
    place = 0
    while place < len(name):
        closing = name.find("]", place + 2) if name[place] == "[" else -1
        if closing > 0:
            inside = _SPECIAL.sub(r"\\\g<0>", name[place + 1 : closing])
            inside = "^" + inside[1:] if inside[0] == "!" else inside
            pieces.append(f"(?!/)[{inside}]")
            place = closing
        else:
            pieces.append({"*": "[^/]*", "?": "[^/]"}.get(name[place], re.escape(name[place])))
        place += 1
    return "".join(pieces)
