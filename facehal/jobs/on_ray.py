"""An engine for :func:`facehal.jobs.mapping.each` on a Ray cluster (extra: ``ray``).

Ray places the workers, starts a killed one again and gives it its piece once more. What is done
twice so is written twice, the same, and noted once. All machines must see the files under the same
names: on a shared folder, in a bucket, or because there is one machine.
"""

import contextlib
import itertools
import logging
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import cv2

from facehal.errors import ConfigError, DataError, FacehalError, first_line
from facehal.optional import require
from facehal.places import is_address, place
from facehal.processes import usable_cores

Piece = TypeVar("Piece")
Answer = TypeVar("Answer")

LOCAL = "local"
"""The address of a cluster that Ray starts for the job, of this machine alone."""

_AHEAD = 2  # pieces in a worker's hands: it does not wait for the next one
_RETRIES = 3  # deaths of a worker over the same piece before the job gives up
_OBJECT_STORE = 128 * 2**20  # bytes, of a local cluster: what travels is small
_PASSED_ON = ("FACEHAL_WEIGHTS", "KERAS_BACKEND", "TF_CPP_MIN_LOG_LEVEL")

_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is reported to Ray's makers
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # a warning about workers without a GPU
    # Of a worker that died once, which Ray mends, nothing is printed into the bar.
    "RAY_DEDUP_LOGS_SKIP_REGEX": r"A worker died or was killed|\b_Worker\.\w+ failed\.",
}


def import_ray() -> Any:
    """Imports Ray, which reads these settings then; those of the user's environment go first.

    Raises:
        FacehalError: it is not installed; says how to install it.
    """
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    return require("ray", "--ray")


class Ray:
    """Workers on a Ray cluster, as many on each machine as it has cores, or GPUs.

    A context: what it began is over at its end. A cluster that the caller is connected to already
    (``ray.init``) is used, whatever the address, and stays.

    Args:
        address: ``host:port`` of a running cluster; ``auto``, the one that this machine belongs to;
            or :data:`LOCAL`.
        gpus: for each worker, also a part of one; 0: they compute on CPUs.
        workers: how many; default: what the cluster has room for.

    Raises:
        FacehalError: Ray is not installed.
        DataError: no cluster answers.
        ConfigError: the cluster has not so much room.
    """

    def __init__(self, address: str = LOCAL, *, gpus: float = 0, workers: int | None = None):
        self._ray = import_ray()
        self.gpus = gpus
        self._ours = not self._ray.is_initialized()
        if self._ours:
            self._connect(address, workers)
        try:
            self._places = self._room(workers)
        except ConfigError:
            self.close()
            raise
        self.workers = len(self._places)

    def _connect(self, address: str, workers: int | None) -> None:
        options: dict[str, Any] = {}
        if address == LOCAL:
            options = {
                "num_cpus": max(usable_cores(), workers or 1),
                "include_dashboard": False,
                "object_store_memory": _OBJECT_STORE,
            }
        try:
            self._ray.init(address, log_to_driver=False, logging_level=logging.ERROR, **options)
        except (OSError, RuntimeError, ValueError) as error:  # ConnectionError is an OSError
            raise DataError(
                f"no Ray cluster answers at {address} ({first_line(error)}); `ray status` there "
                "says what is wrong; --ray alone starts one of this machine"
            ) from error

    def _room(self, workers: int | None) -> list[str]:
        """For every worker the node that it belongs on."""
        what = "GPU" if self.gpus else "CPU"
        rooms = {
            node["NodeID"]: int(node["Resources"].get(what, 0) // (self.gpus or 1))
            for node in self._ray.nodes()
            if node["Alive"]
        }
        # By turns, so that fewer workers than there is room for are on all machines.
        turns = range(max(rooms.values(), default=0))
        places = [node for turn in turns for node, room in rooms.items() if turn < room]
        if not places:
            raise ConfigError(f"this Ray cluster has no {what} for a worker")
        if workers is not None and not 1 <= workers <= len(places):
            raise ConfigError(
                f"workers: this Ray cluster has room for 1 to {len(places)}, not {workers}"
            )
        return places[:workers]

    def check(self, out: Path, *folders: Path) -> None:
        """Looks whether every machine sees the folders, and writes where this one reads.

        Of what is in a bucket, whether every machine has the packages and is let in.

        Args:
            out: where the results go; it exists.
            folders: others that are read.

        Raises:
            DataError: one does not, or the package is not installed there.
        """
        probe = self._ray.remote(_missing)
        addresses = [str(path) for path in (out, *folders) if is_address(path)]
        with contextlib.ExitStack() as marked:
            seen = [path for path in (out, *folders) if not is_address(path)]
            if not is_address(out):
                mark = marked.enter_context(
                    tempfile.NamedTemporaryFile(dir=out, prefix=".", suffix=".tmp")
                )
                seen[0] = Path(mark.name)
            paths = [os.path.abspath(path) for path in seen]
            try:
                found = self._ray.get(
                    [
                        probe.options(
                            num_cpus=0, scheduling_strategy=self._affinity(node, soft=False)
                        ).remote(paths, addresses)
                        for node in sorted(set(self._places))
                    ]
                )
            except self._ray.exceptions.RayError as error:
                raise DataError(f"a machine of the Ray cluster: {first_line(error)}") from error
        for host, missing, trouble in found:
            if trouble:
                raise DataError(f"the machine {host} of the Ray cluster: {trouble}")
            if missing:
                is_mark = not is_address(out) and missing[0] == paths[0]
                where = os.path.abspath(out) if is_mark else missing[0]
                raise DataError(
                    f"{where}: the machine {host} of the Ray cluster does not see this folder; all "
                    "of them need it under one name"
                )

    def check_engine(self, engine: str) -> None:
        """ConfigError where the workers' GPUs would be idle."""
        if self.gpus and engine == "onnxruntime":
            raise ConfigError("engine onnxruntime computes on CPUs: leave out --ray-gpus")

    def _affinity(self, node: str, *, soft: bool) -> Any:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        return NodeAffinitySchedulingStrategy(node, soft=soft)

    def run(self, work: Callable[[Piece], Answer], pieces: Iterable[Piece]) -> Iterator[Answer]:
        """As :meth:`facehal.jobs.mapping.Engine.run`.

        Raises:
            DataError: a worker died again and again over the same piece, or the cluster is gone.
        """
        from ray.util import ActorPool

        errors = self._ray.exceptions
        # Goes to each machine once; in a list, as a reference, so that a worker takes it once, too.
        shared = [self._ray.put(work)]
        actors = [self._actor(node).remote(os.getcwd()) for node in self._places]
        pool = ActorPool(actors * _AHEAD)
        queue = iter(pieces)

        def submit(count: int) -> None:
            for piece in itertools.islice(queue, count):
                pool.submit(lambda actor, one: actor.do.remote(shared, one), piece)

        try:
            submit(len(actors) * _AHEAD)
            while pool.has_next():
                answer = pool.get_next_unordered()
                submit(1)
                yield answer
        except errors.RayTaskError:  # the work's own, which it is, too
            raise
        except errors.RayError as error:
            raise DataError(
                f"the Ray cluster lost a worker for good ({first_line(error)}): run again, it goes "
                "on; if memory ran out, with fewer workers"
            ) from error
        finally:
            while pool.has_next():  # what was begun is waited for
                with contextlib.suppress(errors.RayError):
                    pool.get_next_unordered()
            for actor in actors:
                self._ray.kill(actor)

    def _actor(self, node: str) -> Any:
        settings = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        # Where nothing is asked for, Ray places a worker where there is a core, which it does not
        # hold: where a machine is lost, its workers find room on the others. GPUs are held.
        resources: dict[str, float] = {}
        if self.gpus:
            resources = {"num_gpus": self.gpus, "num_cpus": 0}
            settings |= {  # several may share one
                "TF_FORCE_GPU_ALLOW_GROWTH": "true",
                "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
            }
        else:  # the workers are as many as the cores
            settings |= {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}
        return self._ray.remote(_Worker).options(
            max_restarts=-1,
            max_task_retries=_RETRIES,
            scheduling_strategy=self._affinity(node, soft=True),
            runtime_env={"env_vars": settings},
            **resources,
        )

    def close(self) -> None:
        """Leaves the cluster; one that was started for the job ends."""
        if self._ours:
            self._ray.shutdown()

    def __enter__(self) -> "Ray":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Worker:
    """A process of the cluster: what the work needs, such as a model, is loaded once in each."""

    def __init__(self, folder: str) -> None:
        # For names that are relative to it; whether the machine sees the files was looked before.
        with contextlib.suppress(OSError):
            os.chdir(folder)
        cv2.setNumThreads(1)
        self._work: Callable[[Any], Any] | None = None

    def do(self, work: list[Any], piece: Any) -> Any:
        if self._work is None:
            import ray

            self._work = ray.get(work[0])
        return self._work(piece)


def _missing(paths: Sequence[str], addresses: Sequence[str]) -> tuple[str, list[str], str]:
    """The machine's name, which of the paths it does not see, and what keeps it from a bucket."""
    import socket

    trouble = ""
    try:
        for address in addresses:
            place(address).exists()
    except FacehalError as error:
        trouble = str(error)
    return socket.gethostname(), [path for path in paths if not os.path.exists(path)], trouble
