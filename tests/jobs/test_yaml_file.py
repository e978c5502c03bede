"""The YAML reader: what text means, where it stands, and what is refused."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.errors import ExitCode, JobError
from jobs.yaml_file import DEEPEST, parse, read_file, scalar

TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0\x7f"), max_size=20)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS


def trees(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
        max_leaves=15,
    )


YAML_LIKE = st.lists(
    st.sampled_from(
        [
            *"-?:,[]{}#&*!|>'\"%@`\\ \t\n\r~<=.0129aexnoULLtrue",
            *["---", "...", "<<: ", "*a", "&a ", "!!", "\\u", "\\U00110000", "key: ", "- ", "\n  "],
            *["\ufeff", "\x85", "\u2028", "\x00", "%YAML 1.", "%TAG ! "],
        ]
    ),
    max_size=40,
).map("".join)


def refused(text: str) -> str:
    with pytest.raises(JobError) as caught:
        parse(text, "f")
    assert caught.value.exit_code == ExitCode.USAGE
    return str(caught.value)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        *[(text, None) for text in ("", "~", "null", "Null")],
        *[("true", True), ("True", True), ("false", False), ("FALSE", False)],
        *[("0", 0), ("-3", -3), ("+7", 7), ("65536", 65536)],
        *[("1e-4", 1e-4), ("1e3", 1000.0), (".5", 0.5), ("2.", 2.0), ("-1.5E+2", -150.0)],
        *[(text, text) for text in ("no", "on", "yes", "off", "y", "12:30", "010", "0x1f", "0o7", "1_000")],
        *[(text, text) for text in ("2026-11-21", ".inf", ".nan", "5%", "2h", "tRUE", "1.2.3", "007.5", "٣")],
        ("9" * 101, "9" * 101),
    ],
)
def test_an_unquoted_scalar_is_what_was_typed_unless_it_is_plainly_a_number_a_boolean_or_null(
    written: str, meant: object
) -> None:
    found = scalar(written)

    assert (type(found), found) == (type(meant), meant)


def test_quoted_scalars_and_keys_are_always_text() -> None:
    document = parse("{'a': 'true', \"b\": \"1\", on: '', 1: no, ~: null}", "f")

    assert document.data == {"a": "true", "b": "1", "on": "", "1": "no", "~": None}


def test_every_key_and_value_has_its_line_and_column_counted_from_one() -> None:
    document = parse("# first\ntasks:\n  - {name: é, evry: 3}\n  - name: b\n    at:\n    - [x,  y]\n", "f")

    assert document.keys[("tasks", 0, "evry")] == (3, 15)
    assert document.values[("tasks", 0, "evry")] == (3, 21)
    assert document.values[("tasks", 1)] == (4, 5)
    assert document.values[("tasks", 1, "at", 0, 1)] == (6, 12)
    assert document.values[()] == (2, 1)


def test_what_was_typed_is_kept_for_scalars_that_are_no_text() -> None:
    document = parse("{a: 1.10, b: no, c: True, d: [~, '1']}", "f")

    assert document.typed == {("a",): "1.10", ("c",): "True", ("d", 0): "~"}


def test_json_with_surrogate_pairs_is_read_as_the_characters_they_stand_for() -> None:
    assert parse(json.dumps({"a": "😀\u0007"}), "f").data == {"a": "😀\u0007"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb:\n\t- c", "error[YAML-SYNTAX] f:3:1: found character '\\t' that cannot start any token"),
        ("a: [1,\nb: 2", "error[YAML-SYNTAX] f:2:"),
        ("a: b: c", "error[YAML-SYNTAX] f:1:5: "),
        (
            "a: {b: ${HOME}/c}",
            "error[YAML-SYNTAX] f:1:9: expected ',' or '}', but got '{', while parsing a flow mapping; put text",
        ),
        ("a: @x", "error[YAML-SYNTAX] f:1:4: "),
        ('a: "\\Uffffffff"', "error[YAML-SYNTAX] f:1:7: "),
        (f"%YAML 1.{'9' * 5000}\n---\na: 1", "error[YAML-SYNTAX] f:1:"),
        ("x: 1\na: 1\na: 2", "error[YAML-DUPLICATE-KEY] f:3:1: `a` is given twice, first in line 2"),
        ("a: {b: 1, 'b': 2}", "error[YAML-DUPLICATE-KEY] f:1:11: "),
        ("a: &x 1\nb: *x", "error[YAML-ALIAS] f:1:4: `&x`"),
        ("a: 1\nb: *nowhere", "error[YAML-ALIAS] f:2:4: `*nowhere`"),
        ("a: &x [*x]", "error[YAML-ALIAS] f:1:4: "),
        ("&k a: 1", "error[YAML-ALIAS] f:1:1: "),
        ("<<: {a: 1}", "error[YAML-MERGE-KEY] f:1:1: "),
        ("a: !!python/object/apply:os.system [x]", "error[YAML-TAG] f:1:4: "),
        ("a: !!str 1", "error[YAML-TAG] f:1:4: "),
        ("a: ! 1", "error[YAML-TAG] f:1:4: "),
        ("a: 1\n---\nb: 2", "error[YAML-DOCUMENTS] f:2:1: "),
        ("", "error[YAML-EMPTY] f: "),
        ("# nothing\n", "error[YAML-EMPTY] f: "),
        ("? [a]\n: b", "error[YAML-KEY] f:1:3: "),
        ("a: {[b]: 1}", "error[YAML-KEY] f:1:5: "),
        ("a: b\x07", "error[YAML-ENCODING] f:1:5: the character U+0007"),
        ("a: 1\r\n\r\nb: \x00", "error[YAML-ENCODING] f:3:4: the character U+0000"),
        ('a: "\\0"', "error[YAML-ENCODING] f:1:4: "),
        ('a: "\\ud83d"', "error[YAML-ENCODING] f:1:4: "),
        ('"\\udc00": 1', "error[YAML-ENCODING] f:1:1: "),
    ],
)
def test_what_is_no_plain_yaml_is_refused_with_its_place(text: str, message: str) -> None:
    found = refused(text)

    assert found.startswith(message)
    assert "\n" not in found


@pytest.mark.parametrize("opening", ["[", "[\n", "- ", "{a: ", "? "])
def test_deep_nesting_is_refused_and_the_deepest_allowed_is_not(opening: str) -> None:
    found = refused(opening * 200_000)

    assert "YAML-TOO-DEEP" in found or "YAML-KEY" in found
    assert parse("[" * DEEPEST + "]" * DEEPEST, "f").data is not None
    assert "YAML-TOO-DEEP" in refused("[" * (DEEPEST + 1) + "]" * (DEEPEST + 1))


def test_a_file_of_aliases_that_would_grow_to_billions_is_refused_at_once() -> None:
    lines = ["a0: &a0 [lol, lol]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30)]
    start = time.perf_counter()

    assert "YAML-ALIAS" in refused("\n".join(lines))
    assert time.perf_counter() - start < 1


@given(trees(SCALARS))
@settings(deadline=None)
def test_whatever_json_writes_is_read_back_with_the_same_types(tree: Any) -> None:
    assert repr(parse(json.dumps({"root": tree}), "f").data) == repr({"root": tree})


@given(trees(TEXTS))
@settings(deadline=None)
def test_quoted_text_of_a_yaml_writer_is_read_back(tree: Any) -> None:
    assert parse(yaml.safe_dump({"root": tree}, default_style='"'), "f").data == {"root": tree}


@given(YAML_LIKE)
@settings(deadline=None, max_examples=400)
def test_any_text_is_read_or_refused_in_one_line_with_exit_code_2(text: str) -> None:
    try:
        document = parse(text, "f")
    except JobError as error:
        assert error.exit_code == ExitCode.USAGE
        assert len(str(error).splitlines()) == 1
    else:
        json.dumps(document.data).encode()
        assert () in document.values


@given(st.binary(max_size=60))
@settings(deadline=None)
def test_any_bytes_in_a_file_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "bytes.yaml"
    path.write_bytes(content)
    try:
        _, root = read_file(path)
    except JobError as error:
        assert error.exit_code == ExitCode.USAGE
    else:
        assert isinstance(root, dict)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_utf8_and_marked_utf16_files_are_read(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "job.yaml"
    path.write_text("name: naïve 語 😀\n", encoding)

    assert read_file(path)[1] == {"name": "naïve 語 😀"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: 1\nb: naïve".encode("latin-1"), "YAML-ENCODING] {path}:2:6: the bytes here are not UTF-8"),
        (b"\xff\xfea\x00:\x00 \x00\x00\xd8", "YAML-ENCODING] {path}:1:4: the bytes here are not UTF-16"),
        (b"# " + b"x" * (1 << 20), "YAML-TOO-LARGE] {path}: "),
        (b"- a\n- b", "YAML-ROOT] {path}:1:1: the file holds a list"),
        (b"\n\nname", 'YAML-ROOT] {path}:3:1: the file holds text "name"'),
        (b"---\n", "YAML-ROOT] {path}:2:1: the file holds null"),
        (b"", "YAML-EMPTY] {path}: "),
    ],
)
def test_a_file_that_holds_no_mapping_of_text_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "job.yaml"
    path.write_bytes(content)

    with pytest.raises(JobError) as caught:
        read_file(path)
    assert str(caught.value).startswith("error[" + message.format(path=path))


def test_a_file_that_is_missing_or_a_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"SPEC-FILE.*absent\.yaml: cannot be read: No such file"):
        read_file(tmp_path / "absent.yaml")
    with pytest.raises(JobError, match=r"SPEC-FILE.*is a folder"):
        read_file(tmp_path)
