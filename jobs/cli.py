"""The command line: arguments in, one call of the package, words and an exit code out. Decides nothing itself.

stdout carries data, stderr carries people's text. Importing this module loads neither torch nor ray.
"""

from __future__ import annotations

import os
import sys
import tempfile
import traceback

import typer

from jobs.commands import answers, bench, calibrate, evals, export, models, runs, start, states, submit
from jobs.commands.options import complain
from jobs.errors import ExitCode, JobError, safe

app = typer.Typer(
    name="unspool",
    help="Read documents of any length with RWKV models. The same command again resumes, in mid-document.",
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for group in (start, runs, models, bench, evals, answers, export, states, submit, calibrate):
    group.register(app)


def main() -> None:
    """Run the command line; ends the process with the exit code of the contract."""
    # Read when numpy is loaded, here and in workers. Its products are small: threads that wait for each other by
    # spinning took 150 times as long over the report's map where the processors had other work too.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        # Typer hands the code of `typer.Exit` back instead of ending the process with it.
        sys.exit(app(prog_name="unspool", standalone_mode=False) or ExitCode.OK)
    except JobError as error:
        complain(str(error))
        sys.exit(error.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        sys.exit(ExitCode.SIGINT)
    except SystemExit as end:
        if not isinstance(end.__context__, BrokenPipeError):
            raise
        # Whoever read our output has gone, which Click ends with 1; Python must not complain about it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno() if sys.__stdout__ else 1)
        sys.exit(ExitCode.OK)
    except Exception as error:
        sys.exit(_usage_error(error) or _bug(error))


def _usage_error(error: Exception) -> int | None:
    """What Click says of arguments that it does not understand, in one line."""
    code = getattr(error, "exit_code", None)
    if code is None:
        return None
    message = getattr(error, "format_message", lambda: str(error))()
    complain(f"error[USAGE] {safe(message.removesuffix('.'))}; see `unspool --help`")
    return int(code)


def _bug(error: Exception) -> int:
    """A traceback goes to a file, one line to the screen."""
    descriptor, path = tempfile.mkstemp(prefix="unspool-traceback-", suffix=".txt")
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.writelines(traceback.format_exception(error))
    complain(f"error[BUG] {safe(f'{type(error).__name__}: {error}')[:300]}; please report it with {path}")
    return int(ExitCode.BUG)


if __name__ == "__main__":
    main()
