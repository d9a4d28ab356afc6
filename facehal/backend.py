"""What Keras offers no common interface for, once for TensorFlow and once for JAX.

Every function says why it is here. All of it uses public interfaces of Keras and of the two
frameworks alone; CI runs it at the lowest and the newest versions.
"""

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import keras
import numpy as np

Tensor = Any
Arrays = dict[str, np.ndarray]


def name() -> str:
    """``tensorflow`` or ``jax``."""
    return str(keras.backend.backend())


def replicas() -> int:
    """Over how many devices TensorFlow splits a batch; 1 on JAX, which sees whole batches."""
    if name() != "tensorflow":
        return 1
    import tensorflow as tf

    return int(tf.distribute.get_strategy().num_replicas_in_sync)


def summed_over_replicas(tensor: Tensor) -> Tensor:
    """A tensor added up over TensorFlow's devices, each of which knows its share alone.

    Keras's optimizers do that for themselves; ours must.
    """
    if replicas() == 1:
        return tensor
    import tensorflow as tf

    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, tensor)


def has_accelerator() -> bool:
    """Whether the backend sees a GPU or a TPU."""
    if name() == "tensorflow":
        import tensorflow as tf

        return any(device.device_type != "CPU" for device in tf.config.list_physical_devices())
    import jax

    return jax.default_backend() != "cpu"


def resolve_jit(choice: bool | str) -> bool:
    """XLA for JAX and on a GPU; plain graphs for TensorFlow on a CPU, where it seldom pays."""
    if choice != "auto":
        return bool(choice)
    return name() != "tensorflow" or has_accelerator()


def value_and_gradients(
    function: Callable[[], tuple[Tensor, Any]],
    variables: Sequence[keras.Variable],
    state: Sequence[keras.Variable],
) -> tuple[Tensor, Any, list[Tensor]]:
    """A scalar, what comes with it, and the scalar's gradients: Keras has no common interface.

    To be called inside a step of :class:`Stepper`.

    Args:
        function: → (scalar, anything made of tensors).
        variables: to take the gradients of.
        state: every variable that ``function`` may read or write, those among them.
    """
    if name() == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            value, more = function()
        return value, more, tape.gradient(value, [v.value for v in variables])
    import jax

    moved = {id(v) for v in variables}
    others = [v for v in state if id(v) not in moved]
    before = [(v, v.value) for v in others]

    def objective(values: list[Tensor]) -> tuple[Tensor, Any]:
        mapping = [*before, *zip(variables, values, strict=True)]
        with keras.StatelessScope(state_mapping=mapping) as scope:
            value, more = function()
        return value, (more, [scope.get_current_value(v) for v in others])

    (value, (more, after)), gradients = jax.value_and_grad(objective, has_aux=True)(
        [v.value for v in variables]
    )
    for variable, new in zip(others, after, strict=True):
        variable.assign(new)
    return value, more, gradients


def input_gradient(function: Callable[[Tensor], Tensor], inputs: Tensor) -> Tensor:
    """The gradient of ``sum(function(inputs))`` by its inputs, itself with gradient.

    For gradient penalties (Gulrajani et al. 2017), inside a phase's loss: a gradient of a gradient.

    Args:
        function: a network; it must not update its state.
        inputs: a float tensor; the result has its shape.
    """
    if name() == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(inputs)
            total = tf.reduce_sum(function(inputs))
        return tape.gradient(total, inputs)
    import jax

    return jax.grad(lambda x: function(x).sum())(inputs)


class Parallel:
    """Accelerators that share every batch evenly: of one machine, or of several workers.

    TensorFlow: ``tf.distribute.MirroredStrategy`` and ``MultiWorkerMirroredStrategy``; JAX:
    ``keras.distribution.DataParallel``, over ``jax.distributed`` where there are several workers.
    Losses and statistics of batch normalisation are those of the whole batch.

    Args:
        devices: two names or more, as the backend calls them; None: all accelerators of all
            workers, once :func:`join_workers` has been called.

    Attributes:
        count: how many they are.
    """

    def __init__(self, devices: Sequence[str] | None):
        self._strategy: Any
        if name() == "tensorflow":
            import tensorflow as tf

            if devices is None:
                self._strategy = _workers["strategy"]
            else:
                self._strategy = tf.distribute.MirroredStrategy(list(devices))
            self.count = int(self._strategy.num_replicas_in_sync)
        else:
            names = list(devices or keras.distribution.list_devices())
            self._strategy = keras.distribution.DataParallel(devices=names)
            self.count = len(names)

    def scope(self) -> Any:
        """Build and train a model in it; other models, outside, stay on one device."""
        return self._strategy.scope()

    def run(self, function: Callable[..., None], tensors: Any) -> None:
        """TensorFlow: the function on every device, with its share."""
        self._strategy.run(function, args=(tensors,))

    def shared_out(self, batch: Arrays) -> Any:
        """A batch on the devices, each with its rows; every worker has the whole of it."""
        if name() == "tensorflow":
            import tensorflow as tf

            def share(context: Any) -> dict[str, Tensor]:
                index = context.replica_id_in_sync_group
                return {
                    key: tf.constant(x[_rows(len(x), index, self.count)])
                    for key, x in batch.items()
                }

            return self._strategy.experimental_distribute_values_from_function(share)
        import jax

        layouts = {key: self._strategy.get_data_layout(x.shape) for key, x in batch.items()}
        if jax.process_count() == 1:
            return {
                key: keras.distribution.distribute_tensor(x, layouts[key])
                for key, x in batch.items()
            }
        # Keras would send whole arrays to devices of other machines.
        return {
            key: jax.make_array_from_callback(
                x.shape,
                layouts[key].backend_layout,
                lambda index, x=x: x[index],  # type: ignore
            )
            for key, x in batch.items()
        }


_workers: dict[str, Any] = {}
"""TensorFlow's strategy of this process: it can be made once, before anything else."""


def join_workers(addresses: Sequence[str], index: int) -> None:
    """Connects this process with the others that train the same model.

    To be called before the backend has done anything else. Waits for the others.

    Args:
        addresses: ``host:port`` of every worker, the same list on all.
        index: which of them this process is.
    """
    if name() == "tensorflow":
        import tensorflow as tf

        resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
            tf.train.ClusterSpec({"worker": list(addresses)}),
            task_type="worker",
            task_id=index,
            rpc_layer="grpc",
        )
        _workers["strategy"] = tf.distribute.MultiWorkerMirroredStrategy(resolver)
        return
    import jax

    jax.distributed.initialize(addresses[0], len(addresses), index)


def is_lost_worker(error: Exception) -> bool:
    """Whether an error of a step with :func:`join_workers` says that another worker is gone."""
    if name() == "tensorflow":
        import tensorflow as tf

        gone = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError)
        return isinstance(error, (*gone, tf.errors.InternalError, tf.errors.DeadlineExceededError))
    import jax

    # Gloo, which connects processors, has no type of error of its own.
    return isinstance(error, jax.errors.JaxRuntimeError) or "Gloo" in str(error)


def _rows(length: int, index: int, count: int) -> slice:
    each = length // count
    return slice(index * each, (index + 1) * each)


class Stepper:
    """Compiles a step that reads and writes Keras variables, and runs it batch by batch.

    ``keras.Model.fit`` compiles one loss and one optimizer; a step of several phases, of which
    some come more seldom, is another function at every combination. On TensorFlow the variables
    are written in the step; on JAX their values travel from step to step and come back into the
    variables when the context is left.

    Args:
        function: (key, batch of tensors) → None; everything that it does is in the variables.
        variables: all that it reads or writes, each once.
        jit: compile with XLA (on JAX always).
        parallel: devices that share the batches.
    """

    def __init__(
        self,
        function: Callable[[Any, dict[str, Tensor]], None],
        variables: Sequence[keras.Variable],
        jit: bool,
        parallel: Parallel | None = None,
    ):
        self._function, self._variables = function, list(variables)
        self._jit, self._parallel = jit, parallel
        self._compiled: dict[Any, Callable[..., Any]] = {}
        self._state: list[Tensor] | None = None

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Steps are taken inside it; the variables hold their outcome after it."""
        if name() == "tensorflow":
            with _plain_graphs(not self._jit), quiet_tracing():
                yield
            return
        self._state = [v.value for v in self._variables]
        try:
            yield
        finally:
            state, self._state = self._state, None
            for variable, value in zip(self._variables, state, strict=True):
                if not value.is_deleted():  # as Ctrl-C in the middle of a step leaves them
                    variable.assign(value)

    def __call__(self, key: Any, batch: Arrays) -> None:
        """One step; ``key`` goes to the function, which is compiled once for each."""
        step = self._compiled.get(key)
        if step is None:
            make = self._graph if name() == "tensorflow" else self._jitted
            step = self._compiled[key] = make(key)
        tensors: Any = batch if self._parallel is None else self._parallel.shared_out(batch)
        if name() == "tensorflow":
            if self._parallel is None:
                import tensorflow as tf

                tensors = {key: tf.constant(x) for key, x in batch.items()}
            step(tensors)
        else:
            self._state = step(self._state, tensors)

    def read(self, variable: keras.Variable) -> np.ndarray:
        """The present value of one of the variables; waits for the device."""
        if self._state is None:
            return np.asarray(variable.numpy())
        index = next(i for i, one in enumerate(self._variables) if one is variable)
        return np.asarray(self._state[index])

    def _graph(self, key: Any) -> Callable[..., Any]:
        import tensorflow as tf

        inner: Callable[..., Any]
        inner = tf.function(partial(self._function, key), jit_compile=self._jit)
        if self._parallel is None:
            return inner
        parallel = self._parallel
        outer: Callable[..., Any] = tf.function(lambda tensors: parallel.run(inner, tensors))
        return outer

    def _jitted(self, key: Any) -> Callable[..., Any]:
        import jax

        def step(state: list[Tensor], batch: dict[str, Tensor]) -> list[Tensor]:
            mapping = list(zip(self._variables, state, strict=True))
            with keras.StatelessScope(state_mapping=mapping) as scope:
                self._function(key, {k: keras.ops.convert_to_tensor(x) for k, x in batch.items()})
            return [scope.get_current_value(v) for v in self._variables]

        return jax.jit(step, donate_argnums=0)


@contextlib.contextmanager
def _plain_graphs(on: bool) -> Iterator[None]:
    """Keeps TensorFlow from rewriting graphs meanwhile.

    For a whole training step that takes seven seconds of the first one and makes none faster.
    """
    if not on:
        yield
        return
    import tensorflow as tf

    before = tf.config.optimizer.get_experimental_options()
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    try:
        yield
    finally:
        off = {"disable_meta_optimizer": False}
        tf.config.optimizer.set_experimental_options({**off, **before})


@contextlib.contextmanager
def quiet_tracing() -> Iterator[None]:
    """Keeps one warning of TensorFlow out of the log meanwhile.

    It tells functions apart by their place in the source, so that the fifth stage, or the fifth
    model, looks to it like one function that is traced for the fifth time. Each has networks of
    its own and is traced once.
    """
    logger = logging.getLogger("tensorflow")
    logger.addFilter(_other_than_retracing)
    try:
        yield
    finally:
        logger.removeFilter(_other_than_retracing)


def _other_than_retracing(record: logging.LogRecord) -> bool:
    return "triggered tf.function retracing" not in record.getMessage()
