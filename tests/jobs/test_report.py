"""`report.html`: one file below 2 MB that shows what the tables hold, in a browser without a network."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from jobs.ledger import RunLedger
from jobs.records import Done, Epoch, Finished, Invalidate, Output
from jobs.report.build import MOST_BYTES, _cut_before, digits, throughput, write_report
from jobs.report.help import help_for, known
from jobs.run_directory import RunDirectory
from pipeline import tables
from tests.jobs.fake_driver import DIMENSIONS, new_run, parquet_bytes, quick_disk, rows_of, sentence
from tests.jobs.project import REPOSITORY, Project, prose, unspool

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
HOSTILE = "</script><script>document.title='taken over'</script><!-- \u2028 & \"quotes\""
FLAGS = [
    f"--{flag}"
    for flag in (
        *("headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking"),
        *("disable-component-update", "disable-sync", "virtual-time-budget=8000"),
    )
]
PROBE = """<script>
const errors = [];
addEventListener("error", event => errors.push(event.message));
const report = console.error; console.error = (...words) => { errors.push(words.join(" ")); report(...words); };
</script>"""
STEPS = """<script>
const later = (step, wait) => setTimeout(() => {
  try { step(); } catch (error) { errors.push(String(error)); }
}, wait);
const seen = {};
const press = (key, target = document.body) =>
  target.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
later(() => {
  seen.title = document.title;
  seen.dots = document.querySelectorAll("#map circle").length;
  seen.rows = document.querySelectorAll("#documents tbody tr").length;
  seen.wide = document.documentElement.scrollWidth - innerWidth;
  press("/"); seen.searching = document.activeElement.id;
  const search = document.getElementById("search"); search.value = "first"; search.dispatchEvent(new Event("input"));
  seen.found = document.querySelectorAll("#documents tbody tr").length;
  const map = document.getElementById("map-search"); map.value = "zzzz"; map.dispatchEvent(new Event("input"));
  seen.faded = document.querySelectorAll("#map circle.faded").length;
  const row = document.querySelector("#documents tbody tr"); row.focus(); press("Enter", row);
}, 400);
later(() => {
  seen.opened = location.hash; seen.lines = document.querySelectorAll("#line path").length;
  seen.items = document.querySelectorAll(".item").length;
  const line = document.getElementById("line"), box = line.getBoundingClientRect();
  const middle = { clientX: box.left + box.width / 2, clientY: box.top + 20, bubbles: true };
  line.dispatchEvent(new MouseEvent("mousemove", middle));
  seen.tip = document.getElementById("tip").textContent; press("Escape"); }, 1200);
later(() => {
  seen.closed = location.hash; document.querySelector("#map circle").dispatchEvent(new MouseEvent("click"));
}, 2000);
later(() => { seen.clicked = location.hash; seen.lit = document.querySelectorAll(".item.on").length;
  document.getElementById("theme").click(); seen.theme = document.documentElement.dataset.theme;
  seen.paper = getComputedStyle(document.body).backgroundColor; }, 2800);
later(() => {
  const out = document.createElement("pre"); out.id = "probe";
  out.textContent = JSON.stringify({ ...seen, errors }); document.body.append(out);
}, 3600);
</script>"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = Project(tmp_path_factory.mktemp("report") / "project", first=prose(40, 1), second=prose(20, 2), empty="")
    project.write_job(model={"source": str(project.write_model())})
    project.document("first.txt", f"{HOSTILE}. {prose(40, 1)}")
    assert project.run().code == 3
    return project


def data_of(page: Path) -> dict[str, Any]:
    found = re.search(r'id="data">(.*?)</script>', page.read_text("utf-8"), re.DOTALL)
    assert found is not None
    data: dict[str, Any] = json.loads(found[1])
    return data


def seen_in_browser(page: Path, folder: Path, size: str) -> dict[str, Any]:
    """What a visitor meets who searches, opens, clicks and changes the theme."""
    text = page.read_text("utf-8")
    probed = folder / "probed.html"
    probed.write_text(text.replace("<head>", "<head>" + PROBE).replace("</body>", STEPS + "</body>"), "utf-8")
    assert BROWSER is not None
    command = [BROWSER, *FLAGS, f"--user-data-dir={folder / 'profile'}", f"--window-size={size}", "--dump-dom"]
    done = subprocess.run([*command, probed.as_uri()], capture_output=True, text=True, timeout=120)
    found = re.search(r'<pre id="probe">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found is not None, done.stderr[-2000:]
    seen: dict[str, Any] = json.loads(found[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
    return seen


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here")
@pytest.mark.parametrize("size", ["1280,900", "500,900"])
def test_a_visitor_finds_opens_and_leaves_documents_without_an_error(
    finished: Project, tmp_path: Path, size: str
) -> None:
    seen = seen_in_browser(finished.out / "report.html", tmp_path, size)

    assert seen["errors"] == []
    assert seen["title"].endswith(" – unspool"), "the data must stay data"
    assert seen["dots"] > 50 and seen["faded"] == seen["dots"]
    assert (seen["rows"], seen["found"], seen["searching"]) == (3, 1, "search")
    assert seen["opened"].startswith("#d") and seen["lines"] == 1 and seen["items"] >= 1
    assert re.match(r"character [\d,]+ · topic shift \d+ %", seen["tip"])
    assert seen["closed"] == ""
    assert "@" in seen["clicked"] and seen["lit"] == 1
    assert (seen["theme"], seen["paper"]) == ("dark", "rgb(20, 24, 26)")
    assert seen["wide"] <= 0, "the page must not be wider than the window"


def test_the_page_says_what_the_tables_say(finished: Project) -> None:
    data = data_of(finished.out / "report.html")

    by_uri = {document["uri"]: document for document in data["documents"]}
    assert (data["run"]["documents"], data["run"]["failed"], data["run"]["coverage"]) == (3, 1, 1.0)
    assert by_uri["docs/empty.txt"]["error"].startswith("empty:")
    assert data["failures"][0]["type"] == "empty"
    assert data["failures"][0]["commands"] == ["unspool retry out --failed"]
    assert by_uri["docs/empty.txt"]["help"] == data["failures"][0]["help"] != ""
    first = by_uri["docs/first.txt"]
    text = (finished.folder / "docs" / "first.txt").read_text("utf-8")
    assert first["chars"] == len(text)
    summary = first["summaries"][0]
    assert " ".join(text[summary["start"] : summary["end"]].split())[:30] == summary["text"][:30]


def test_the_page_loads_nothing_from_elsewhere(finished: Project) -> None:
    text = (finished.out / "report.html").read_text("utf-8")

    page = text.replace("http://www.w3.org/2000/svg", "")
    assert "default-src 'none'" in page
    assert not re.findall(r"(?:src|href)=\"?(?:https?:)?//", page)
    assert "import(" not in page and "fetch(" not in page


def big_run(folder: Path, documents: int, each: int) -> RunDirectory:
    """A finished run of many documents whose every field is long."""
    run = new_run(folder, quick_disk())
    run.prepare()
    long = "word " * 200
    ids = [f"d{number:016x}" for number in range(documents)]
    named = [{"doc_id": one, "source_uri": f"{'folder/' * 8}{one}.txt", "title": long[:90]} for one in ids]
    facts = {"status": "ok", "coverage": 1.0, "tokens_read": 999, "bytes": 10_000, "chars": each * 100}
    _table(run, "documents", tables.DOCUMENTS, [{**row, **facts} for row in named])
    _table(run, "failures", tables.FAILURES, [])
    spans = [{"char_start": 100 * n, "char_end": 100 * n + 99} for n in range(each)]
    summaries = [
        {"doc_id": one, "task": "gist", "level": "section", "text": long, **span} for one in ids for span in spans
    ]
    _table(run, "summaries", tables.SUMMARIES, summaries)
    rows = [
        {**sentence(one, n, long, "0f" * 32), **span, "section": f"section {n} {long}", "nll": 1.0}
        for one in ids
        for n, span in enumerate(spans)
    ]
    _table(run, "sentences", tables.sentences(DIMENSIONS), rows)
    owner = Epoch.of_this_process("start", {})
    ledger = RunLedger.take_over(RunLedger.read(run.ledger), run.disk, run.torn_records, owner)
    ledger.commit(Done(tuple(Finished(one, "ok", (), tokens=999, seconds=1.0) for one in ids)))
    ledger.commit(Output(()))
    return run


def _table(run: RunDirectory, name: str, schema: Any, rows: list[dict[str, Any]]) -> None:
    (run.output / name).mkdir(parents=True)
    (run.output / name / "part-00000-of-00001.parquet").write_bytes(parquet_bytes(rows_of(schema, rows)))


def test_a_thousand_documents_fit_into_two_megabytes(tmp_path: Path) -> None:
    page = write_report(big_run(tmp_path, documents=1000, each=12))

    assert page.stat().st_size <= MOST_BYTES
    data = data_of(page)
    assert len(data["documents"]) == 1000
    assert all(document["summaries"] and document["more"] for document in data["documents"])
    assert len(data["map"]) > 500


def test_a_run_that_is_not_finished_has_no_report_and_says_how_to_get_one(tmp_path: Path) -> None:
    run = big_run(tmp_path, documents=1, each=1)
    owner = Epoch.of_this_process("start", {})
    ledger = RunLedger.take_over(RunLedger.read(run.ledger), run.disk, run.torn_records, owner)
    ledger.commit(Invalidate((), "asked for"))

    said = unspool("report", str(run.path))

    assert said.code == 6 and "unspool resume" in said.err and said.err.count("\n") == 1


def test_the_report_is_written_anew_by_its_command(finished: Project) -> None:
    page = finished.out / "report.html"
    before = page.read_bytes()
    page.unlink()

    assert unspool("report", str(finished.out)).code == 0

    assert page.read_bytes() == before


def test_the_map_can_be_drawn_by_neighbours(finished: Project) -> None:
    assert unspool("report", str(finished.out), "--map", "tsne").code == 0
    said = unspool("report", str(finished.out), "--map", "umap")
    assert (said.code, said.out) == (2, "")
    assert "no arrangement `umap`; there are pca, tsne" in said.err


def test_show_prints_a_document_by_id_and_by_address(finished: Project) -> None:
    by_uri = unspool("show", str(finished.out), "docs/second.txt", "--json")
    found = json.loads(by_uri.out)
    by_id = unspool("show", str(finished.out), found["document"]["doc_id"], "--json")

    assert by_uri.code == 0 and by_id.out == by_uri.out
    assert found["summaries"] and not found["failures"]
    assert found["summaries"][0]["text"][:20] in unspool("show", str(finished.out), "docs/second.txt").out


@pytest.mark.parametrize(("document", "code"), [("docs/third.txt", 2), ("docs/empty.txt", 0)])
def test_show_names_what_it_cannot_find_and_shows_why_a_document_failed(
    finished: Project, document: str, code: int
) -> None:
    said = unspool("show", str(finished.out), document)

    assert said.code == code
    assert "failed (empty)" in said.out if code == 0 else "no document of this run" in said.err


def test_every_reason_for_which_a_document_fails_has_what_helps() -> None:
    """The words are looked up in the source: whoever raises a new one writes what helps."""
    raised: set[str] = set()
    for path in (REPOSITORY / "pipeline").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in ("DocumentError", "_plain"):
                raised |= {word for word in map(_word, node.args) if word}
    stages = {"open", "decode", "parse", "split", "read", "generate", "write"}

    assert {"no_text_layer", "parse_error", "empty", "bomb", "timeout"} <= raised
    assert raised - stages - known() == set()
    assert {f"worker_{cause}" for cause in ("crashed", "memory", "hung", "node", "unknown")} <= known()


def _word(node: ast.expr) -> str | None:
    """The text of an argument that is one word."""
    found = node.value if isinstance(node, ast.Constant) else None
    return found if isinstance(found, str) and re.fullmatch(r"[a-z_]+", found) else None


@pytest.mark.parametrize(
    ("uri", "command"), [("a/b.PDF", "qpdf IN.pdf OUT.pdf"), ("a.zip", "zip -FF IN.zip --out OUT.zip"), ("a.html", "")]
)
def test_a_damaged_file_is_mended_as_its_kind_is(uri: str, command: str) -> None:
    assert help_for("parse_error", uri).command == command


def test_a_long_heading_path_keeps_its_end() -> None:
    assert _cut_before("Law > Part one > Section 12", 12) == "… Section 12"
    assert _cut_before("Law > Art 1", 12) == "Law > Art 1"


def test_values_become_digits_between_their_smallest_and_largest() -> None:
    assert digits([]) == ""
    assert digits([2.0, 2.0]) == "00"
    assert digits([0.0, 0.5, 1.0]) == "0iz"


def test_a_torn_line_of_the_metrics_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    lines = [f'{{"ts": "2026-01-01T00:00:0{n}+00:00", "unspool_tokens_per_second": {n}}}' for n in range(3)]
    path.write_text("\n".join([*lines, '{"ts": "2026-01-']), "utf-8")

    assert throughput(path) == [[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]]
