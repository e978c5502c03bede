"""`unspool bench` on a tiny shape: its table, its line of results and its picture."""

from __future__ import annotations

import json
import sys

import pytest
import torch

from jobs import bench, cli
from rwkv_runtime import benchmark
from rwkv_runtime.errors import ShapeError
from rwkv_runtime.synthetic import SIZES, Shape, tensors


@pytest.fixture
def command(monkeypatch, capsys):
    threads = torch.get_num_threads()

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["unspool", "bench", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return int(end.value.code or 0), *capsys.readouterr()

    yield run
    torch.set_num_threads(threads)


def test_a_run_prints_a_table_and_keeps_a_line_and_a_picture(command, tmp_path):
    quick = ("--size", "1x64", "--dtype", "fp32", "--dtype", "int8", "--rounds", 1, "--longest", 1024, "--threads", 1)
    code, out, err = command(*quick, "-o", tmp_path)
    assert code == 0, err
    assert "prefill tok/s" in out and "1x64  int8" in out and "default model, 1024 tokens" in out
    report = json.loads((tmp_path / bench.RESULTS).read_text())
    assert {(one["dtype"], one["error"] < (1e-5 if one["dtype"] == "fp32" else 0.1)) for one in report["speeds"]} == {
        ("fp32", True),
        ("int8", True),
    }
    assert [path.read_bytes()[1:4] for path in tmp_path.glob("*.png")] == [b"PNG"]


def test_without_matplotlib_the_line_is_kept_and_the_install_line_said(command, tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "draw", lambda report, path: False)
    code, out, err = command(
        "--size", "1x64", "--dtype", "fp32", "--rounds", 1, "--longest", 0, "-o", tmp_path, "--json"
    )
    assert code == 0
    assert json.loads(out)["rounds"] == 1
    assert "pip install unspool[bench]" in err
    assert [path.name for path in tmp_path.iterdir()] == [bench.RESULTS]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--dtype", "fp8"), 2, "fp8"),
        (("--rounds", "0"), 2, "at least 1"),
        (("--longest", "-5"), 2, "longest -5 must be at least 1024"),
        (("--longest", "100"), 2, "or 0 to leave documents out"),
        (("--size", "0.2B"), 7, "0.2B"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_line(command, tmp_path, arguments, code, said):
    found, out, err = command(*arguments, "-o", tmp_path)
    assert (found, out) == (code, "")
    assert said in err and err.count("\n") == 1


def test_ranks_and_parameters_are_those_of_the_public_models():
    shape = Shape.named("0.1B")
    assert [shape.rank(letter) for letter in "wavg"] == [64, 64, 32, 128]
    assert [Shape.named("1.5B").rank(letter) for letter in "wavg"] == [96, 96, 64, 256]
    assert sum(tensor.numel() for tensor in tensors(shape).values()) == 191_084_544
    assert all(Shape.named(name) for name in SIZES)
    with pytest.raises(ShapeError, match="multiple of 64"):
        Shape.named("2x100")


def test_what_is_measured_takes_turns_and_the_first_round_does_not_count():
    calls: list[str] = []
    found = benchmark.in_turns({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=2)
    assert calls == ["a", "b"] * 3
    assert set(found) == {"a", "b"}
