"""`unspool bench`: what is measured, as a table, as one JSON line, and as a picture.

Importing it loads no torch; matplotlib only draws, and is an extra.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.errors import ExitCode, JobError, usage_error
from jobs.models import model_errors
from jobs.progress import human_bytes

if TYPE_CHECKING:
    from rwkv_runtime.benchmark import Costs, Growth, Speed

RESULTS = "results.jsonl"
SHORTEST = 1024  # tokens of the shortest document that is timed
DTYPES = ("fp32", "bf16", "fp16", "int8", "int4")


@dataclass(frozen=True)
class Options:
    """What to measure. `sizes` are of public models or LAYERSxWIDTH; `longest` is in tokens."""

    sizes: Sequence[str] = ("0.1B",)
    dtypes: Sequence[str] = ("fp32", "bf16", "int8")
    threads: int | None = None
    rounds: int = 5
    longest: int = 16384


@dataclass(frozen=True)
class Report:
    """All that one run of the command has measured."""

    machine: str
    torch: str
    kernels: str
    threads: int
    rounds: int
    speeds: tuple[Speed, ...]
    growth: tuple[Growth, ...]
    costs: Costs


def measure(options: Options) -> Report:
    """Measure. Raises JobError for a size, a type or a number that is none."""
    if wrong := [name for name in options.dtypes if name not in DTYPES]:
        raise usage_error("BENCH-DTYPE", f"dtype {wrong[0]!r} is none of {', '.join(DTYPES)}")
    if options.rounds < 1 or (options.threads is not None and options.threads < 1):
        raise usage_error("BENCH-ROUNDS", f"rounds {options.rounds} and threads {options.threads} must be at least 1")
    if options.longest != 0 and options.longest < SHORTEST:
        message = f"longest {options.longest} must be at least {SHORTEST}, or 0 to leave documents out"
        raise usage_error("BENCH-LONGEST", message)
    with model_errors():
        import rwkv_runtime
        from rwkv_runtime import benchmark, native

        version, threads = benchmark.torch_with(options.threads)
        status, default = native.status(), rwkv_runtime.load()
        kinds = ("native", "torch") if status.available else ("torch",)
        return Report(
            machine=f"{processor()}, {os.cpu_count()} processors",
            torch=version,
            kernels=status.reason,
            threads=threads,
            rounds=options.rounds,
            speeds=tuple(
                speed
                for size in options.sizes
                for speed in benchmark.speeds(size, options.dtypes, kinds, options.rounds)
            ),
            growth=tuple(benchmark.growth(default, options.longest)),
            costs=benchmark.costs(default, options.rounds),
        )


def to_json(report: Report) -> dict[str, Any]:
    """The report as a JSON value."""
    return {"bench": "unspool", "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), **asdict(report)}


def lines_of(report: Report) -> Iterator[str]:
    """The report as a table for people."""
    yield f"{report.machine}; torch {report.torch}, {report.threads} threads; {report.kernels}"
    yield f"{'model':>8} {'dtype':>5} {'kernels':>7} {'prefill tok/s':>14} {'decode tok/s':>13} {'error':>9}"
    for speed in report.speeds:
        rates = f"{speed.prefill:14.0f} {speed.decode:13.1f} {speed.error:9.1e}"
        yield f"{speed.size:>8} {speed.dtype:>5} {speed.kernels:>7} {rates}"
    for one in report.growth:
        peak = human_bytes(one.peak_bytes)
        yield f"default model, {one.tokens} tokens: {one.seconds_per_token * 1e6:.0f} µs a token, peak {peak}"
    costs = report.costs
    yield (
        f"a state of {human_bytes(costs.state_bytes)}: saved in {costs.save_seconds * 1e3:.2f} ms, "
        f"loaded in {costs.load_seconds * 1e3:.2f} ms"
    )
    yield f"tokenizer {costs.tokenizer}: {costs.tokens_per_second / 1e3:.0f} thousand tokens/s"


def keep(report: Report, folder: Path) -> list[Path]:
    """Append one line to results.jsonl and draw a picture; returns what was written. Raises JobError (exit 6)."""
    value = to_json(report)
    results, picture = folder / RESULTS, folder / f"bench-{value['time'].replace(':', '')}.png"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with results.open("a", encoding="utf-8") as file:
            file.write(json.dumps(value, ensure_ascii=False) + "\n")
        return [results, picture] if draw(report, picture) else [results]
    except OSError as error:
        message = f"cannot be written ({error.strerror}); give another folder with --output"
        raise JobError("BENCH-WRITE", message, exit_code=ExitCode.ENVIRONMENT, where=str(folder)) from error


def draw(report: Report, path: Path) -> bool:
    """Draw speeds and growth; False if matplotlib is not installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return False
    figure = Figure(figsize=(11, 4), layout="constrained")
    speeds, growth = figure.subplots(1, 2)
    names = [f"{one.size} {one.dtype}\n{one.kernels}" for one in report.speeds]
    speeds.bar(names, [one.prefill for one in report.speeds])
    speeds.set_ylabel("prefill, tokens a second")
    speeds.tick_params(axis="x", labelsize=7)
    growth.plot([one.tokens for one in report.growth], [one.seconds_per_token * 1e6 for one in report.growth], "o-")
    growth.set_xscale("log", base=2)
    growth.set_ylim(bottom=0)
    growth.set_xlabel("tokens of a document")
    growth.set_ylabel("µs a token, default model")
    figure.savefig(path, dpi=120)
    return True


def processor() -> str:
    """The processor's own name, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
