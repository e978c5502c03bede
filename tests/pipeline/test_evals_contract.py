"""What every eval has in common, run over every module of the folder on a few items of their data."""

from __future__ import annotations

import lzma
import math
import re
import secrets
import shutil
from pathlib import Path

import pytest

import rwkv_runtime
from pipeline import evals
from pipeline.errors import MissingExtraError
from pipeline.evals import Eval, EvalError
from rwkv_runtime.model import Model
from tests.jobs.project import REPOSITORY, unspool

ITEMS = REPOSITORY / "tests" / "pipeline" / "eval_items"
MODULES = evals.evals()


@pytest.fixture(scope="module")
def model() -> Model:
    return rwkv_runtime.load("default")


@pytest.fixture(params=list(MODULES.values()), ids=list(MODULES))
def module(request: pytest.FixtureRequest) -> Eval:
    found: Eval = request.param
    return found


def test_a_few_items_of_its_data_are_in_the_repository(module: Eval) -> None:
    assert evals.missing(module, ITEMS) == []


def test_every_row_has_the_same_metrics_with_the_figure_in_its_interval(module: Eval, model: Model) -> None:
    try:
        table = module.run(ITEMS, model, 5)
    except MissingExtraError as missing:
        pytest.skip(str(missing))

    assert table.name == module.NAME
    assert len({tuple(row.metrics) for row in table.rows}) == 1
    assert len({row.system for row in table.rows}) == len(table.rows) > 1
    for row in table.rows:
        for value in row.metrics.values():
            assert math.isnan(value.low) or value.low - 1e-9 <= value.value <= value.high + 1e-9


def test_a_folder_without_its_data_is_refused_by_the_name_of_the_file(module: Eval, tmp_path: Path) -> None:
    said = unspool("eval", module.NAME, "--data", str(tmp_path))

    assert said.code == 2
    assert module.NEEDS[0] in said.err


PACKED = {
    "empty": b"",
    "not packed": b"no archive of any kind",
    "half of it": lzma.compress(b'{"text": "a"}\n' * 9)[:20],
    "packed nothing": lzma.compress(b""),
    "packed no keys": lzma.compress(b"{}\n"),
}
PLAIN = {"empty": b"", "no keys": b"{}\n", "a list": b"[1]\n", "not UTF-8": b"\x80\x81\xfe\n" * 99}
DAMAGES = {".xz": PACKED, ".jsonl": PLAIN, ".tsv": PLAIN, ".txt": {"empty": b"", "not UTF-8": b"\x80\xfe"}}


def test_data_that_is_empty_or_damaged_is_refused_with_its_file(module: Eval, model: Model, tmp_path: Path) -> None:
    for name in module.NEEDS:
        for damage in DAMAGES.get(Path(name).suffix, {}).values():
            folder = tmp_path / secrets.token_hex(4)
            shutil.copytree(ITEMS, folder)
            (folder / name).write_bytes(damage)
            with pytest.raises(EvalError, match=re.escape(str(folder))) as found:
                module.run(folder, model, 2)
            assert str(found.value).endswith("take it from its source again")


def test_damaged_data_ends_a_command_with_2_and_the_file(tmp_path: Path) -> None:
    (tmp_path / "labelled").mkdir()
    for name in evals.find("cranfield").NEEDS:
        (tmp_path / name).write_bytes(b"")
    said = unspool("eval", "cranfield", "--data", str(tmp_path))

    assert said.code == 2
    assert "error[EVAL]" in said.err and "cranfield-corpus.jsonl: has no rows" in said.err


def test_an_unknown_eval_is_refused_with_the_names_of_those_there_are() -> None:
    with pytest.raises(EvalError, match="sts"):
        evals.find("nosuch")
