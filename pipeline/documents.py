"""What a document is to the rest of the pipeline: a reference, facts, and blocks of text in reading order.

Knows nothing of file formats (each is a module of `pipeline.formats`), tokens or tasks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

if TYPE_CHECKING:
    from pipeline.values import Value

Cursor: TypeAlias = "Mapping[str, Value]"
"""Where a reader stands: plain values that the reader made and that it alone understands."""

FOLLOW: Final = "follow"
"""The option of a document that is followed: GROWS, or TO_ITS_END once it is to be read to where it ends now."""
GROWS: Final = "grows"
TO_ITS_END: Final = "to its end"
LANGUAGE: Final = "language"
"""The option that says the language of a document that is followed, where it need not be told from the text."""


@dataclass(frozen=True)
class DocumentRef:
    """One input, cheap to list and to send. `path` is absolute; `uri` is what the user would recognise."""

    doc_id: str
    uri: str
    path: str
    size: int
    mtime_ns: int
    reader: str
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def follows(self) -> bool:
        """Whether there is no end to it: it is read on as it grows."""
        return self.options.get(FOLLOW) == GROWS

    def as_followed(self, follows: bool, language: str | None) -> DocumentRef:
        """The same document followed on, or else read to its end; in the language of the job if it names one.

        One that was not listed to be followed stays as it is.
        """
        if FOLLOW not in self.options:
            return self
        told = {LANGUAGE: language} if language else {}
        return replace(self, options={**self.options, FOLLOW: GROWS if follows else TO_ITS_END, **told})


@dataclass(frozen=True)
class DocumentFacts:
    """What is known of a document once it has been opened. `bytes` is the size of the source.

    `text_id` names the decoded text, where more than the bytes of the source determine it: how they were read.
    """

    source_sha256: str
    bytes: int
    encoding: str
    decode_errors: int
    title: str | None
    language: str
    pages: int | None
    metadata: Mapping[str, str] = field(default_factory=dict)
    text_id: str = ""


@dataclass(frozen=True)
class Block:
    """A stretch of decoded text, a few kilobytes, that lies in one section and on one page.

    The blocks of a document, joined, are its text. Where that of a page ends with one line end and not with a blank
    line, its last sentence goes on with the first words of the next page. `after` restarts the reader behind this
    block. `is_settled` says that nothing appended to the source could change this block or its section; once it is
    false it stays so. Only formats whose files may grow (they have `GROWS`) need to say so. A block without text says
    that nothing more is there yet; only documents that are followed have such.
    """

    text: str
    section: str | None
    page: int | None
    after: Cursor
    is_settled: bool = True


class Document(Protocol):
    """An opened document. `blocks` makes a fresh iterator each time; it may raise DocumentError."""

    @property
    def ref(self) -> DocumentRef: ...

    @property
    def facts(self) -> DocumentFacts: ...

    def blocks(self, after: Cursor | None = None) -> Iterator[Block]: ...
