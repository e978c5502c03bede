"""`python -m examples.train_default_model --profile cpu --data DIR --out DIR [--resume]`: prepare, train, export.

Prepares OUT/data from the data folder where it is not there yet, trains, and writes OUT/model. A signal to stop (Ctrl-C
or SIGTERM) writes a checkpoint first, and the same command with --resume goes on from it.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from examples.train_default_model.profiles import PROFILES, Profile

STEPS = ("text", "targets", "train", "export")


def main(arguments: list[str] | None = None) -> int:
    """Run the steps that were asked for; returns the exit code."""
    options = _parser().parse_args(arguments)
    profile = PROFILES[options.profile]
    try:
        if "text" in options.only:
            _prepare_text(options.data, options.wordnet, options.out / "data", profile)
        if "targets" in options.only:
            _prepare_targets(options, profile)
        if "train" in options.only:
            _train(options, profile)
        if "export" in options.only:
            _export(options.out, profile)
    except (FileNotFoundError, FileExistsError, ImportError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="train_default_model", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--profile", choices=sorted(PROFILES), required=True)
    parser.add_argument("--data", type=Path, help="folder with train/text; not needed once OUT/data is there")
    parser.add_argument("--wordnet", type=Path, help="folder with data.noun and so on: adds everyday statements")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for prepared data, checkpoints, log and weights"
    )
    parser.add_argument("--resume", action="store_true", help="go on from OUT/checkpoint.pt")
    parser.add_argument("--only", nargs="+", choices=STEPS, default=STEPS, help="carry out only these steps")
    parser.add_argument("--steps", type=int, help="where the schedule ends, if not where the profile says")
    parser.add_argument("--shards", type=int, help="read only the first so many shards")
    parser.add_argument("--teacher", type=Path, help="folder of the teacher, if not the installed package")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    return parser


def _prepare_text(data: Path | None, wordnet: Path | None, folder: Path, profile: Profile) -> None:
    from examples.train_default_model.prepare import has_text, prepare_text

    if has_text(folder):
        return
    if data is None:
        raise FileNotFoundError(f"{folder} is not prepared; give --data with the folder that holds train/text")
    prepare_text(data, folder, profile.data, log_line, wordnet)


def _prepare_targets(options: argparse.Namespace, profile: Profile) -> None:
    """Ask the teacher for what is missing; it is loaded only if something is."""
    import torch

    from examples.train_default_model.prepare import is_prepared, prepare_targets
    from examples.train_default_model.teacher import MiniLM

    if is_prepared(options.out / "data"):
        return
    torch.set_num_threads(options.threads)
    teacher = MiniLM(options.teacher).to(profile.training.device)
    prepare_targets(options.out / "data", profile.data, teacher.vectors, log_line)


def _train(options: argparse.Namespace, profile: Profile) -> None:
    import torch

    from examples.train_default_model.session import new_trainer
    from examples.train_default_model.train import CHECKPOINT

    torch.set_num_threads(options.threads)
    checkpoint = options.out / CHECKPOINT
    if checkpoint.exists() and not options.resume:
        raise FileExistsError(f"{checkpoint} is there; add --resume to go on from it, or choose another --out")
    trainer = new_trainer(options.out / "data", profile, options.steps or profile.training.steps, options.shards)
    if options.resume and checkpoint.exists():
        trainer.restore(checkpoint)
        log_line(f"going on from step {trainer.step}")
    trainer.run(options.out, stop_request())


def _export(out: Path, profile: Profile) -> None:
    from examples.train_default_model.export import export

    for path in export(out, profile):
        log_line(f"{path.name}: {path.stat().st_size / 1e6:.2f} MB")


def stop_request() -> Callable[[], bool]:
    """A question that is answered with yes once the process was asked to stop."""
    asked: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda received, _frame: asked.append(received))
    return lambda: bool(asked)


def log_line(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
