"""What is not meant for others stays where it belongs: files, texts, secrets. Terminals are not steered by anything."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.errors import steers
from jobs.terminal import json_text
from tests.jobs.project import Project, Said, prose, unspool
from tests.pipeline.samples import pdf

pytestmark = pytest.mark.xdist_group("private")

MARK = "Xylomarkus"
SECRET = "hunter2-7f3a"
SECRETS = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "HF_TOKEN", "PGPASSWORD", "RAY_AUTH_TOKEN")
FOR_TEXTS = ("text", "parts", "checkpoints", "states", "quarantine", "output", "report.html")
STEERING = "\x1b]0;title\x07\x1b[2J\x9b31m\u202e\u200b\x7f"

DOCUMENTS: Mapping[str, bytes] = {
    "plain.txt": f"{prose(30)} {MARK} was here. {prose(30, 1)}".encode(),
    "page.html": f"<title>{MARK}</title><h1>{MARK}</h1><p>{prose(3)}</p>".encode(),
    "paper.pdf": pdf([[MARK, "and more"]]),
    "broken.pdf": pdf([[MARK]]).replace(b"endobj", MARK.encode())[:-300],
    "broken.docx": b"PK\x03\x04" + MARK.encode() * 9,
    "records.jsonl": f'{{"text": "{MARK} and {prose(2)}"}}\n{{"other": "{MARK}"}}\n{{"text": "{MARK}\n'.encode(),
    "table.csv": f"text\n{MARK} {prose(2)}\n{MARK},{MARK},{MARK}\n".encode(),
    "binary.txt": MARK.encode() + bytes(range(256)) * 9,
    "empty.txt": b"",
    f"no {STEERING.replace('/', '')}.txt": f"# {STEERING} {MARK}\n\n{STEERING} {prose(9)}".encode(),
}


class Everything:
    """A run over these documents that was stopped, gone on with and looked at in every way."""

    def __init__(self, folder: Path) -> None:
        self.project = Project(folder / "project")
        self.temporary = folder / "temporary"
        self.temporary.mkdir()
        for name, content in DOCUMENTS.items():
            self.project.document(name, content)
        self.project.write_job(
            model={"source": str(self.project.write_model()), "dtype": "fp32"},
            inputs=[{"path": "docs/*.[!c]*"}, {"path": "docs/*.csv", "text_key": "text"}],
            on_error={"max_failed": 1.0},
        )
        umask = os.umask(0)
        try:
            with mock.patch.dict(os.environ, dict.fromkeys(SECRETS, SECRET) | {"TMPDIR": str(self.temporary)}):
                self.said = list(self._calls())
        finally:
            os.umask(umask)

    def _calls(self) -> Iterator[Said]:
        job, out = str(self.project.job), str(self.project.out)
        yield self.project.run(faults="checkpoint.after_write=raise:EIO@2")
        yield unspool("plan", job)
        yield unspool("status", out)
        yield self.project.run("--verbose")
        for command in ("status", "verify", "resume", "report"):
            yield unspool(command, out)
        yield unspool("status", out, "--json")
        yield unspool("export", out, "--to", "jsonl")
        part = next((self.project.out / "parts" / "failures").iterdir())
        part.write_bytes(part.read_bytes()[:-1])
        yield unspool("verify", out)

    @property
    def run_files(self) -> list[Path]:
        return [path for path in self.project.out.rglob("*") if path.is_file()]


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Everything:
    return Everything(tmp_path_factory.mktemp("private"))


def test_the_commands_did_what_they_were_called_for(everything: Everything) -> None:
    assert [said.code for said in everything.said] == [6, 0, 0, 3, 0, 0, 3, 0, 0, 0, 6]
    failures = next((everything.project.out / "output" / "failures").iterdir())
    assert failures.stat().st_size > 0


def test_nobody_else_may_open_anything_of_a_run_whatever_the_umask(everything: Everything) -> None:
    out = everything.project.out
    open_to_others = [path for path in (out, *out.rglob("*")) if stat.S_IMODE(path.stat().st_mode) & 0o077]

    assert open_to_others == []


def test_texts_of_documents_are_in_no_log_and_on_no_screen(everything: Everything) -> None:
    out = everything.project.out
    with_text = {
        path.relative_to(out).as_posix() for path in everything.run_files if MARK.encode() in path.read_bytes()
    }

    assert any(name.startswith("parts/") for name in with_text) or "report.html" in with_text, "the mark is nowhere"
    assert {name for name in with_text if not name.startswith(FOR_TEXTS)} == set()
    shown = everything.said[:-2]
    assert [said for said in shown if MARK in said.err] == []
    assert [path for path in everything.temporary.rglob("*") if path.is_file()] == []


def test_secrets_of_the_environment_are_written_nowhere(everything: Everything) -> None:
    assert [path for path in everything.run_files if SECRET.encode() in path.read_bytes()] == []
    assert [said for said in everything.said if SECRET in said.out + said.err] == []


def test_names_and_texts_steer_the_terminal_in_no_command(everything: Everything) -> None:
    out = str(everything.project.out)
    name = f"docs/no {STEERING}.txt"
    more = [
        unspool("show", out, name),
        unspool("show", out, name, "--json"),
        unspool("show", out, STEERING),
        unspool("search", out, prose(1)),
        unspool("search", out, prose(1), "--json"),
        unspool("summarize", str(everything.project.folder / name), "--no-progress"),
        unspool("embed", str(everything.project.folder / name), "--no-progress"),
        unspool("retry", out, "--doc", STEERING),
        unspool("export", out, "--to", STEERING),
        unspool("run", STEERING),
        unspool(STEERING),
    ]

    assert [said.code for said in more] == [0, 0, 2, 0, 0, 0, 0, 2, 2, 2, 2]
    for said in [*everything.said, *more]:
        assert [character for character in said.out + said.err if steers(character) and character != "\n"] == []


@settings(deadline=None, max_examples=40)
@given(st.recursive(st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8))
def test_json_for_a_terminal_is_read_back_as_it_was_and_holds_nothing_that_steers(value: object) -> None:
    text = json_text(value, indent=1)

    assert json.loads(text) == value
    assert [character for character in text if steers(character) and character != "\n"] == []
