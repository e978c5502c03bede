"""The job file: every message has its place, and what is accepted means one thing."""

from __future__ import annotations

import json
import pickle
import re
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from jobs.errors import ExitCode, JobError, safe, together, usage_error
from jobs.schema import EveryTokens, SummarizeTask
from jobs.sections import THIS_VERSION
from jobs.spec import JobSpec, differences, json_schema, load_resolved, load_spec, override

MINIMAL: dict[str, Any] = {
    "version": 1,
    "name": "job",
    "inputs": [{"path": "docs/*.txt"}],
    "tasks": [{"name": "gist", "type": "summarize"}],
    "output": {"path": "out"},
}

JOB = """\
version: 1
name: novels
inputs:
  - path: docs/*.txt
tasks:
  - {name: vectors, type: embed}
  - {name: gist, type: summarize, max_sentences: 5}
output: {path: ../out/novels}
"""


def load(folder: Path, job: str | Mapping[str, Any], overrides: Sequence[str] = (), **environment: str) -> JobSpec:
    path = folder / "job.yaml"
    path.write_text(job if isinstance(job, str) else json.dumps(job), "utf-8")
    return load_spec(path, overrides, environment)


def refused(folder: Path, job: str | Mapping[str, Any], overrides: Sequence[str] = (), **environment: str) -> list[str]:
    """The lines of the refusal, without the folder."""
    with pytest.raises(JobError) as caught:
        load(folder, job, overrides, **environment)
    assert caught.value.exit_code == ExitCode.USAGE
    return str(caught.value).replace(f"{folder}/", "").splitlines()


def test_a_short_job_file_gets_the_defaults_of_the_format(tmp_path: Path) -> None:
    spec = load(tmp_path, JOB)

    assert (spec.model.source, spec.model.device, spec.model.dtype) == ("default", "auto", "auto")
    assert (spec.split.unit, spec.split.language, spec.split.max_chars) == ("sentence", "auto", 2000)
    assert (spec.checkpoint.every.tokens, spec.checkpoint.every.seconds, spec.checkpoint.keep) == (65536, 120, 2)
    assert (spec.on_error.retries, spec.on_error.max_failed, spec.on_error.doc_timeout) == (2, 0.05, 7200)
    assert (spec.run.workers, spec.run.lanes, spec.run.window, spec.run.seed) == ("auto", "auto", 512, 0)
    assert (spec.policy, spec.ray.address, spec.output.mode, spec.limit) == ("auto", "local", "resume", None)


def test_every_option_of_this_version_can_be_written_out(tmp_path: Path) -> None:
    spec = load(
        tmp_path,
        """\
version: 1
name: contracts
model: {source: default, device: cpu, dtype: fp32}
inputs:
  - {path: "corpus/**/*.txt", exclude: ["**/draft-*"]}
limit: 7
split: {unit: sentence, language: no, max_chars: 500}
prefix: null
tasks:
  - {name: v, type: embed, unit: sentence, pooling: span, normalize: true, dtype: float32, dims: 64}
  - {name: g, type: summarize, mode: extractive, every: {tokens: 4096}, at_end: false, max_sentences: 9}
  - {name: s, type: state, at: [end], boundary: false}
policy: carry
output: {path: out/contracts, mode: overwrite}
checkpoint: {every: {tokens: 100, seconds: 1m}, keep: 3}
on_error: {retries: 0, max_failed: 12.5%, doc_timeout: 1h30m, page_timeout: 30s}
run: {workers: 0, lanes: 4, window: 64, seed: 9}
ray: {address: "ray://head:10001"}
""",
    )

    assert spec.split.language == "no"
    assert isinstance(spec.tasks[1], SummarizeTask)
    assert spec.tasks[1].every == EveryTokens(tokens=4096)
    assert (spec.checkpoint.every.seconds, spec.on_error.doc_timeout, spec.on_error.page_timeout) == (60, 5400, 30)
    assert (spec.on_error.max_failed, spec.run.workers) == (0.125, 0)


@pytest.mark.parametrize(
    ("old", "new", "code", "message"),
    [
        # unknown keys, at the key
        (
            "max_sentences",
            "‸max_sentence",
            "SPEC-UNKNOWN-KEY",
            "tasks[1].max_sentence is no option of `summarize`; did you mean `max_sentences`?",
        ),
        (
            "name: novels",
            "name: novels\n‸taks: []",
            "SPEC-UNKNOWN-KEY",
            "taks is no option of a job file; did you mean `tasks`?",
        ),
        (
            "path: docs/*.txt",
            "path: docs/*.txt\n    ‸zzz: 1",
            "SPEC-UNKNOWN-KEY",
            "inputs[0].zzz is no option of `inputs`; it knows path, exclude, manifest, folder, encoding, text_key",
        ),
        (
            "type: embed",
            "type: embed, ‸max_sentences: 5",
            "SPEC-UNKNOWN-KEY",
            "tasks[0].max_sentences is no option of `embed`; it knows",
        ),
        ("type: embed", "type: embed, ‸embed: {embed: 1}", "SPEC-UNKNOWN-KEY", "tasks[0].embed is "),
        ("max_sentences: 5", "every: ‸{tokns: 5}", "SPEC-MISSING-KEY", "tasks[1].every.tokens is"),
        # in the format, not in this version
        (
            "name: novels",
            "name: novels\nprefix: ‸a.txt",
            "SPEC-NOT-YET",
            "prefix: a prefix is in the job format but not in this version (0.1)",
        ),
        ("type: embed", "type: embed, dtype: ‸float8", "SPEC-BAD-VALUE", "tasks[0].dtype"),
        ("type: embed", "type: embed, unit: ‸page", "SPEC-BAD-VALUE", "tasks[0].unit: expected"),
        ("type: embed", "type: embed, tokens: ‸64", "SPEC-BAD-VALUE", "tasks[0].tokens: is the length of a window"),
        ("type: embed", "type: embed, unit: section, pooling: ‸echo", "SPEC-BAD-VALUE", "tasks[0].pooling: echo reads"),
        ("type: embed", "type: embed, unit: window, surprise: ‸true", "SPEC-BAD-VALUE", "tasks[0].surprise: the surpr"),
        ("type: embed", "type: embed, normalize: ‸false", "SPEC-NOT-YET", "tasks[0].normalize: "),
        ("max_sentences: 5", "‸max_tokens: 5", "SPEC-NOT-YET", "tasks[1].max_tokens is in"),
        ("name: novels", "name: n\npolicy: ‸forget", "SPEC-BAD-VALUE", "policy: expected"),
        ("name: novels", "name: n\nmodel: {revision: ‸x}", "SPEC-BAD-VALUE", "model.revision: expected a commit"),
        ("name: novels", "name: n\nmodel: ‸{file: a}", "SPEC-BAD-VALUE", "model: `file` and `revision` go together"),
        ("name: novels", "name: n\nmodel: {source: ‸s3://a/b}", "SPEC-NOT-YET", "model.source: `s3:"),
        (
            "path: docs/*.txt",
            "{path: a, encoding: ‸klingon}",
            "SPEC-BAD-VALUE",
            "inputs[0].encoding: expected an encoding",
        ),
        (
            "docs/*.txt",
            "‸s3://key:secret@bucket/x",
            "SPEC-BAD-VALUE",
            "inputs[0].path: an address takes no credentials",
        ),
        ("docs/*.txt", "‸S3://bucket/x", "SPEC-BAD-VALUE", "inputs[0].path: expected a path"),
        ("docs/*.txt", "‸file://host/x", "SPEC-BAD-VALUE", "inputs[0].path: expected file:// with a whole path"),
        (
            "type: embed",
            "type: summarize, ‸name2: 1",
            "SPEC-UNKNOWN-KEY",
            "tasks[0].name2 is no option of `summarize`; did you mean `name`?",
        ),
        (
            "{name: vectors, type: embed}",
            "{name: a, type: state}\n  - {name: b, type: ‸state}",
            "SPEC-NOT-YET",
            "tasks[1].type: a second `state` task is in the job format but not",
        ),
        # missing keys, at what lacks them
        ("version: 1\nname: novels\n", "‸version: 1\n", "SPEC-MISSING-KEY", "name is missing"),
        ("{path: ../out/novels}", "‸{mode: error}", "SPEC-MISSING-KEY", "output.path is missing"),
        (
            "{name: vectors, type: embed}",
            "‸{name: vectors}",
            "SPEC-MISSING-KEY",
            "tasks[0].type is missing; write one of embed, ",
        ),
        # wrong values, at the value
        (
            "max_sentences: 5",
            'max_sentences: ‸"5"',
            "SPEC-WRONG-TYPE",
            'tasks[1].max_sentences: expected a whole number, found text "5"',
        ),
        ("max_sentences: 5", "max_sentences: ‸5.0", "SPEC-WRONG-TYPE", ""),
        (
            "max_sentences: 5",
            "max_sentences: ‸0",
            "SPEC-BAD-VALUE",
            "tasks[1].max_sentences: expected at least 1, found the number 0",
        ),
        (
            "max_sentences: 5",
            "at_end: ‸yes",
            "SPEC-WRONG-TYPE",
            'tasks[1].at_end: expected true or false, found text "yes"',
        ),
        (
            "max_sentences: 5",
            "every: ‸[1]",
            "SPEC-BAD-VALUE",
            "tasks[1].every: expected section, {tokens: N} or null, found a list",
        ),
        ("max_sentences: 5", "every: {tokens: ‸no}", "SPEC-WRONG-TYPE", "tasks[1].every.tokens: "),
        (
            "max_sentences: 5",
            "every: null, at_end: ‸false",
            "SPEC-BAD-VALUE",
            "tasks[1].at_end: with every: null this task would write nothing",
        ),
        (
            "type: embed",
            "type: ‸embeed",
            "SPEC-BAD-VALUE",
            'tasks[0].type: text "embeed" is no type of task; did you mean `embed`?',
        ),
        ("name: gist", "name: ‸vectors", "SPEC-DUPLICATE-NAME", "tasks[1].name: an earlier task"),
        ("name: gist", "name: ‸1st", "SPEC-BAD-VALUE", "tasks[1].name: expected a name"),
        ("name: novels", "name: ‸a b", "SPEC-BAD-VALUE", "name: expected a name"),
        ("name: novels", "name: ‸null", "SPEC-WRONG-TYPE", "name: expected text, found null"),
        ("version: 1", "version: ‸2", "SPEC-BAD-VALUE", "version: expected 1, found the number 2"),
        ("version: 1", "version: ‸true", "SPEC-BAD-VALUE", "version: expected a whole number"),
        ("version: 1", "version: ‸1.0", "SPEC-BAD-VALUE", "version: expected a whole number"),
        ("path: docs/*.txt", "‸docs/*.txt", "SPEC-WRONG-TYPE", "inputs[0]: expected a mapping"),
        ("docs/*.txt", "‸https://example.org/x", "SPEC-BAD-VALUE", "inputs[0].path: expected a path"),
        ("docs/*.txt", "‸''", "SPEC-BAD-VALUE", "inputs[0].path: expected text that is not empty"),
        ("name: novels", "name: n\nrun: {window: ‸96}", "SPEC-BAD-VALUE", "run.window: expected a power of two"),
        (
            "name: novels",
            "name: n\nrun: {workers: ‸many}",
            "SPEC-BAD-VALUE",
            'run.workers: expected auto or a whole number from 0 to 1024, found text "many"',
        ),
        ("name: novels", "name: n\nrun: {lanes: ‸true}", "SPEC-BAD-VALUE", "run.lanes: expected auto"),
        ("name: novels", "name: n\nlimit: ‸-1", "SPEC-BAD-VALUE", "limit: expected at least 1"),
        ("name: novels", "name: n\nsplit:‸", "SPEC-WRONG-TYPE", "split: expected a mapping, found null"),
        (
            "name: novels",
            "name: n\non_error: {doc_timeout: ‸2 h}",
            "SPEC-BAD-VALUE",
            "on_error.doc_timeout: expected a duration such as 2h",
        ),
        ("name: novels", "name: n\non_error: {doc_timeout: ‸0s}", "SPEC-BAD-VALUE", "on_error."),
        (
            "name: novels",
            "name: n\non_error: {doc_timeout: ‸1e999}",
            "SPEC-BAD-VALUE",
            "on_error.doc_timeout: expected a finite number",
        ),
        ("name: novels", "name: n\non_error: {max_failed: ‸101%}", "SPEC-BAD-VALUE", "on_error."),
        ("name: novels", "name: n\non_error: {max_failed: ‸5}", "SPEC-BAD-VALUE", "on_error."),
        ("name: novels", "name: n\nray: {address: ‸head:1}", "SPEC-BAD-VALUE", "ray.address: "),
        ("name: novels", "name: n\nsplit: {language: ‸english}", "SPEC-BAD-VALUE", "split.languag"),
        (
            "name: novels",
            'name: ‸"a\\e]0;x\\u202e"',
            "SPEC-BAD-VALUE",
            'name: expected a name of up to 64 letters, digits, -, _ and ., found text "a\\x1b]0;x\\u202e"',
        ),
        # the environment
        (
            "docs/*.txt",
            "‸${CORPUS}/x",
            "SPEC-VARIABLE",
            "inputs[0].path: the variable CORPUS is not set; set it, or write ${CORPUS:-default}",
        ),
        ("docs/*.txt", "‸'${1}'", "SPEC-VARIABLE", "inputs[0].path: `${` starts a variable"),
    ],
)
def test_a_wrong_job_file_is_refused_in_one_line_with_the_place_and_what_to_do(
    tmp_path: Path, old: str, new: str, code: str, message: str
) -> None:
    """`‸` in `new` marks the place that the message must give."""
    assert old in JOB
    marked = JOB.replace(old, new, 1)
    before = marked[: marked.index("‸")].split("\n")
    lines = refused(tmp_path, marked.replace("‸", ""))

    assert lines[0].startswith(f"error[{code}] job.yaml:{len(before)}:{len(before[-1]) + 1}: {message}")
    assert len(lines) == (2 if "tokns" in new else 1)


def test_empty_lists_of_inputs_and_tasks_are_refused(tmp_path: Path) -> None:
    assert refused(tmp_path, "version: 1\nname: n\ninputs: []\ntasks: []\noutput: {path: x}") == [
        "error[SPEC-BAD-VALUE] job.yaml:3:9: inputs: expected at least one element, found an empty list",
        "error[SPEC-BAD-VALUE] job.yaml:4:8: tasks: expected at least one element, found an empty list",
    ]


def test_all_problems_are_said_at_once_in_the_order_of_the_file_and_at_most_twenty(tmp_path: Path) -> None:
    keys = "".join(f"unknown{n}: {n}\n" for n in range(40))
    lines = refused(tmp_path, keys + JOB.replace("version: 1", "version: 7"))

    assert len(lines) == 21
    assert [line.split(":")[1] for line in lines[:20]] == [str(n) for n in range(1, 21)]
    assert lines[20] == "… and 21 more; correct these first"


def test_where_text_is_expected_an_unquoted_number_or_boolean_stays_what_was_typed(tmp_path: Path) -> None:
    job = JOB.replace("novels\n", "2024.10\n").replace("docs/*.txt", "010").replace("../out/novels", "1e3")
    spec = load(tmp_path, job.replace("name: gist", "name: true"))

    assert (spec.name, spec.tasks[1].name) == ("2024.10", "true")
    assert spec.inputs[0].path == str(tmp_path / "010")
    assert spec.output.path == str(tmp_path / "1e3")


def test_relative_paths_are_relative_to_the_job_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "jobs [old]").mkdir()
    (tmp_path / "jobs [old]" / "job.yaml").write_text(JOB.replace("../out/novels", "/abs/out"))
    monkeypatch.chdir(tmp_path)
    spec = load_spec(Path("jobs [old]/job.yaml"), ["model.source=../weights"], {})

    assert spec.inputs[0].path == f"{tmp_path}/jobs [[]old]/docs/*.txt"
    assert load_spec(Path("jobs [old]/job.yaml"), ["inputs.0.path=a.txt"]).inputs[0].path == (
        f"{tmp_path}/jobs [old]/a.txt"
    )
    assert spec.output.path == "/abs/out"
    assert spec.model.source == f"{tmp_path}/weights"


@pytest.mark.parametrize(
    ("written", "environment", "meant"),
    [
        ("${A}", {"A": "x"}, "x"),
        ("a${A}b${B:-c}", {"A": "1"}, "a1bc"),
        ("${A:-d}", {"A": ""}, "d"),
        ("${A:-}x", {}, "x"),
        ("${A}x", {"A": ""}, "x"),
        ("${A}", {"A": "${B}"}, "${B}"),
        ("$${A}", {"A": "x"}, "${A}"),
        ("$A $ {A} $", {"A": "x"}, "$A $ {A} $"),
        ("${A:-$B:-c}", {}, "$B:-c"),
    ],
)
def test_the_environment_fills_text(tmp_path: Path, written: str, environment: dict[str, str], meant: str) -> None:
    spec = load(tmp_path, MINIMAL | {"inputs": [{"path": "a", "exclude": [written]}]}, **environment)

    assert spec.inputs[0].exclude == (meant,)


def test_the_environment_fills_neither_keys_nor_numbers(tmp_path: Path) -> None:
    assert "expected a whole number" in refused(tmp_path, JOB + "limit: ${N}\n", N="5")[0]
    assert "${N} is no option" in refused(tmp_path, JOB + "${N}: 5\n", N="limit")[0]


def test_what_comes_from_the_environment_is_in_no_message_and_no_resolved_copy(tmp_path: Path) -> None:
    job = JOB.replace("docs/*.txt", "${SECRET}/${SECRET}").replace("../out/novels", "'/x/${SECRET}'")
    resolved = load(tmp_path, job + "ray: {address: 'ray://${SECRET}'}", SECRET="hunter2").resolved()
    lines = refused(tmp_path, job.replace("novels", "${SECRET} !").replace("gist", "'${SECRET}!'"), SECRET="hunter2")

    assert "hunter2" not in json.dumps(resolved)
    assert resolved["inputs"][0]["path"] == f"{tmp_path}/${{SECRET}}/${{SECRET}}"
    assert resolved["output"]["path"] == "/x/${SECRET}"
    assert len(lines) == 2
    assert "hunter2" not in "".join(lines)


def test_a_resolved_job_that_does_not_load_names_the_file_that_kept_it(tmp_path: Path) -> None:
    resolved = load(tmp_path, JOB).resolved()
    resolved["run"]["windows"] = 3

    with pytest.raises(JobError, match=r"SPEC-UNKNOWN-KEY\] out/run\.json: run\.windows is no option"):
        load_resolved(resolved, "out/run.json")


def test_overrides_reach_options_by_index_and_by_name(tmp_path: Path) -> None:
    spec = load(
        tmp_path,
        JOB,
        [
            "tasks.gist.max_sentences=7",
            "tasks.1.every={tokens: 10}",
            "tasks[0].dims=32",
            "checkpoint.every.seconds=5m",
            "limit=3",
            "limit=",
            "name=2024",
            "inputs=[{path: '${DIR:-x}'}]",
            "tasks.gist.name=short",
            "tasks.short.at_end=false",
        ],
    )

    gist = spec.tasks[1]
    assert isinstance(gist, SummarizeTask)
    assert (gist.name, gist.max_sentences, gist.every, gist.at_end) == ("short", 7, EveryTokens(tokens=10), False)
    assert spec.resolved()["tasks"][0]["dims"] == 32
    assert (spec.checkpoint.every.seconds, spec.limit, spec.name) == (300, None, "2024")
    assert spec.inputs[0].path == str(tmp_path / "x")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "tasks.gits.at_end=false",
            "SPEC-SET] --set tasks.gits.at_end=false: tasks has 2 element(s) and none is `gits`; did you mean `gist`?",
        ),
        ("tasks.2.at_end=false", "SPEC-SET] --set tasks.2.at_end=false: tasks has 2 element(s) and none is `2`"),
        (
            "tasks.gist.max_sentences=500",
            "SPEC-BAD-VALUE] --set tasks.gist.max_sentences=500: tasks[1].max_sentences: ",
        ),
        ("tasks.gist.max_sentence=5", "SPEC-UNKNOWN-KEY] --set tasks.gist.max_sentence=5: tasks[1].max_sentence is"),
        ("tasks.gist.max_tokens=300", "SPEC-NOT-YET] --set tasks.gist.max_tokens=300: tasks[1].max_tokens is in"),
        ("name.x=1", 'SPEC-SET] --set name.x=1: name is text "novels", so it has no `x`; set name as a whole'),
        ("split={langage: en}", "SPEC-UNKNOWN-KEY] --set split={langage: en}: split.langage is no option of `split`;"),
        ("limit", "SPEC-SET] --set limit: write it as dotted.path=value"),
        ("=1", "SPEC-SET] --set =1: write it as dotted.path=value"),
        ("a..b=1", "SPEC-SET] --set a..b=1: write it as dotted.path=value"),
        ("a" + ".a" * 5000 + "=1", "SPEC-SET] --set a.a"),
        ("name=[1", "YAML-SYNTAX] --set name=[1: the value is no YAML"),
        ("name=*x", "YAML-ALIAS] --set name=*x: "),
        ("limit=" + "[" * 5000, "YAML-TOO-DEEP] --set limit=[["),
        ("name=${NOBODY}", "SPEC-VARIABLE] --set name=${NOBODY}: name: the variable NOBODY is not set"),
    ],
)
def test_a_wrong_override_is_named_as_it_was_given(tmp_path: Path, text: str, message: str) -> None:
    assert refused(tmp_path, JOB, [text])[0].startswith(f"error[{message}")


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0\x7f"), min_size=1))
@example("${HOME}")
@example("a: b # c")
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_quoted_override_keeps_every_character(tmp_path: Path, text: str) -> None:
    spec = load(tmp_path, JOB, ["inputs.0.exclude=[x]", override("inputs.0.exclude.0", text)])

    assert spec.inputs[0].exclude == (text,)


NAMES = st.from_regex(r"[A-Za-z][A-Za-z0-9_-]{0,20}", fullmatch=True)
EXCLUDES = st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0\x7f"), max_size=12), max_size=3)
AUTO_OR = st.one_of(st.just("auto"), st.integers(1, 64))
EMBED = st.fixed_dictionaries({"name": NAMES, "type": st.just("embed")}, optional={"dims": st.integers(1, 999)})
SUMMARIZE = st.fixed_dictionaries(
    {"name": NAMES, "type": st.just("summarize")},
    optional={
        "every": st.just("section") | st.none() | st.fixed_dictionaries({"tokens": st.integers(1, 10**6)}),
        "max_sentences": st.integers(1, 100),
    },
)
STATE = st.fixed_dictionaries({"name": NAMES, "type": st.just("state")}, optional={"boundary": st.booleans()})
JOBS = st.fixed_dictionaries(
    {
        "version": st.just(1),
        "name": NAMES | st.sampled_from(["1e3", "010", "2024", "no"]),
        "inputs": st.lists(
            st.fixed_dictionaries(
                {"path": st.sampled_from(["a/*.txt", "/b/[x].txt", "${DIR}/c", "$${d}", "${NONE:-../e}/f"])},
                optional={"exclude": EXCLUDES.map(lambda texts: [text.replace("${", "") for text in texts])},
            ),
            min_size=1,
            max_size=2,
        ),
        "tasks": st.lists(
            EMBED | SUMMARIZE | STATE, min_size=1, max_size=4, unique_by=(lambda task: task["name"],)
        ).filter(lambda tasks: all([task["type"] for task in tasks].count(kind) < 2 for kind in ("embed", "state"))),
        "output": st.fixed_dictionaries({"path": st.sampled_from(["out", "../o", "${DIR}", "/p/${DIR}"])}),
    },
    optional={
        "limit": st.none() | st.integers(1, 99),
        "prefix": st.none(),
        "on_error": st.fixed_dictionaries(
            {},
            optional={
                "max_failed": st.sampled_from(["5%", "0.1%", 0, 1, 0.25]),
                "doc_timeout": st.sampled_from(["2h", "90s", "1.5d", 1, 0.001, 1e-5]),
            },
        ),
        "run": st.fixed_dictionaries({}, optional={"workers": AUTO_OR, "lanes": AUTO_OR}),
    },
)


@given(JOBS, st.sampled_from([json.dumps, yaml.safe_dump]))
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_resolved_job_written_anywhere_loads_as_the_same_job(tmp_path: Path, job: dict[str, Any], write: Any) -> None:
    (tmp_path / "a ${DIR} [b]").mkdir(exist_ok=True)
    (tmp_path / "elsewhere").mkdir(exist_ok=True)
    spec = load(tmp_path / "a ${DIR} [b]", job, DIR="rel ative")
    again = load(tmp_path / "elsewhere", write(spec.resolved()), DIR="rel ative")

    assert load_resolved(spec.resolved(), "run.json", {"DIR": "rel ative"}) == spec
    assert again == spec
    assert again.resolved() == spec.resolved()
    assert again.fingerprint("m") == spec.fingerprint("m")
    assert pickle.loads(pickle.dumps(spec)).resolved() == spec.resolved()


JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["auto", "embed", "", "${", "${A}", "5%"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [*JobSpec.model_fields, "type", "every", "tokens", "at", "path", "exclude", "summarize", "x", ""]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from([*JobSpec.model_fields]), JUNK, max_size=8), st.booleans())
@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_junk_is_refused_with_exit_code_2_and_nothing_else(
    tmp_path: Path, junk: dict[str, Any], fill: bool
) -> None:
    try:
        load(tmp_path, MINIMAL | junk if fill else junk)
    except JobError as error:
        assert error.exit_code == ExitCode.USAGE
        assert all(line.startswith(("error[", "…")) for line in str(error).splitlines())


@given(JUNK, st.sampled_from([*"abc", "tasks", "gist", "inputs", "run", "every", "0", "1", "[0]", ".", "=", " "]))
@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_junk_in_a_task_or_an_override_is_refused_with_exit_code_2(tmp_path: Path, junk: Any, word: str) -> None:
    task = {"name": "gist", "type": "summarize"} | (junk if isinstance(junk, dict) else {"every": junk})
    for job, text in ((MINIMAL | {"tasks": [task]}, "limit=1"), (MINIMAL, f"tasks.gist.{word}={json.dumps(junk)}")):
        try:
            load(tmp_path, job, [text])
        except JobError as error:
            assert error.exit_code == ExitCode.USAGE


@pytest.mark.parametrize(
    ("written", "bytes_"),
    [(700, 700), ("64MiB", 64 << 20), ("1.5GB", 1_500_000_000), ("12", 12), ("1 K", 1000), ("2TiB", 2 << 40)],
)
def test_a_size_is_bytes_or_has_a_unit(tmp_path: Path, written: Any, bytes_: int) -> None:
    assert load(tmp_path, MINIMAL | {"inputs": [{"path": "a", "max_bytes": written}]}).inputs[0].max_bytes == bytes_


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ({"path": "a", "max_bytes": "9" * 400 + "TB"}, "expected a size such as 64MiB"),
        ({"path": "a", "max_bytes": "64 parsecs"}, "expected a size such as 64MiB"),
        ({"path": "a", "max_bytes": 0}, "at least 1"),
        ({"path": "a", "pdf": {"password_env": "open sesame"}}, "the name of an environment variable"),
        ({"path": "-", "exclude": ["b"]}, "standard input is one document"),
        ({"path": "a", "html": {"boilerplate": "remove"}}, "keep or drop"),
    ],
)
def test_what_no_input_can_be_is_refused_with_its_place(tmp_path: Path, entry: dict[str, Any], says: str) -> None:
    with pytest.raises(JobError, match=says) as caught:
        load(tmp_path, MINIMAL | {"inputs": [entry]})
    assert caught.value.exit_code == ExitCode.USAGE


def test_standard_input_is_named_once_and_is_no_path(tmp_path: Path) -> None:
    assert load(tmp_path, MINIMAL | {"inputs": [{"path": "-"}]}).inputs[0].path == "-"
    with pytest.raises(JobError, match="there is one standard input"):
        load(tmp_path, MINIMAL | {"inputs": [{"path": "-"}, {"path": "a"}, {"path": "-"}]})


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ("tasks.gist.max_sentences=6", False),
        ("tasks.gist.name=other", False),
        ("split.max_chars=1000", False),
        ("split.sections=topics", False),
        ("policy=carry", False),
        ("run.seed=1", False),
        ("run.window=1024", True),
        ("run.lanes=3", True),
        ("run.workers=0", True),
        ("limit=1", True),
        ("output.path=elsewhere", True),
        ("on_error.retries=9", True),
        ("checkpoint.every.tokens=9", True),
        ("model.source=weights", True),
        ("split.unit=sentence", True),
    ],
)
def test_the_fingerprint_follows_what_determines_rows_and_nothing_else(tmp_path: Path, change: str, same: bool) -> None:
    plain, changed = load(tmp_path, JOB), load(tmp_path, JOB, [change])

    assert (plain.fingerprint("m") == changed.fingerprint("m")) is same
    assert (differences(plain.semantic(), changed.semantic()) == []) is same
    assert plain.fingerprint("m") != plain.fingerprint("n")


def test_differences_name_the_option_and_both_values() -> None:
    old = {"tasks": [{"n": 5, "e": "section", "same": []}], "seed": 0, "gone": None, "b": True}
    new = {"tasks": [{"n": 7, "e": {"tokens": 9}, "same": []}, {"n": 1}], "seed": 0, "b": 1}

    assert differences(old, new) == [
        "tasks[0].n: 5 → 7",
        "tasks[0].e.tokens: (none) → 9",
        "tasks[1].n: (none) → 1",
        "b: true → 1",
        'tasks[0].e: "section" → (none)',
        "gone: null → (none)",
    ]


def test_the_json_schema_describes_every_option_and_closes_every_section() -> None:
    schema = json_schema()

    assert set(schema["properties"]) == set(JobSpec.model_fields)
    assert all(part["additionalProperties"] is False for part in [schema, *schema["$defs"].values()])
    assert all("description" in part for part in schema["$defs"].values())
    json.dumps(schema, allow_nan=False)


def test_the_version_in_messages_is_the_version_of_the_project() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]

    assert re.match(rf"{re.escape(THIS_VERSION)}(\.|$)", project["version"])


def test_reading_a_job_file_loads_neither_torch_nor_ray_nor_numpy_nor_pyarrow() -> None:
    code = "import sys, jobs.spec; print(sorted({'torch', 'ray', 'numpy', 'pyarrow'} & set(sys.modules)))"

    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_messages_show_what_would_steer_a_terminal() -> None:
    assert safe("a\x1b[2J\x7f\x9b\u202e\u2066\u200b\ufeff\n\U000e0041\udc80é😀") == (
        "a\\x1b[2J\\x7f\\x9b\\u202e\\u2066\\u200b\\ufeff\\x0a\\U000e0041\\udc80é😀"
    )


def test_a_job_error_says_code_place_and_message_and_survives_pickling() -> None:
    error = together([usage_error("A", "one\nline", "f:1:2"), usage_error("B", "two")])

    assert str(error) == "error[A] f:1:2: one\\x0aline\nerror[B] two"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert (error.code, error.where, error.exit_code) == ("A", "f:1:2", 2)


def test_the_environment_fills_the_path_of_a_schema(tmp_path: Path) -> None:
    (tmp_path / "schemas").mkdir()
    (tmp_path / "schemas" / "dates.yaml").write_text("fields: [{name: signed, type: date}]", "utf-8")
    job = {
        "version": 1,
        "name": "dates",
        "inputs": [{"path": "a.txt"}],
        "output": {"path": "out"},
        "tasks": [{"name": "found", "type": "extract", "schema": "${SCHEMAS}/dates.yaml"}],
    }

    spec = load(tmp_path, job, SCHEMAS=str(tmp_path / "schemas"))

    assert [field.name for field in spec.tasks[0].fields_.fields] == ["signed"]  # type: ignore[union-attr]
    assert "the variable SCHEMAS is not set" in refused(tmp_path, job)[0]
