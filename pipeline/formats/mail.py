"""Mail messages (.eml): subject, sender, receivers and date as the first lines, then the body; attachments by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from email import policy
from email.message import EmailMessage
from email.parser import BytesParser
from importlib import metadata
from typing import BinaryIO, Final

from pipeline.encodings import decoded
from pipeline.errors import DocumentError
from pipeline.extraction import About, Extraction, Stretch
from pipeline.html_text import parse_html, stretches

SUFFIXES: Final = (".eml",)
_LARGEST: Final = 64 << 20
_HEADERS: Final = ("Subject", "From", "To", "Cc", "Date")


def version() -> str:
    return f"2 selectolax {metadata.version('selectolax')}"


def extract(file: BinaryIO, options: Mapping[str, str]) -> Extraction:
    data = file.read(_LARGEST + 1)
    refuse_large(len(data))
    yield from read_message(data)


def refuse_large(size: int) -> None:
    """Raise DocumentError for a message of so many bytes, if they are too many."""
    if size > _LARGEST:
        raise DocumentError("parse", "too_large", f"a message of more than {_LARGEST >> 20} MiB; remove attachments")


def read_message(data: bytes) -> Extraction:
    """The text of one message. Raises DocumentError."""
    message = BytesParser(policy=policy.default).parsebytes(data)
    if not isinstance(message, EmailMessage) or not any(message.get(name) for name in ("From", "Date", "Subject")):
        raise DocumentError("parse", "parse_error", "not a mail message: it has no From, Date or Subject")
    headers = {name: " ".join(str(message[name]).split()) for name in _HEADERS if message[name]}
    yield Stretch("\n".join(f"{name}: {text}" for name, text in headers.items()) + "\n\n")
    text, errors, kind = _body_of(message)
    yield from _body(text, kind)
    attached = [part.get_filename() or part.get_content_type() for part in message.iter_attachments()]
    if attached:
        yield Stretch("\n\n" + "\n".join(f"Attachment: {name}" for name in attached))
    about = {name.lower(): text for name, text in headers.items() if name != "Subject"}
    yield About(decode_errors=errors, title=headers.get("Subject"), metadata=about)


def _body_of(message: EmailMessage) -> tuple[str, int, str]:
    """The text of the body, its decoding errors and its type: the page where the plain text is blank or not there."""
    text, errors, kind = "", 0, ""
    for wanted in ("plain", "html"):
        body = message.get_body(preferencelist=(wanted,))
        if isinstance(body, EmailMessage) and not text.strip():
            text, errors = _text(body)
            kind = body.get_content_type()
    return text, errors, kind


def _text(part: EmailMessage) -> tuple[str, int]:
    payload = part.get_payload(decode=True)
    text, _, errors = decoded(payload if isinstance(payload, bytes) else b"", part.get_content_charset())
    return text, errors


def _body(text: str, kind: str) -> Iterator[Stretch]:
    if kind != "text/html":
        yield Stretch(text.replace("\r\n", "\n").strip())
        return
    root = parse_html(text)
    if root is not None:
        yield from (Stretch(found.text) for found in stretches(root) if isinstance(found, Stretch))
