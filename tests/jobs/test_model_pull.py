"""Models of the Hugging Face Hub: fetched from a server on this machine, used without any."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from rwkv_runtime import hub
from rwkv_runtime.errors import ModelFileError
from tests.jobs.project import JOB, REPOSITORY, Project, prose
from tests.rwkv_runtime.tiny import save_pth, tiny_tensors

pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed (extra `hub`)")

REPO, COMMIT, FILE = "somebody/rwkv", "0123456789abcdef0123456789abcdef01234567", "models/tiny.pth"
TOKENIZER = (REPOSITORY / "rwkv_runtime" / "default" / "tokenizer.json").read_bytes()


class Hub:
    """A server that answers as the hub does, and the commands that run against it or without it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        tensors = tiny_tensors(vocabulary=16384, layers=1)
        self.model = save_pth(folder / "tiny.pth", tensors).read_bytes()
        self.files = {FILE: self.model, "models/tokenizer.json": TOKENIZER, "other/plain.pth": self.model}
        self.asked: list[str] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def environment(self) -> dict[str, str]:
        return {
            "HF_ENDPOINT": f"http://127.0.0.1:{self._server.server_port}",
            "HF_HOME": str(self.folder / "hf"),
            "XDG_CACHE_HOME": str(self.folder / "cache"),
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_XET": "1",
            "NO_PROXY": "127.0.0.1",
        }

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """A command in a process of its own, since the hub's client reads its environment when it is imported."""
        command = [sys.executable, "-m", "jobs.cli", *arguments]
        whole = os.environ | self.environment | environment
        return subprocess.run(
            command, cwd=REPOSITORY, env=whole, capture_output=True, text=True, timeout=120, check=False
        )

    def pull(self, file: str = FILE, revision: str = COMMIT, repo: str = REPO) -> subprocess.CompletedProcess[str]:
        return self.run("model", "pull", repo, "--file", file, "--revision", revision, "--json")

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def _answer(self) -> None:
                hub.asked.append(f"{self.command} {self.path}")
                content = hub.files.get(self.path.removeprefix(f"/{REPO}/resolve/{COMMIT}/"))
                self.send_response(404 if content is None else 200)
                self.send_header("X-Repo-Commit", COMMIT)
                if content is None:
                    self.send_header("X-Error-Code", "EntryNotFound")
                self.send_header("ETag", f'"{hashlib.sha256(content or b"").hexdigest()}"')
                self.send_header("Content-Length", str(len(content or b"")))
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(content or b"")

            do_GET = do_HEAD = _answer  # noqa: N815

            def log_message(self, *_: object) -> None:
                """Keep quiet."""

        return Handler


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    hub = Hub(tmp_path_factory.mktemp("hub"))
    yield hub
    hub.close()


@pytest.fixture(scope="module")
def pulled(server: Hub) -> dict[str, str]:
    done = server.pull()
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout)
    return found


def test_a_pulled_file_is_recorded_with_its_hash_and_commit(server: Hub, pulled: dict[str, str]) -> None:
    assert pulled["sha256"] == hashlib.sha256(server.model).hexdigest()
    assert pulled["source"] == f"hf://{REPO}@{COMMIT}/{FILE}"
    assert Path(pulled["path"]).read_bytes() == server.model
    assert Path(pulled["path"]).with_name("tokenizer.json").read_bytes() == TOKENIZER


def test_a_job_runs_with_a_pulled_model_without_a_network(server: Hub, pulled: dict[str, str], tmp_path: Path) -> None:
    project = Project(tmp_path / "project", a=prose(6))
    project.write_job(model={**JOB["model"], "source": f"hf://{REPO}", "file": FILE, "revision": COMMIT})
    before = len(server.asked)
    done = server.run("run", str(project.job), "--no-progress", HF_ENDPOINT="http://127.0.0.1:9", HF_HUB_OFFLINE="1")
    assert done.returncode == 0, done.stderr
    assert len(server.asked) == before


def test_a_file_without_a_tokenizer_beside_it_is_pulled_alone(tmp_path) -> None:
    alone = Hub(tmp_path)
    try:
        done = alone.pull("other/plain.pth")
        inspected = alone.run("model", "inspect", f"hf://{REPO}")
    finally:
        alone.close()
    assert done.returncode == 0, done.stderr
    assert inspected.returncode == 0 and "RWKV-7" in inspected.stdout


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"file": "models/none.pth"}, "models/none.pth: cannot be fetched ("),
        ({"revision": "main"}, "the revision 'main' is no commit; give its 40 hexadecimal digits"),
        ({"repo": "just-a-name"}, "just-a-name: is no repository of the Hugging Face Hub; give OWNER/REPO"),
    ],
)
def test_what_cannot_be_pulled_is_one_line_and_exit_7(server: Hub, change, message) -> None:
    done = server.pull(**change)
    assert (done.returncode, len(done.stderr.strip().splitlines())) == (7, 1), done.stderr
    assert message in done.stderr


def test_a_cached_file_that_was_changed_is_refused(server: Hub, pulled: dict[str, str]) -> None:
    blob = Path(pulled["path"]).resolve()
    content = blob.read_bytes()
    blob.write_bytes(content + b"\0")
    try:
        done = server.run("model", "verify", f"hf://{REPO}")
    finally:
        blob.write_bytes(content)
    assert done.returncode == 7 and "is not what was pulled" in done.stderr


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("hf://nobody/nothing", r"nothing of it was pulled yet; run `unspool model pull nobody/nothing --file FILE"),
        (
            f"hf://nobody/nothing@{COMMIT}/a.pth",
            "not in the cache; run `unspool model pull nobody/nothing --file a.pth",
        ),
        ("hf://nobody", "is no model of the hub; write hf://OWNER/REPO"),
        ("hf://nobody/nothing@main/a.pth", "is no model of the hub; write hf://OWNER/REPO"),
    ],
)
def test_a_model_that_is_not_there_is_refused_with_the_command_to_run(source, message, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(ModelFileError, match=message):
        hub.find(source)
