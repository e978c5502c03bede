"""Which dtype `auto` stands for on this machine: measured once, and kept in the user's cache folder.

`auto` chooses between fp32 and bf16, whose hidden states differ by less than 0.5 %; int8 and int4 are for those who ask
for them. Light on purpose: torch is loaded to measure, not to look up what was measured before. Knows no model.
"""

from __future__ import annotations

import json
import os
import platform
import secrets
import time
from contextlib import suppress
from importlib import metadata
from pathlib import Path

TOKENS, WIDTH = 512, 1024
ROUNDS = 5
WORTHWHILE = 1.3
"""bf16 is chosen if its products are at least so many times as fast: the rest of a model stays float32."""


def choose(cache: Path | None = None) -> str:
    """Return fp32 or bf16: what was measured before on this kind of processor with this torch, or is measured now.

    `cache` is a folder, by default that of the user. One that cannot be written to is no error.
    """
    path = (cache or _cache_folder()) / "dtype.json"
    known, machine = _read(path), f"{_processor()}, torch {metadata.version('torch')}"
    chosen = known.get(machine)
    if chosen not in ("fp32", "bf16"):
        chosen = "bf16" if _speed_ratio() >= WORTHWHILE else "fp32"
        with suppress(OSError):
            _write(path, known | {machine: chosen})
    return chosen


def _speed_ratio() -> float:
    """How many times as fast bf16 multiplies as fp32, each at its best of a few rounds in turn."""
    import torch

    from rwkv_runtime.matrices import PRECISIONS

    x, weight = torch.randn(TOKENS, WIDTH), torch.randn(WIDTH, WIDTH)
    matrices = [PRECISIONS[name].keep(weight) for name in ("fp32", "bf16")]
    best = [float("inf")] * len(matrices)
    with torch.inference_mode():
        for _ in range(ROUNDS):
            for place, matrix in enumerate(matrices):
                started = time.perf_counter()
                matrix(x)
                best[place] = min(best[place], time.perf_counter() - started)
    return best[0] / best[1]


def _cache_folder() -> Path:
    folder = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(folder) if os.path.isabs(folder) else Path.home() / ".cache") / "unspool"


def _read(path: Path) -> dict[str, str]:
    try:
        known = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _write(path: Path, known: dict[str, str]) -> None:
    """Replace the file whole, so that another process never reads a part of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        partial.write_text(json.dumps(known, indent=2, sort_keys=True) + "\n", "utf-8")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _processor() -> str:
    """The processor's name and what it can do, where the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    wide = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in facts.get("flags", "").split()]
    return " ".join([facts.get("model name", platform.machine()), *wide])
