"""Workers as Ray actors. The only file that imports Ray.

Ray is used for what it is good at, starting processes and calling them, here or on a cluster. Supervision is our
own: an actor is never restarted by Ray and no call is retried by it, because a retried call would hide a crash.
A private cluster on this machine listens on the loopback interface alone, says nothing and leaves nothing behind.
On a cluster of others nodes may come and go: a worker that its node takes along is no document's fault, and every
worker shows that it sees the same run directory as the driver before it reads.
"""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import secrets
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from pipeline import last_words
from pipeline.durable import Disk
from pipeline.pool import PATIENT_THREADS, Answer, Loss, PoolError, keep_from_collector
from pipeline.shared_folder import NotSharedError, Token, announce, confirm, echo
from pipeline.work import Assignment, Progress, WorkerFacts, WorkerSpec
from rwkv_runtime.errors import ModelFileError

_TEMP_PREFIX: Final = "unspool-ray-"
_LONGEST_PARENT: Final = 10  # Ray adds 93 characters, and the path of a socket may have 103 on some systems
_OBJECT_STORE_BYTES: Final = 80 << 20  # nothing large goes through it: workers hand over file names, not rows
_SIGN_OF_LIFE_SECONDS: Final = 10.0
_NODE_IS_GONE: Final = ("node has died", "node has crashed")

_NOBODY_ASKS: Final = ("start_api_server", "start_monitor", "start_log_monitor")
"""What starts the processes of a head that show, size and quote a cluster. Each loads Ray anew while workers start."""

# Read by Ray when it is imported. The first binds every socket to 127.0.0.1 (without it, to all interfaces).
_LOCAL_ENVIRONMENT: Final = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AUTH_MODE": "token",
}
_COUNTERS: Final = {
    "unspool_tokens_read_total": "Tokens read.",
    "unspool_documents_done_total": "Documents read to their end.",
    "unspool_documents_failed_total": "Documents that failed.",
    "unspool_checkpoints_total": "Checkpoints written.",
}
_GAUGES: Final = {
    "unspool_lanes_active": "Documents that are being read.",
    "unspool_rss_peak_bytes": "The most memory that the worker has had.",
}
_TOKEN_VARIABLE: Final = "RAY_AUTH_TOKEN"


@dataclass(frozen=True)
class RayOptions:
    """`address` is `local` for a private cluster on this machine, or that of a running one.

    `workers` None: as many as the cluster has room for. Each takes `threads` processors, `gpus` graphics cards (or a
    share of one) and so much of each of `resources`, which are names that nodes were started with.
    """

    address: str
    workers: int | None
    threads: int
    gpus: float = 0.0
    resources: Mapping[str, float] = field(default_factory=dict)

    @property
    def needs(self) -> dict[str, float]:
        """What a node must have for a worker, in Ray's names."""
        return {"CPU": self.threads, **({"GPU": self.gpus} if self.gpus else {}), **self.resources}


@dataclass(frozen=True)
class Arrival:
    """What an actor says once its worker is ready. `node` is Ray's id of where it is; `echo` answers a token."""

    facts: WorkerFacts
    node: str
    version: str
    echo: Token | None


class Host:
    """What runs in an actor. The worker is made in a call: of an error in a constructor Ray passes on only text."""

    def start(self, spec: WorkerSpec, words: str, token: Token | None) -> Arrival:
        """`words`: the file that gets a line with the reason, and Python's stack, if the process crashes.

        `token`: what the driver has written to the run directory, if this may be another machine. Raises RwkvError if
        the model cannot be loaded, NotSharedError.
        """
        import ray

        answer = echo(token, Disk()) if token else None
        for name, value in PATIENT_THREADS.items():
            os.environ.setdefault(name, value)  # read when torch is loaded
        from pipeline.worker import Worker  # here, so that a driver does not load what only its workers need

        with contextlib.suppress(OSError):  # no reason to read nothing
            self._last_words = Path(words).open("w", encoding="utf-8")  # noqa: SIM115 - open as long as it lives
            faulthandler.enable(self._last_words)
        try:
            self._worker = Worker(spec)
        except ModelFileError as error:
            raise ModelFileError(f"on the node {socket.gethostname()}: {error}" if token else str(error)) from error
        keep_from_collector()
        return Arrival(self._worker.facts(), ray.get_runtime_context().get_node_id(), _version(), answer)

    def advance(self, new: Sequence[Assignment], seconds: float) -> Progress:
        return self._worker.advance(new, seconds)

    def drain(self) -> Progress:
        return self._worker.drain()


class RayPool:
    """Places filled with Ray actors, each holding a loaded model.

    Raises PoolError if Ray cannot be started, or if no node of a cluster has room for a worker; OSError if the run
    directory cannot be written. More places than there is room for are filled as nodes join.
    """

    def __init__(self, spec: WorkerSpec, options: RayOptions) -> None:
        self._spec = spec
        self._options = options
        self._actors: dict[int, Any] = {}
        self._calls: dict[Any, int] = {}
        self._last_words: dict[int, Path] = {}
        self._nodes: dict[int, str] = {}
        self._signs: dict[str, Any] = {}
        self._token: Token | None = None
        self._temp = _private_folder() if options.address == "local" else None
        try:
            _start_ray(options, self._temp)
        except BaseException:
            with contextlib.suppress(Exception):  # it may not even be imported
                self.close()
            self._remove_folder()
            raise
        try:
            self._size = _places(options)
            self._token = announce(Path(spec.run), Disk()) if self._is_elsewhere else None
            # A private cluster has no dashboard that could show them.
            self._metrics = ClusterMetrics(spec.run_id) if self._is_elsewhere else None
        except BaseException:
            self.close()
            raise

    @property
    def _is_elsewhere(self) -> bool:
        """Whether workers may be on other machines."""
        return self._temp is None

    @property
    def size(self) -> int:
        return self._size

    def start(self, place: int) -> None:
        import ray

        options = self._options
        remote: Any = ray.remote(
            max_restarts=0,
            max_task_retries=0,
            num_cpus=options.threads,
            num_gpus=options.gpus,
            resources=dict(options.resources),
            scheduling_strategy="SPREAD" if self._is_elsewhere else "DEFAULT",
        )(Host)
        self._actors[place] = remote.remote()
        self._nodes.pop(place, None)
        words = last_words.new_name(Path(self._spec.run) / "quarantine")
        self._last_words[place] = words
        self._calls[self._actors[place].start.remote(self._spec, str(words), self._token)] = place

    def advance(self, place: int, new: Sequence[Assignment], seconds: float) -> None:
        self._calls[self._actors[place].advance.remote(list(new), seconds)] = place

    def drain(self, place: int) -> None:
        self._calls[self._actors[place].drain.remote()] = place

    def wait(self, seconds: float) -> list[Answer | Loss]:
        """Answers that have come within so many seconds; at least one as soon as there is one.

        Raises RwkvError if a worker's model cannot be loaded, PoolError if the private cluster is gone or a node of
        another does not fit.
        """
        import ray

        if not self._calls:
            return []
        if self._temp is not None and (gone := _gone_processes()):
            raise PoolError(f"Ray on this machine has died ({', '.join(gone)}); run again to resume")
        ray.wait(list(self._calls), num_returns=1, timeout=seconds)
        answered, _ = ray.wait(list(self._calls), num_returns=len(self._calls), timeout=0)
        return [self._answer(call, self._calls.pop(call)) for call in answered]

    def abandon(self, place: int, message: str) -> Loss:
        """Kill the actor of a place, which ends it within a moment even where it holds the interpreter.

        An answer that still comes is not looked at: what it names, nobody will refer to. The loss is that of a node
        if nothing else on it answers either.
        """
        import ray

        self._calls = {call: where for call, where in self._calls.items() if where != place}
        with contextlib.suppress(Exception):  # it may be dead already
            ray.kill(self._actors.pop(place))
        last_words.reason_in(self._last_words[place])
        if self._is_elsewhere and self._is_silent(self._nodes.get(place)):
            return Loss(place, "node", f"{message}, nor does anything else on its node")
        return Loss(place, "hung", message)

    def _is_silent(self, node: str | None) -> bool:
        """Whether a node runs nothing new: it was stopped, or is out of reach. Takes seconds to find out, once."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        if node is None:
            return False
        asked = node in self._signs
        if not asked:
            there = NodeAffinitySchedulingStrategy(node, soft=False)
            self._signs[node] = (
                ray.remote(num_cpus=0, max_retries=0)(_sign_of_life).options(scheduling_strategy=there).remote()
            )
        try:
            ray.get(self._signs[node], timeout=0 if asked else _SIGN_OF_LIFE_SECONDS)
        except ray.exceptions.GetTimeoutError:
            return True
        except ray.exceptions.RayError:
            del self._signs[node]
            return True
        del self._signs[node]
        return self._is_silent(node) if asked else False

    def close(self) -> None:
        """Stop the actors and, if it is ours, the cluster; remove its temporary folder."""
        import ray

        for actor in self._actors.values():
            with contextlib.suppress(Exception):  # it may be dead already
                ray.kill(actor)
        self._actors = {}
        self._calls = {}
        for path in self._last_words.values():
            last_words.reason_in(path)
        ray.shutdown()
        if self._token is not None:
            Disk().remove(Path(self._token.path))
        self._remove_folder()

    def _remove_folder(self) -> None:
        if self._temp is not None:
            shutil.rmtree(self._temp, ignore_errors=True)

    def _answer(self, call: Any, place: int) -> Answer | Loss:
        import ray

        try:
            value = ray.get(call)
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, NotSharedError):
                raise PoolError(str(error.cause)) from error
            if not isinstance(error.cause, MemoryError):
                raise error.cause from error
            return self._lost(place, "memory", f"out of memory: {error.cause}")
        except ray.exceptions.RayError as error:
            cause, message = cause_of(error), _in_one_line(error)
            if cause == "unknown" and self._is_elsewhere and self._is_silent(self._nodes.get(place)):
                cause = "node"  # Ray itself takes half a minute to say so
            if cause == "node" and not self._is_elsewhere:
                raise PoolError(f"Ray on this machine has died: {message}; run again to resume") from error
            return self._lost(place, cause, message)
        if isinstance(value, Arrival):
            return self._arrived(place, value)
        if self._metrics is not None:
            self._metrics.note(place, value)
        return Answer(place, progress=value)

    def _arrived(self, place: int, arrival: Arrival) -> Answer:
        self._nodes[place] = arrival.node
        if arrival.version != _version():
            raise PoolError(
                f"a node of the cluster has unspool {arrival.version or '(unknown)'}, this machine {_version()}; "
                "install the same everywhere"
            )
        if arrival.echo is not None:
            try:
                confirm(arrival.echo, Disk())
            except NotSharedError as error:
                raise PoolError(str(error)) from error
        return Answer(place, facts=arrival.facts)

    def _lost(self, place: int, cause: str, message: str) -> Loss:
        """See to it that nothing is left of a worker."""
        import ray

        with contextlib.suppress(Exception):  # it may be alive and only out of reach
            ray.kill(self._actors.pop(place))
        return Loss(place, cause, message, last_words.reason_in(self._last_words[place]))


def _gone_processes() -> list[str]:
    """The processes of the private cluster that have ended. Without its head Ray goes on for a minute, then aborts."""
    from ray._private import worker

    node = worker._global_node
    return sorted({kind for kind, _ in node.dead_processes()}) if node is not None else []


class ClusterMetrics:
    """A run's figures among those of the cluster, where its dashboard hands them to Prometheus.

    Named as in a run's metrics.jsonl; Ray puts `ray_` in front. A cluster without a dashboard drops them.
    """

    def __init__(self, run_id: str) -> None:
        from ray.util import metrics

        self._run_id = run_id
        self._counters = {name: metrics.Counter(name, about, ("run_id", "worker")) for name, about in _COUNTERS.items()}
        self._gauges = {name: metrics.Gauge(name, about, ("run_id", "worker")) for name, about in _GAUGES.items()}

    def note(self, place: int, progress: Progress) -> None:
        """Add what one call of a worker has done."""
        tags = {"run_id": self._run_id, "worker": str(place)}
        failed = sum(outcome.status == "failed" for outcome in progress.outcomes)
        done = {
            "unspool_tokens_read_total": progress.tokens_fed,
            "unspool_documents_done_total": len(progress.outcomes) - failed,
            "unspool_documents_failed_total": failed,
            "unspool_checkpoints_total": progress.checkpoints,
        }
        for name, count in done.items():
            if count:  # a counter takes no zero
                self._counters[name].inc(count, tags)
        self._gauges["unspool_lanes_active"].set(len(progress.lanes), tags)
        self._gauges["unspool_rss_peak_bytes"].set(progress.peak_memory_bytes, tags)


def cause_of(error: Exception) -> str:
    """Why an actor is gone. The types tell the cases apart; the text of any crash speaks of memory and nodes."""
    from ray import exceptions

    if isinstance(error, exceptions.OutOfMemoryError):
        return "memory"
    if isinstance(error, exceptions.NodeDiedError) or any(words in str(error) for words in _NODE_IS_GONE):
        return "node"
    if isinstance(error, (exceptions.ActorDiedError, exceptions.WorkerCrashedError)):
        return "crashed"
    return "unknown"


def _in_one_line(error: Exception) -> str:
    """What Ray says, without the lines of identifiers that it indents."""
    said = (line for line in str(error).splitlines() if not line.startswith("\t"))
    return " ".join(" ".join(said).split())[:300]


def _sign_of_life() -> None:
    """Runs where it is sent, if anything runs there."""


def _version() -> str:
    try:
        return metadata.version("unspool")
    except metadata.PackageNotFoundError:
        return ""


def _places(options: RayOptions) -> int:
    """How many places a pool has. Raises PoolError if there is no node that could take even one worker."""
    import ray

    nodes: Any = ray.nodes
    needs, alive = options.needs, [node["Resources"] for node in nodes() if node["Alive"]]
    room = sum(min(int(has.get(name, 0) / need) for name, need in needs.items()) for has in alive)
    if not room:
        wanted = ", ".join(f"{need:g} {name}" for name, need in needs.items())
        there = max((has.get("CPU", 0) for has in alive), default=0)
        raise PoolError(
            f"none of the {len(alive)} node(s) has room for a worker with {wanted} (the largest has {there:g} CPU); "
            "start such a node, or ask for less under `ray`"
        )
    return options.workers or room


def _start_ray(options: RayOptions, temp: Path | None) -> None:
    """Connect to a cluster or, with a folder for its files, make a private one on this machine. Raises PoolError."""
    arguments: dict[str, Any] = {"address": options.address}
    if temp is not None:
        _prepare_environment()
        arguments |= {
            "num_cpus": (options.workers or 1) * options.threads,
            "num_gpus": 0,
            "object_store_memory": _OBJECT_STORE_BYTES,
            "include_dashboard": False,
            "_temp_dir": str(temp / "r"),  # within ours: Ray opens its own to everybody
        }
    logging.getLogger("ray").addHandler(logging.NullHandler())  # or Python prints its warnings on stderr
    try:
        import ray

        with _bare_head() if temp is not None else contextlib.nullcontext():
            ray.init(log_to_driver=False, configure_logging=False, **arguments)
        _silence()
    except Exception as error:
        message = f"Ray could not be started: {_in_one_line(error)}; `-j 0` reads in this process, without Ray"
        raise PoolError(message) from error


def _prepare_environment() -> None:
    """Set what a private cluster is to find, before Ray is imported. Raises PoolError if it has been."""
    if "ray" in sys.modules and not _LOCAL_ENVIRONMENT.items() <= os.environ.items():
        raise PoolError(
            "this process has used Ray for something else, so that a private cluster would listen on every interface; "
            "run the job in a process of its own"
        )
    os.environ.update({**_LOCAL_ENVIRONMENT, **PATIENT_THREADS})
    # Once a process: Ray keeps the first that it has seen. Given here, it need not lie in the home folder.
    os.environ.setdefault(_TOKEN_VARIABLE, secrets.token_hex(32))


@contextlib.contextmanager
def _bare_head() -> Iterator[None]:
    """Start a cluster without what a private one has no use for; Ray has no option for that.

    Two processors that are busy start a cluster a third sooner so, and stop it in a third of the time.
    """
    from ray._private.node import Node

    usual = {name: getattr(Node, name) for name in _NOBODY_ASKS if hasattr(Node, name)}
    for name in usual:
        setattr(Node, name, lambda *_, **__: None)
    try:
        yield
    finally:
        for name, start in usual.items():
            setattr(Node, name, start)


def _silence() -> None:
    """Keep what Ray says of lost actors from our stdout, which carries data; it has no option for that."""
    from ray._private import worker

    worker.print_to_stdstream = lambda *_, **__: None


def _private_folder() -> Path:
    """A folder (0700) for the files of a private cluster; those that killed runs have left are removed."""
    usual = tempfile.gettempdir()
    parent = usual if len(os.fsencode(usual)) <= _LONGEST_PARENT else "/tmp"
    for folder in Path(parent).glob(f"{_TEMP_PREFIX}*"):
        pid = folder.name.removeprefix(_TEMP_PREFIX).split("-")[0]
        if pid.isdigit() and not _is_alive(int(pid)):
            shutil.rmtree(folder, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"{_TEMP_PREFIX}{os.getpid()}-", dir=parent))


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
