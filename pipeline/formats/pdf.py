"""PDF files, page by page. With `pypdfium2` installed it reads them, else `pypdf` does; scans without text are refused.

A page's text is its own stretch, so every sentence knows its page. A blank line stands behind it, or a line end alone
where its last sentence goes on over the page's end. Ligatures are spelled out and words that were
hyphenated at a line's end are joined; running heads and feet go if the option `pdf_headers` is `drop`. Files that
everybody may read are decrypted, others with the password in the environment variable that the option `password_env`
names. Outlines, forms, scripts, attachments and pictures are never looked at.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from pipeline.errors import DocumentError
from pipeline.extraction import About, Extraction, Stretch
from pipeline.files import opened
from pipeline.page_turns import with_turns
from pipeline.running_lines import without_running_lines

if TYPE_CHECKING:
    import pypdf
    import pypdfium2

TEXT_SHARE: Final = 0.1
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
    }
)
_PAGE: Final = re.compile(rb"/Type\s*/Page(?![A-Za-z])")
_LINEARIZED: Final = re.compile(rb"/Linearized\b[^>]{0,200}?/N\s+(\d{1,6})\b")
_SCAN_BYTES: Final = 1 << 20
_LINE_END_HYPHEN: Final = "\ufffe"
"""What PDFium writes for a hyphen and the line end behind it. There is no `\\n` then."""
_HYPHENATED: Final = re.compile(rf"([^\W\d_])(?:[-\u2010] *(\n) *|{_LINE_END_HYPHEN})([^\W\d_]+)")
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
    return f"4 {_engine()} {metadata.version(_engine())}"


def count_pages(path: str) -> int | None:
    """How many pages a file seems to have, without parsing it; None if it does not show."""
    count, rest = 0, b""
    try:
        with opened(path) as source, open(source, "rb", closefd=False) as file:
            while data := file.read(_SCAN_BYTES):
                told = _LINEARIZED.search(data[:_HEADER_WITHIN]) if not rest else None
                if told:
                    return int(told[1])
                data = rest + data
                found = list(_PAGE.finditer(data, 0, len(data) - 1))
                count += len(found)
                rest = data[max(found[-1].end() if found else 0, len(data) - 32) :]
    except (DocumentError, OSError):
        return None
    return count or None


def extract(file: BinaryIO, options: Mapping[str, str]) -> Extraction:
    if b"%PDF-" not in file.read(_HEADER_WITHIN):
        raise DocumentError("parse", "parse_error", "not a PDF file: it does not begin as one")
    file.seek(0)
    seen, variable = _Seen(), options.get("password_env")
    pages = _pdfium_pages(file, seen, variable) if _engine() == "pypdfium2" else _pypdf_pages(file, seen, variable)
    if options.get("pdf_headers") == "drop":
        pages = without_running_lines(pages)
    for number, (text, goes_on) in enumerate(with_turns(map(clean, pages)), start=1):
        seen.note(number, text)
        if text:
            yield Stretch(text + ("\n" if goes_on else "\n\n"), page=number)
    seen.refuse_scans()
    yield About(title=None, pages=seen.pages, metadata=seen.metadata())


def clean(text: str) -> str:
    """A page's text with ligatures spelled out, words joined over line ends and no white space around it."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").translate(_LIGATURES)
    return _HYPHENATED.sub(_joined, _TRAILING.sub("\n", text)).replace(_LINE_END_HYPHEN, "-").strip()


def _joined(found: re.Match[str]) -> str:
    """A word whose second part begins small was hyphenated; before and behind a capital the hyphen is its own."""
    first, line_end, second = found[1], found[2] or "", found[3]
    hyphen = "" if second[0].islower() and not first.isupper() else "-"
    return f"{first}{hyphen}{second}{line_end}"


@dataclass
class _Seen:
    """What the pages so far were like."""

    pages: int = 0
    chars: int = 0
    unreadable: int = 0
    blank: tuple[int, ...] = ()
    labels: list[str] = field(default_factory=list)

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

    def metadata(self) -> dict[str, str]:
        """What the pages are called, where that is not their numbers from 1, and what was wrong with them."""
        notes = {"pages_without_text": ", ".join(map(str, self.blank))} if self.blank else {}
        if any(label and label != str(number) for number, label in enumerate(self.labels, start=1)):
            notes["page_labels"] = json.dumps(self.labels, ensure_ascii=False)
        if self.unreadable > _UNREADABLE_SHARE * self.chars:
            notes["text_quality"] = f"low: {self.unreadable:,} of {self.chars:,} characters have no meaning"
        return notes


def _engine() -> str:
    try:
        metadata.version("pypdfium2")
    except metadata.PackageNotFoundError:
        return "pypdf"
    return "pypdfium2"


def _pypdf_pages(file: BinaryIO, seen: _Seen, variable: str | None) -> Iterator[str]:
    import pypdf
    from pypdf.errors import LimitReachedError, PdfReadError

    with pypdf.apply_configuration(**_PYPDF_LIMITS):
        try:
            reader = _pypdf_reader(file, variable)
            _refuse_too_many(len(reader.pages))
            with contextlib.suppress(Exception):  # whatever is wrong with the labels costs only them
                seen.labels.extend(reader.page_labels)
            for page in reader.pages:
                yield page.extract_text()
        except LimitReachedError as error:
            raise DocumentError("parse", "bomb", f"more work than a document is: {_one_line(error)}") from error
        except PdfReadError as error:
            raise DocumentError(
                "parse", "parse_error", f"damaged: {_one_line(error)}; repair the file (qpdf)"
            ) from error


def _pypdf_reader(file: BinaryIO, variable: str | None) -> pypdf.PdfReader:
    """A reader of a file that is not encrypted any more. Raises DocumentError, and what pypdf raises."""
    import pypdf

    try:
        reader = pypdf.PdfReader(file, root_object_recovery_limit=10_000)
        if not reader.is_encrypted or reader.decrypt(""):
            return reader
        if not reader.decrypt(_password(variable)):
            raise _bad_password(variable)
    except NotImplementedError as error:  # a security handler of somebody's own
        raise _encrypted() from error
    return reader


def _pdfium_pages(file: BinaryIO, seen: _Seen, variable: str | None) -> Iterator[str]:
    import pypdfium2

    document = _pdfium_document(file, variable)
    _refuse_too_many(len(document))
    for index in range(len(document)):
        try:
            page = document[index]
            seen.labels.append(document.get_page_label(index))
            text = page.get_textpage()
            yield text.get_text_range()
            text.close()
            page.close()
        except pypdfium2.PdfiumError as error:
            message = f"damaged: {_one_line(error)}; repair the file (qpdf)"
            raise DocumentError("parse", "parse_error", message, page=index + 1) from error


def _pdfium_document(file: BinaryIO, variable: str | None) -> pypdfium2.PdfDocument:
    """A document that is not encrypted any more. Raises DocumentError."""
    import pypdfium2
    from pypdfium2.raw import FPDF_ERR_PASSWORD, FPDF_ERR_SECURITY

    password: str | None = None
    while True:
        try:
            return pypdfium2.PdfDocument(file, password=password)
        except pypdfium2.PdfiumError as error:
            reason = getattr(error, "err_code", None)
            if reason == FPDF_ERR_SECURITY:
                raise _encrypted() from error
            if reason != FPDF_ERR_PASSWORD:
                message = f"damaged: {_one_line(error)}; repair the file (qpdf)"
                raise DocumentError("parse", "parse_error", message) from error
            if password is not None:
                raise _bad_password(variable) from error
            password = _password(variable)
            file.seek(0)


def _password(variable: str | None) -> str:
    """What the environment variable holds. Raises DocumentError if none is named or it is not set."""
    if variable is None:
        raise _encrypted()
    if variable not in os.environ:
        message = f"encrypted, and the variable {variable} that is to hold the password is not set; set it, run again"
        raise DocumentError("parse", "encrypted", message, retryable=True)
    return os.environ[variable]


def _bad_password(variable: str | None) -> DocumentError:
    message = f"the password in {variable} does not open it; correct it and run again"
    return DocumentError("parse", "bad_password", message, retryable=True)


def _refuse_too_many(pages: int) -> None:
    if pages > _MOST_PAGES:
        raise DocumentError("parse", "bomb", f"{pages:,} pages, more than {_MOST_PAGES:,}; split the file")


def _encrypted() -> DocumentError:
    return DocumentError("parse", "encrypted", "encrypted with a password; set inputs.pdf.password_env in a job file")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
