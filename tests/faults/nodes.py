"""A cluster of three Ray nodes on this machine, a job on it, and nodes that die or stand still while it reads."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from jobs.records import Done, Entry
from jobs.run_directory import RunDirectory
from jobs.verify import verify
from pipeline.durable import Disk, unseal
from pipeline.ray_pool import _prepare_environment
from tests.jobs.project import REPOSITORY, Project, Said, contents, events, finish, prose, wait_for_event
from tests.processes import descendants

NODES = 3
CHECKPOINT_TOKENS = 1024
# Ray looks after its nodes every half minute otherwise, and a worker is asked for news once a second. A node that a
# busy machine lets wait for seconds is not to be taken for a lost one.
_QUICK = {
    f"health_check_{what}": value
    for what, value in {"initial_delay_ms": 0, "period_ms": 500, "timeout_ms": 2000, "failure_threshold": 6}.items()
}
_PROGRAM = (
    "import jobs.cli, jobs.run, jobs.supervise, pipeline.ray_pool\n"
    "jobs.run.processors = lambda: 1\n"
    "jobs.supervise._CALL_SECONDS = 0.05\n"
    "pipeline.ray_pool._SIGN_OF_LIFE_SECONDS = 3.0\n"
    "jobs.cli.main()"
)


class Nodes:
    """The cluster. A driver that is started here joins it with `address: auto`. The first node stays."""

    def __init__(self, folder: Path) -> None:
        from ray.cluster_utils import Cluster

        (folder / "ray").mkdir()  # where a driver looks for the address of a cluster that is there
        common = {"num_cpus": 1, "object_store_memory": 80 << 20}
        self._common = common
        self._cluster: Any = Cluster(
            initialize_head=True, head_node_args={**common, "include_dashboard": False, "_system_config": _QUICK}
        )
        self.others: list[Any] = []
        self.fill()

    def fill(self) -> None:
        """Have as many nodes as there should be."""
        while len(self.others) < NODES - 1:
            self.others.append(self._cluster.add_node(**self._common))

    def lose(self, node: Any) -> None:
        """Clear away what is left of a node."""
        self.others.remove(node)
        self._cluster.remove_node(node, allow_graceful=False)

    def close(self) -> None:
        self._cluster.shutdown()


def members(node: Any) -> set[int]:
    """The processes of a node."""
    raylet = node.all_processes["raylet"][0].process.pid
    return {raylet} | descendants(raylet)


def send(node: Any, number: signal.Signals) -> set[int]:
    """Send a signal to all processes of a node; which they were."""
    found = members(node)
    for pid in found:
        os.kill(pid, number)
    return found


@contextmanager
def cluster() -> Iterator[Nodes]:
    """A cluster that listens on the loopback interface alone, and whose files lie in a folder of its own."""
    _prepare_environment()  # for good: Ray keeps what it has found when it was imported
    with (
        tempfile.TemporaryDirectory(prefix="us-", dir="/tmp") as folder,
        mock.patch.dict(os.environ, {"RAY_TMPDIR": folder}),
    ):
        nodes = Nodes(Path(folder))
        try:
            yield nodes
        finally:
            nodes.close()


def project(folder: Path, sentences: int) -> Project:
    """A document for each node."""
    made = Project(folder, **{f"d{number}": prose(sentences, number) for number in range(NODES)})
    made.write_job(
        model={"source": str(made.write_model()), "dtype": "fp32"},
        checkpoint={"every": {"tokens": CHECKPOINT_TOKENS, "seconds": 3600}},
        on_error={"stall_timeout": "6s"},
        run={"workers": NODES, "window": 128},
        ray={"address": "auto"},
    )
    return made


def start(*arguments: str) -> subprocess.Popen[str]:
    """The command in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        cwd=REPOSITORY,
    )


def run_while_nodes_are_lost(nodes: Nodes, job: Project, out: Path) -> Said:
    """Start the job; in mid-document kill one node and stop another, which wakes up once the job is done."""
    running = start("run", str(job.job), "-o", str(out), "--no-progress")
    killed, stopped = nodes.others
    wait_for_event(out, "worker_ready", running, timeout=180)
    for node in (killed, stopped):
        _wait_for_checkpoint_on(node, out, running)
    send(killed, signal.SIGKILL)
    still = send(stopped, signal.SIGSTOP)
    try:
        return finish(running, timeout=180)
    finally:
        _wake(still)
        time.sleep(0.5)  # for what a node that wakes up may still write
        nodes.lose(killed)
        nodes.lose(stopped)


def run_while_nodes_join(nodes: Nodes, job: Project, out: Path) -> Said:
    """Start the job where there is one node; workers stand still as soon as they are ready, until all nodes have one.

    Otherwise the second might have read the rest before the third has started.
    """
    while nodes.others:
        nodes.lose(nodes.others[0])
    running = start("run", str(job.job), "-o", str(out), "--no-progress", "--set", "on_error.stall_timeout=300s")
    wait_for_event(out, "checkpoint", running, timeout=180)
    still: set[int] = set()
    _hold_workers(out, still)
    try:
        nodes.fill()
        until = time.monotonic() + 180
        while len(still) < NODES and running.poll() is None and time.monotonic() < until:
            time.sleep(0.01)
            _hold_workers(out, still)
    finally:
        _wake(still)
    return finish(running, timeout=180)


def _hold_workers(out: Path, still: set[int]) -> None:
    """Stop the workers that are ready, and count them among those that stand still."""
    ready = {event["pid"] for event in events(out) if event["event"] == "worker_ready"}
    for pid in ready - still:
        os.kill(pid, signal.SIGSTOP)
    still |= ready


def _wake(pids: set[int]) -> None:
    for pid in pids:
        try:
            os.kill(pid, signal.SIGCONT)
        except ProcessLookupError:
            continue


def _wait_for_checkpoint_on(node: Any, out: Path, running: subprocess.Popen[str]) -> None:
    """Wait until a document that is read on a node has been saved there."""
    until = time.monotonic() + 120
    while time.monotonic() < until:
        if running.poll() is not None:
            raise AssertionError(f"ended too early: {finish(running)}")
        found = events(out)
        there = {event["worker"] for event in found if event.get("pid") in members(node)}
        if any(event["event"] == "checkpoint" and event["worker"] in there for event in found):
            return
        time.sleep(0.01)
    raise AssertionError("no checkpoint in time")


def wrong(out: Path, expected: dict[str, str]) -> str:
    """What should not be, once a job has come to its end."""
    records = [Entry.from_line(unseal(path.read_bytes())).record for path in sorted((out / "ledger").glob("*.json"))]
    done = [document.doc_id for record in records if isinstance(record, Done) for document in record.documents]
    if len(done) != NODES or len(set(done)) != NODES:
        return f"{len(done)} documents are committed, {len(set(done))} different ones"
    if contents(out / "output") | contents(out / "states") != expected:
        return "other bytes"
    lost = [event["cause"] for event in events(out) if event["event"] == "worker_lost"]
    if len(lost) < NODES - 1 or set(lost) != {"node"}:  # what replaced one may be lost with the other
        return f"lost: {lost}"
    return "; ".join(verify(RunDirectory.open(out, Disk())))


def lost_nodes(seeds: range, folder: Path) -> Iterator[str]:
    """What was wrong in each of many jobs during which two of three nodes were lost."""
    job = project(folder / "project", 700)
    job.run("-o", str(folder / "golden"), "-j", "0")
    expected = contents(folder / "golden" / "output") | contents(folder / "golden" / "states")
    with cluster() as nodes:
        for seed in seeds:
            nodes.fill()
            out = folder / f"lost-{seed}"
            said = run_while_nodes_are_lost(nodes, job, out)
            yield f"exit code {said.code}: {said.err}" if said.code else wrong(out, expected)
