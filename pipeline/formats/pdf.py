"""PDF files, page by page. With `pypdfium2` installed it reads them, else `pypdf` does; scans without text are refused.

A page's text is its own stretch, so every sentence knows its page. Ligatures are spelled out and words that were
hyphenated at a line's end are joined. Outlines, forms, scripts, attachments and pictures are never looked at.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from pipeline.errors import DocumentError
from pipeline.extraction import About, Extraction, Stretch

if TYPE_CHECKING:
    import pypdf

SUFFIXES: Final = (".pdf",)
_HEADER_WITHIN: Final = 1024
_MOST_PAGES: Final = 20_000
_LEAST_CHARS_A_PAGE: Final = 10
_LISTED: Final = 20

_LIGATURES: Final = str.maketrans(
    {
        "ﬀ": "ff",
        "ﬁ": "fi",
        "ﬂ": "fl",
        "ﬃ": "ffi",
        "ﬄ": "ffl",
        "ﬅ": "st",
        "ﬆ": "st",
        "\0": None,
        "\xad": "-",
        "\ufffe": "-",
    }
)
_HYPHENATED: Final = re.compile(r"([^\W\d_])[-\u2010] *\n *([^\W\d_]+)")
_TRAILING: Final = re.compile(r"[ \t]+\n")
_UNREADABLE: Final = re.compile(r"[\ufffd\ue000-\uf8ff]|\(cid:\d+\)")
_UNREADABLE_SHARE: Final = 0.2

# Below pypdf's own limits, which hold for one stream each; the sandbox bounds what all of them cost together.
_PYPDF_LIMITS: Final[dict[str, Any]] = {
    "zlib_maximum_output_length": 20_000_000,
    "lzw_maximum_output_length": 20_000_000,
    "run_length_maximum_output_length": 20_000_000,
    "array_based_stream_maximum_output_length": 20_000_000,
    "stream_decoding_work_maximum_length": 60_000_000,
    "stream_parsing_work_maximum_count": 1_000_000,
    "page_tree_maximum_entries": _MOST_PAGES,
    "jbig2dec_binary": None,
}


def version() -> str:
    return f"1 {_engine()} {metadata.version(_engine())}"


def extract(file: BinaryIO, options: Mapping[str, str]) -> Extraction:
    if b"%PDF-" not in file.read(_HEADER_WITHIN):
        raise DocumentError("parse", "parse_error", "not a PDF file: it does not begin as one")
    file.seek(0)
    seen = _Seen()
    for number, raw in enumerate(_pdfium_pages(file) if _engine() == "pypdfium2" else _pypdf_pages(file), start=1):
        text = clean(raw)
        seen.note(number, text)
        if text:
            yield Stretch(text + "\n\n", page=number)
    seen.refuse_scans()
    yield About(title=None, pages=seen.pages, metadata=seen.warnings())


def clean(text: str) -> str:
    """A page's text with ligatures spelled out, words joined over line ends and no white space around it."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").translate(_LIGATURES)
    return _HYPHENATED.sub(_joined, _TRAILING.sub("\n", text)).strip()


def _joined(found: re.Match[str]) -> str:
    """A word whose second part begins small was hyphenated; before a capital the hyphen is its own."""
    return f"{found[1]}{found[2]}\n" if found[2][0].islower() else f"{found[1]}-{found[2]}\n"


@dataclass
class _Seen:
    """What the pages so far were like."""

    pages: int = 0
    chars: int = 0
    unreadable: int = 0
    blank: tuple[int, ...] = ()

    def note(self, number: int, text: str) -> None:
        self.pages = number
        self.chars += len(text)
        self.unreadable += sum(len(found) for found in _UNREADABLE.findall(text))
        if not text and len(self.blank) < _LISTED:
            self.blank = (*self.blank, number)

    def refuse_scans(self) -> None:
        if not self.pages:
            raise DocumentError("parse", "empty", "the PDF has no pages")
        if self.chars < _LEAST_CHARS_A_PAGE * self.pages:
            message = f"{self.pages:,} page(s) with {self.chars:,} characters: these are pictures; run OCR (ocrmypdf)"
            raise DocumentError("parse", "no_text_layer", message)

    def warnings(self) -> dict[str, str]:
        notes = {"pages_without_text": ", ".join(map(str, self.blank))} if self.blank else {}
        if self.unreadable > _UNREADABLE_SHARE * self.chars:
            notes["text_quality"] = f"low: {self.unreadable:,} of {self.chars:,} characters have no meaning"
        return notes


def _engine() -> str:
    try:
        metadata.version("pypdfium2")
    except metadata.PackageNotFoundError:
        return "pypdf"
    return "pypdfium2"


def _pypdf_pages(file: BinaryIO) -> Iterator[str]:
    import pypdf
    from pypdf.errors import LimitReachedError, PdfReadError

    with pypdf.apply_configuration(**_PYPDF_LIMITS):
        try:
            reader = _pypdf_reader(file)
            _refuse_too_many(len(reader.pages))
            for page in reader.pages:
                yield page.extract_text()
        except LimitReachedError as error:
            raise DocumentError("parse", "bomb", f"more work than a document is: {_one_line(error)}") from error
        except PdfReadError as error:
            raise DocumentError(
                "parse", "parse_error", f"damaged: {_one_line(error)}; repair the file (qpdf)"
            ) from error


def _pypdf_reader(file: BinaryIO) -> pypdf.PdfReader:
    """A reader of a file that everybody may read. Raises DocumentError, and what pypdf raises."""
    import pypdf

    try:
        reader = pypdf.PdfReader(file, root_object_recovery_limit=10_000)
        locked = reader.is_encrypted and not reader.decrypt("")
    except NotImplementedError as error:  # a security handler of somebody's own
        raise _encrypted() from error
    if locked:
        raise _encrypted()
    return reader


def _pdfium_pages(file: BinaryIO) -> Iterator[str]:
    import pypdfium2
    from pypdfium2.raw import FPDF_ERR_PASSWORD, FPDF_ERR_SECURITY

    try:
        document = pypdfium2.PdfDocument(file)
    except pypdfium2.PdfiumError as error:
        if getattr(error, "err_code", None) in (FPDF_ERR_PASSWORD, FPDF_ERR_SECURITY):
            raise _encrypted() from error
        raise DocumentError("parse", "parse_error", f"damaged: {_one_line(error)}; repair the file (qpdf)") from error
    _refuse_too_many(len(document))
    for index in range(len(document)):
        try:
            page = document[index]
            text = page.get_textpage()
            yield text.get_text_range()
            text.close()
            page.close()
        except pypdfium2.PdfiumError as error:
            message = f"damaged: {_one_line(error)}; repair the file (qpdf)"
            raise DocumentError("parse", "parse_error", message, page=index + 1) from error


def _refuse_too_many(pages: int) -> None:
    if pages > _MOST_PAGES:
        raise DocumentError("parse", "bomb", f"{pages:,} pages, more than {_MOST_PAGES:,}; split the file")


def _encrypted() -> DocumentError:
    return DocumentError("parse", "encrypted", "encrypted with a password; save a copy without one (qpdf --decrypt)")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
