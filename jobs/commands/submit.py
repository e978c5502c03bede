"""The command that prints a job as a manifest for a cluster; it sends nothing anywhere."""

from __future__ import annotations

from typing import Annotated

import typer

from jobs.commands.options import JobFile, Overrides, Workers, say
from jobs.errors import safe


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command("submit")(submit)


def submit(
    job: JobFile,
    ray: Annotated[
        bool, typer.Option("--ray", help="A `ray job submit` command, for a cluster that is there.")
    ] = False,
    k8s: Annotated[bool, typer.Option("--k8s", help="A RayJob for KubeRay; takes --image and --volume.")] = False,
    slurm: Annotated[bool, typer.Option("--slurm", help="A batch script for sbatch.")] = False,
    sky: Annotated[
        bool, typer.Option("--sky", help="A task for `sky jobs launch`; takes --image and --volume.")
    ] = False,
    image: Annotated[str | None, typer.Option("--image", help="A container image that has unspool.")] = None,
    volume: Annotated[str | None, typer.Option("--volume", help="The volume with the job's folder.")] = None,
    workers: Workers = None,
    overrides: Overrides = None,
) -> None:
    """Print the manifest that runs a job elsewhere and takes it up again when it is interrupted; nothing is sent."""
    from jobs.run import load_job
    from jobs.spec import override
    from jobs.submit import Request, chosen, manifest, outside

    kind = chosen((("ray", ray), ("k8s", k8s), ("slurm", slurm), ("sky", sky)))
    texts = [*(overrides or ()), *([override("run.workers", workers)] if workers is not None else [])]
    request = Request(load_job(job, texts), job, tuple(overrides or ()), image, volume)
    typer.echo(manifest(kind, request), nl=False)
    for path in outside(request):
        say(safe(f"note: {path} does not lie in the folder of the job file; see that it is there too"))
