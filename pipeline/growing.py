"""Text that is still being written: a file that grows, or what comes through a pipe. Each byte is read once.

The blocks of such a document, whenever and in whatever pieces they came, are those of the whole text; an empty one says
that nothing more is there yet. Its cursor holds all that is known of the bytes so far, their hash included: a file is
taken up again only where it still begins with them. One that was replaced or cut short is over, and what was read of it
stands. Knows nothing of models, rows or runs.
"""

from __future__ import annotations

import codecs
import hashlib
import os
import select
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack
from typing import Any, Final, Protocol, cast

from pipeline.documents import FOLLOW, LANGUAGE, TO_ITS_END, Block, Cursor, DocumentFacts, DocumentRef
from pipeline.encodings import guess, mark_of
from pipeline.errors import DocumentError
from pipeline.files import BLOCK_BYTES, NUL_SHARE, SAMPLE_CHARS, opened, refuse_other_kinds
from pipeline.language import detect_language

POLL_SECONDS: Final = 0.25
_TEXT_ID: Final = "followed"
_QUIET_SECONDS: Final = 1.0
_TAIL_BYTES: Final = 64
_ROTATED_LOOKED_AT: Final = 5
_HASHED_AT_ONCE: Final = 1 << 20
_REPLACEMENT: Final = "\ufffd"


class Source(Protocol):
    """Where bytes come from. `read` gives those from a position on: none if there are none yet, None if it is over.

    `begins_with` gives the hash object of the first bytes, False if they are others, None as long as nobody can tell.
    """

    @property
    def why_over(self) -> str: ...

    def begins_with(self, sha256: str, count: int) -> Any: ...

    def read(self, position: int, count: int) -> bytes | None: ...

    def close(self) -> None: ...


class FollowedFile:
    """A file and what is appended to it. Over once another file stands in its place or it is cut short.

    With `to_its_end` it is over where it ends when it is opened. `why_over` says what happened to it, if anything did.
    One that was rotated while nobody looked is read to its end where it lies now, `app.log.1` or `app.log-20260801`.
    """

    def __init__(self, path: str, to_its_end: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self.why_over = ""
        self._path = path
        self._to_its_end = to_its_end
        self._clock = clock
        self._open = ExitStack()
        self._descriptor: int | None = None
        self._end: int | None = None
        self._tail = b""
        self._quiet_since: float | None = None

    def begins_with(self, sha256: str, count: int) -> Any:
        """The hash object of the first `count` bytes, if that is their hash; None if there is no file yet.

        False if the file begins otherwise. Raises DocumentError.
        """
        if not self._is_open():
            return None
        if found := self._hash_if(sha256, count):
            return found
        for path in self._rotated(count):
            self.close()
            self._descriptor = self._open.enter_context(opened(path))
            if found := self._hash_if(sha256, count):
                self._end = os.fstat(self._descriptor).st_size
                self.why_over = f"was rotated to {os.path.basename(path)}; it was read to its end there"
                return found
        self.why_over = "no longer begins with what was read of it (was it rotated?); that stands, its end was not read"
        return False

    def _hash_if(self, sha256: str, count: int) -> Any:
        """The hash object of the first `count` bytes of the open file, if that is their hash."""
        digest, position, self._tail = hashlib.sha256(), 0, b""
        while position < count and (data := self._pread(min(_HASHED_AT_ONCE, count - position), position)):
            digest.update(data)
            position += len(data)
            self._tail = (self._tail + data)[-_TAIL_BYTES:]
        return digest if position == count and digest.hexdigest() == sha256 else None

    def _rotated(self, count: int) -> list[str]:
        """The newest files beside this one that it may be now: of its name and more, and not shorter than was read."""
        folder, name = os.path.split(self._path)
        with os.scandir(folder) as entries:
            beside = [one for one in entries if one.name.startswith((f"{name}.", f"{name}-")) and one.is_file()]
        found = [(one.stat().st_mtime_ns, one.path) for one in beside if one.stat().st_size >= count]
        return [path for _, path in sorted(found, reverse=True)[:_ROTATED_LOOKED_AT]]

    def read(self, position: int, count: int) -> bytes | None:
        if not self._is_open():
            return b""
        if self._end is not None:
            return self._pread(min(count, self._end - position), position) or None
        before = self._pread(len(self._tail), position - len(self._tail)) if self._tail else b""
        if len(before) == len(self._tail) and before != self._tail:
            self.why_over = "was rewritten in place; what was read of it stands"
            return None
        data = self._pread(count, position)
        if data:
            self._tail, self._quiet_since = (self._tail + data)[-_TAIL_BYTES:], None
        return data or self._nothing(position)

    def close(self) -> None:
        self._open.close()
        self._descriptor = None

    def _nothing(self, position: int) -> bytes | None:
        """None if nothing can come any more."""
        assert self._descriptor is not None
        mine = os.fstat(self._descriptor)
        if mine.st_size < position:
            self.why_over = f"was cut short, from {position:,} bytes to {mine.st_size:,}; what was read of it stands"
            return None
        try:
            there = os.stat(self._path)
        except OSError:
            return b""  # it is being replaced, or a disk is away; the open file may still grow
        if (there.st_dev, there.st_ino) == (mine.st_dev, mine.st_ino):
            return b""
        # Whoever writes to it may still do so until told of the new one.
        self._quiet_since = self._quiet_since or self._clock()
        if self._clock() - self._quiet_since < _QUIET_SECONDS:
            return b""
        self.why_over = "was replaced by another file (rotated); it was read to its end"
        return None

    def _is_open(self) -> bool:
        if self._descriptor is not None:
            return True
        try:
            self._descriptor = self._open.enter_context(opened(self._path))
        except DocumentError as error:
            if self._to_its_end or error.error_type != "missing":
                raise
            return False
        if self._to_its_end:
            self._end = os.fstat(self._descriptor).st_size
        return True

    def _pread(self, count: int, position: int) -> bytes:
        assert self._descriptor is not None
        try:
            return os.pread(self._descriptor, max(count, 0), position)
        except OSError as error:
            message = f"cannot read the file: {error.strerror}"
            raise DocumentError("read", "io_error", message, byte_offset=position, retryable=True) from error


class Pipe:
    """What comes through a pipe or from a terminal, until its writers are gone or `is_stopped` says so."""

    why_over = ""

    def __init__(self, descriptor: int, is_stopped: Callable[[], bool], begun: bytes = b"") -> None:
        """`begun` is what has been read of it already."""
        self._descriptor = descriptor
        self._is_stopped = is_stopped
        self._begun = begun

    def begins_with(self, sha256: str, count: int) -> Any:
        return False

    def read(self, position: int, count: int) -> bytes | None:
        if self._begun:
            data, self._begun = self._begun[:count], self._begun[count:]
            return data
        if self._is_stopped():
            return None
        ready, _, _ = select.select([self._descriptor], [], [], POLL_SECONDS)
        return (os.read(self._descriptor, count) or None) if ready else b""

    def close(self) -> None:
        pass


class GrowingText:
    """Plain text as it is written. `facts` are those of the bytes so far.

    Its language and encoding are told from its first 20,000 characters, which are waited for; where the language is
    given, nothing is waited for and the text is UTF-8 unless a byte order mark or the job say otherwise.
    """

    def __init__(self, ref: DocumentRef, source: Source) -> None:
        self.ref = ref
        self._source = source
        self._language = ref.options.get(LANGUAGE, "")
        self._is_told = bool(self._language)
        self._encoding = ""
        self._label = ""
        self._hash: Any = hashlib.sha256()
        self._byte = 0
        self._replaced = 0
        self._is_damaged = False
        self._is_blank = True
        self._unread = b""

    @property
    def why_over(self) -> str:
        """What happened to the file that is over; empty if nothing did."""
        return self._source.why_over

    @property
    def facts(self) -> DocumentFacts:
        return DocumentFacts(
            source_sha256=self._hash.hexdigest(),
            bytes=self._byte,
            encoding=self._label or "utf-8",
            decode_errors=self._replaced if self._is_damaged else 0,
            title=None,
            language=self._language or "en",
            pages=None,
            text_id=_TEXT_ID,
        )

    def blocks(self, after: Cursor | None = None) -> Iterator[Block]:
        """The text behind a cursor, a block at a time; one without text says that there is nothing more yet."""
        known = after if after is not None and after["byte"] else None
        if known is not None:
            self._recall(known)
        return self._blocks(known)

    def _blocks(self, known: Cursor | None) -> Iterator[Block]:
        try:
            over = yield from self._begin() if known is None else self._take_up(known)
            while True:
                while text := self._next_text(over):
                    is_settled = not (over and not self._unread and text.endswith(_REPLACEMENT))
                    yield self._block(text, is_settled)
                if over:
                    break
                over = yield from self._more()
        finally:
            self._source.close()
        if self._is_blank:
            what = "holds nothing but white space" if self._byte else "is empty"
            raise DocumentError("open", "empty", f"the file {what}")

    def _more(self) -> Generator[Block, None, bool]:
        """Wait for more bytes; returns whether it is over."""
        while (data := self._source.read(self._byte + len(self._unread), BLOCK_BYTES)) == b"":
            yield self._block("")
        self._unread += data or b""
        return data is None

    def _begin(self) -> Generator[Block, None, bool]:
        """Wait for as much as tells encoding and language; returns whether it is over."""
        over = False
        while not (over or self._is_enough()):
            over = yield from self._more()
        if not self._unread:
            return True
        refuse_other_kinds(self._unread[:8])
        marked, start = mark_of(self._unread[:8])
        self._encoding = self._encoding_of_head(marked)
        self._label = "utf-8-sig" if start and self._encoding == "utf-8" else self._encoding
        self._refuse_binary()
        self._language = self._language or detect_language(self._head_text(start))
        self._pass(start)
        return over

    def _is_enough(self) -> bool:
        if self._is_told:
            return len(self._unread) >= 8
        if len(self._unread) < SAMPLE_CHARS:
            return False
        marked, start = mark_of(self._unread[:8])
        self._encoding = self._encoding_of_head(marked)
        return len(self._head_text(start)) >= SAMPLE_CHARS

    def _encoding_of_head(self, marked: str) -> str:
        wanted = marked or self.ref.options.get("encoding", "")
        if wanted or self._is_told:
            return wanted or "utf-8"
        head = self._unread[:SAMPLE_CHARS]
        try:
            codecs.getincrementaldecoder("utf-8")("strict").decode(head)
        except UnicodeDecodeError:
            return guess(head)
        return "utf-8"

    def _head_text(self, start: int) -> str:
        return codecs.getincrementaldecoder(self._encoding)("replace").decode(self._unread[start:])[:SAMPLE_CHARS]

    def _refuse_binary(self) -> None:
        head = self._unread[:SAMPLE_CHARS]
        if not self._encoding.startswith(("utf-16", "utf-32")) and head.count(0) > NUL_SHARE * len(head):
            message = f"{head.count(0):,} of the first {len(head):,} bytes are NUL: this is no text"
            raise DocumentError("decode", "binary_not_text", message)

    def _take_up(self, known: Cursor) -> Generator[Block, None, bool]:
        """Make sure that this is what was read; returns whether it is over."""
        while (found := self._source.begins_with(cast(str, known["sha256"]), self._byte)) is None:
            yield self._block("")
        if found is False:
            return True
        self._hash = found
        return False

    def _next_text(self, over: bool) -> str:
        data = self._unread[:BLOCK_BYTES]
        text, used = self._decoded(data, final=False)
        if not text and data and over:
            text, used = self._decoded(data, final=True)
        self._replaced += text.count(_REPLACEMENT)
        self._is_blank = self._is_blank and not text.strip()
        self._pass(used)
        return text

    def _decoded(self, data: bytes, final: bool) -> tuple[str, int]:
        """The text of bytes, and how many of them it stands for: the last may be the beginning of a character."""
        if not data:
            return "", 0
        try:
            decoder = codecs.getincrementaldecoder(self._encoding)("strict")
            text = decoder.decode(data, final)
        except UnicodeDecodeError:
            self._is_damaged = True
            decoder = codecs.getincrementaldecoder(self._encoding)("replace")
            text = decoder.decode(data, final)
        return text, len(data) - len(decoder.getstate()[0])

    def _pass(self, count: int) -> None:
        if not count:
            return
        self._hash.update(self._unread[:count])
        self._byte += count
        self._unread = self._unread[count:]

    def _block(self, text: str, is_settled: bool = True) -> Block:
        after = {
            "byte": self._byte,
            "sha256": self._hash.hexdigest(),
            "encoding": self._encoding,
            "label": self._label,
            "language": self._language,
            "replaced": self._replaced,
            "damaged": self._is_damaged,
            "blank": self._is_blank,
        }
        return Block(text, section=None, page=None, after=after, is_settled=is_settled)

    def _recall(self, known: Cursor) -> None:
        """Know again what was known where the cursor stands."""
        values = cast("Mapping[str, Any]", known)
        self._byte, self._hash = values["byte"], _Known(values["sha256"])
        self._encoding, self._label, self._language = values["encoding"], values["label"], values["language"]
        self._replaced, self._is_damaged, self._is_blank = values["replaced"], values["damaged"], values["blank"]


class _Known:
    """The hash of bytes that are not at hand."""

    def __init__(self, sha256: str) -> None:
        self._sha256 = sha256

    def hexdigest(self) -> str:
        return self._sha256


def followed_text(ref: DocumentRef) -> GrowingText:
    """The document of a file that is followed."""
    return GrowingText(ref, FollowedFile(ref.path, ref.options[FOLLOW] == TO_ITS_END))
