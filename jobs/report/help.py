"""What helps against each reason for which a document fails: one sentence, and a command where there is one.

Every error type of the pipeline has its line here; a test looks them up in its source.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from types import MappingProxyType
from typing import Final


@dataclass(frozen=True)
class Help:
    """Words for people, and what they may type before the document is tried again; empty if there is nothing."""

    words: str
    command: str = ""


_UNKNOWN: Final = Help("See the message; mend the document and try it again")
_HELP: Final[Mapping[str, Help]] = MappingProxyType(
    {
        "binary_not_text": Help("It holds no text; give it the ending of what it is, or leave it out with `exclude`"),
        "bomb": Help("It unpacks to far more than it is; leave it out, or unpack it yourself if you trust it"),
        "changed_during_read": Help("It was written to meanwhile; try it again once that is over"),
        "empty": Help("There is nothing in it to read; fetch it again, or leave it out with `exclude`"),
        "bad_password": Help("The password does not open it; set the variable that `pdf.password_env` names"),
        "missing_extra": Help("A package that it needs is not installed; the message names the extra"),
        "encrypted": Help("Give a copy without a password", "qpdf --decrypt --password=… IN.pdf OUT.pdf"),
        "internal_error": Help("This is a fault of unspool; please report it with the traceback in quarantine/"),
        "io_error": Help("The disk or the network did not give it; see that it can be read, then try it again"),
        "missing": Help("It is not there any more; put it back"),
        "nested_archive": Help("An archive within an archive is not opened; unpack the outer one", "unzip OUTER.zip"),
        "no_text_layer": Help("It is a scan: have its text recognised first", "ocrmypdf IN.pdf OUT.pdf"),
        "nonfinite_state": Help("The model computes no finite numbers here; try `--set model.dtype=fp32` in a new run"),
        "parse_error": Help("It is damaged, or not what its ending says; save it anew with the program it comes from"),
        "parse_timeout": Help("It takes longer than on_error.page_timeout to parse; raise that, or split the file"),
        "path_outside_root": Help("The list names a file outside of its folder; set `folder:` to one that holds it"),
        "pattern_timeout": Help("A pattern of the schema takes too long on it; write it without nested repetitions"),
        "permission": Help("It may not be read; give this user the right to", "chmod u+r FILE"),
        "special_file": Help("It is a device, a pipe or a folder; name a file"),
        "text_damaged": Help("What had been parsed of it is damaged; it is parsed again when it is tried again"),
        "timeout": Help("It takes longer than on_error.doc_timeout; raise that: it goes on where it stood"),
        "too_large": Help("It is larger than this format is read in one piece; split it"),
        "unknown_encoding": Help("Say its encoding in the job: `encoding: cp1252`, or whichever it is"),
        "unsupported_type": Help("No reader knows this ending; convert it", "soffice --convert-to docx IN"),
        "worker_crashed": Help("Reading it ended the process; leave it out, or convert it with another program"),
        "worker_hung": Help("Reading it did not end; leave it out, or convert it with another program"),
        "worker_memory": Help("There was too little memory; try it again with fewer workers (-j 1)"),
        "worker_node": Help("The machine that read it was lost; try it again"),
        "worker_unknown": Help("The worker that read it could not be reached; try it again"),
    }
)
_MENDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        ".pdf": "qpdf IN.pdf OUT.pdf",
        ".docx": "soffice --convert-to docx IN.docx",
        ".odt": "soffice --convert-to odt IN.odt",
        ".rtf": "soffice --convert-to docx IN.rtf",
        ".zip": "zip -FF IN.zip --out OUT.zip",
    }
)
"""By ending: what mends many a damaged file."""


def known() -> frozenset[str]:
    """The error types that have help of their own."""
    return frozenset(_HELP)


def help_for(error_type: str, uri: str) -> Help:
    """What helps a document of this address that failed for this reason."""
    found = _HELP.get(error_type, _UNKNOWN)
    if error_type == "parse_error":
        return Help(found.words, _MENDS.get(PurePath(uri).suffix.lower(), ""))
    return found
