"""`auto` is measured once a machine, and what was measured is believed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

import rwkv_runtime
from rwkv_runtime import auto_dtype


@pytest.mark.parametrize(("ratio", "chosen"), [(0.2, "fp32"), (1.2, "fp32"), (2.0, "bf16")])
def test_bf16_is_chosen_where_it_is_clearly_faster(ratio, chosen, tmp_path, monkeypatch):
    monkeypatch.setattr(auto_dtype, "_speed_ratio", lambda: ratio)
    assert auto_dtype.choose(tmp_path) == chosen


def test_what_was_measured_once_is_not_measured_again(tmp_path, monkeypatch):
    first = auto_dtype.choose(tmp_path / "new")
    monkeypatch.setattr(auto_dtype, "_speed_ratio", lambda: pytest.fail("measured again"))
    assert auto_dtype.choose(tmp_path / "new") == first
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["dtype.json"]


def test_another_processor_is_measured_anew_and_the_first_is_kept(tmp_path, monkeypatch):
    for processor, ratio in (("first", 2.0), ("second", 1.0)):
        monkeypatch.setattr(auto_dtype, "_processor", lambda processor=processor: processor)
        monkeypatch.setattr(auto_dtype, "_speed_ratio", lambda ratio=ratio: ratio)
        auto_dtype.choose(tmp_path)
    assert [*json.loads((tmp_path / "dtype.json").read_text()).values()] == ["bf16", "fp32"]


@pytest.mark.parametrize("content", ["", "[]", "{", '{"a": 1}', "\x00"])
def test_a_damaged_cache_is_measured_over(content, tmp_path, monkeypatch):
    (tmp_path / "dtype.json").write_text(content)
    monkeypatch.setattr(auto_dtype, "_speed_ratio", lambda: 2.0)
    assert auto_dtype.choose(tmp_path) == "bf16"


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    monkeypatch.setattr(auto_dtype, "_speed_ratio", lambda: 2.0)
    assert auto_dtype.choose(blocked / "below") == "bf16"


def test_auto_is_resolved_when_a_model_is_loaded(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(auto_dtype, "_speed_ratio", lambda: 2.0)
    assert rwkv_runtime.load(dtype="auto").dtype == "bf16"
    assert Path(os.environ["XDG_CACHE_HOME"], "unspool", "dtype.json").is_file()
