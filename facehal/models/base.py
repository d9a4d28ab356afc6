"""What all families share: the shape of a model that makes pictures, and the registry."""

import contextlib
import importlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras

from facehal import config as settings
from facehal.config import Experiment
from facehal.errors import ConfigError, FacehalError, first_line
from facehal.layers.pyramid import pyramid
from facehal.models.task import Task
from facehal.shipped import find_model

Tensor = Any


class PictureModel(keras.Model):
    """A model that makes pictures around a masked face.

    Call it with ``{"masked_faces": (n, S, S, 3), "masks": (n, S, S, 1)}`` — in [0, 1], black
    outside the face, 1 = face, S at least the largest resolution — for ``{"8": (n, 8, 8, 3), …}``
    in [0, 1], float32. Face pixels of every output are the originals'.

    A model whose :attr:`latent` is not 0 also takes ``"latent"`` (n, latent), normal numbers that
    choose among the pictures that fit a face; without it, and with zeros, it makes the single best
    one.

    A subclass sets :attr:`resolutions` and gives :meth:`hallucinate` and ``get_config``.

    Attributes:
        resolutions: of the pictures, lowest first.
        latent: length of the vector of a variant; 0 where the model knows one answer.
    """

    resolutions: tuple[int, ...]
    latent: int = 0

    def build(self, input_shape: Any = None) -> None:
        """Nothing is left to build: the constructor knows every shape."""

    def call(self, inputs: dict[str, Tensor], training: bool = False) -> dict[str, Tensor]:
        """All resolutions in one pass, lowest first."""
        faces = pyramid(inputs["masked_faces"], self.resolutions)
        masks = pyramid(inputs["masks"], self.resolutions)
        return self.hallucinate(faces, masks, training=training, latent=inputs.get("latent"))

    def hallucinate(
        self,
        faces: dict[int, Tensor],
        masks: dict[int, Tensor],
        training: bool = False,
        latent: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Like calling the model, on pyramids ``{size: pictures}`` that were made before."""
        raise NotImplementedError

    def folded(self) -> "PictureModel":
        """The same function made ready for inference, or the model itself."""
        return self

    def onnx_graph(self, metadata: dict[str, str]) -> Any:
        """The model as an ``onnx.ModelProto`` with the inputs and outputs of a call.

        None where the family does not write its own: the exporter then converts what TensorFlow
        computes, which is slower to run.

        Raises:
            FacehalError: the package onnx is not installed.
        """
        return None

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "PictureModel":
        """From ``get_config``."""
        return cls(**config)


@dataclass(frozen=True)
class Published:
    """How the files of a system's authors become a model.

    Attributes:
        files: what they are called, in the order in which :attr:`convert` takes their paths.
        convert: paths → the model; a keyword ``resolution`` where :attr:`any_size`.
        any_size: its networks fit pictures of any size.
        choices: other keywords of :attr:`convert` that a user may give, and their values.
    """

    files: tuple[str, ...]
    convert: Callable[..., PictureModel]
    any_size: bool = False
    choices: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Family:
    """One entry of the registry.

    Attributes:
        name: as in ``model:`` of an experiment file and ``facehal train NAME``.
        config: its configuration; its defaults are the published ones.
        task: configuration → what trains it.
        published: its authors' files; None where there are none.
    """

    name: str
    config: type[Experiment]
    task: Callable[[Any], Task]
    published: Published | None = None


FOLDERS = (
    "cascade",
    "deepfake",
    "deepfillv1",
    "edgeconnect",
    "genface",
    "recognition",
    "symmfcnet",
)
"""The folders of :mod:`facehal.models` that hold families: a new one is added here."""

DEFAULT = "cascaded"


def families() -> dict[str, Family]:
    """All families by name, in the order of the registry."""
    found: dict[str, Family] = {}
    for folder in FOLDERS:
        module = importlib.import_module(f"facehal.models.{folder}")
        found |= {family.name: family for family in module.FAMILIES}
    return found


def from_dict(values: dict[str, Any], source: str = "configuration") -> Any:
    """A checked configuration of the family that ``values["model"]`` names.

    Raises:
        ConfigError: an unknown family, an unknown name or an impossible value.
    """
    known = families()
    name = values.get("model", DEFAULT)
    if not isinstance(name, str) or name not in known:
        raise ConfigError(f"{source}: model is one of {', '.join(known)}, not {name!r}")
    return known[name].config.from_dict(values, source)


def load_config(path: str | Path) -> Any:
    """Reads an experiment file, or a shipped experiment by its name.

    Raises:
        ConfigError: unreadable, not YAML, an unknown name or an impossible value.
    """
    return from_dict(settings.read(path), source=str(settings.find(path).resolve()))


def read_saved(path: Path) -> keras.Model:
    """The model of a ``.keras`` file, whatever its family.

    Raises:
        FacehalError: there is none, or the file is not a saved model.
    """
    families()  # Keras finds our layers by what their modules register
    try:
        model: keras.Model = keras.models.load_model(path, compile=False)
    except Exception as error:  # Keras raises many kinds for a file that is not its own
        raise FacehalError(
            f"{path}: not a saved model ({first_line(error)}); name one that a run wrote"
        ) from error
    return model


def read_model(name: str | Path) -> PictureModel:
    """A trained model that makes pictures, by a shipped model's name or a ``.keras`` file.

    Raises:
        FacehalError: there is none, the file is not a saved model, or not one of ours.
    """
    path = find_model(name)
    model = read_saved(path)
    if not isinstance(model, PictureModel):
        raise FacehalError(f"{path}: holds a {type(model).__name__}, not a facehal model")
    return model


def take_weights(model: keras.Model, name: str | Path) -> None:
    """Gives a model the weights of a trained one of the same networks.

    Args:
        model: of any family.
        name: a shipped model's name, a ``.keras`` file, ``hf://user/name``.

    Raises:
        FacehalError: there is no such model, or its networks are others.
    """
    theirs = read_saved(find_model(name))
    if type(theirs) is not type(model):
        raise FacehalError(
            f"{name}: holds a {type(theirs).__name__}, and a {type(model).__name__} is trained"
        )
    shapes = [[tuple(v.shape) for v in one.weights] for one in (model, theirs)]
    if shapes[0] != shapes[1]:
        counts = [sum(map(math.prod, one)) for one in shapes]
        raise FacehalError(
            f"{name}: other networks than the experiment's ({counts[1]:,} weights against "
            f"{counts[0]:,}); take the experiment that it was trained with"
        )
    model.set_weights(theirs.get_weights())


def from_published(
    family: str,
    files: Sequence[str | Path],
    resolution: int | None = None,
    choices: Mapping[str, str] | None = None,
) -> PictureModel:
    """A model of the files that a system's authors have released.

    Args:
        family: its name.
        files: their paths, in the order that the message about a wrong number of them says.
        resolution: of the pictures, where the networks fit any; by default the published one.
        choices: what else the family lets one choose (:attr:`Published.choices`).

    Raises:
        FacehalError: an unknown family or one without files, too few or too many of them, one that
            cannot be read or is of another network, a size that the networks do not fit, or a
            choice that there is not.
    """
    known = {name: one.published for name, one in families().items() if one.published}
    if family not in known:
        raise FacehalError(f"no published files are known of {family}; of {', '.join(known)} are")
    published = known[family]
    if len(files) != len(published.files):
        wanted = " ".join(published.files)
        raise FacehalError(f"{family} is made of {len(published.files)} files: {wanted}")
    options: dict[str, Any] = {}
    for name, value in (choices or {}).items():
        if value not in published.choices.get(name, ()):
            pairs = ((key, one) for key, values in published.choices.items() for one in values)
            offered = ", ".join(f"{key}={one}" for key, one in pairs) or "nothing"
            raise FacehalError(f"{family} has no {name}={value} to choose; it has {offered}")
        options[name] = value
    if resolution is not None:
        if not published.any_size:
            raise FacehalError(f"{family} makes pictures of one size alone: leave --resolution out")
        options["resolution"] = resolution
    return published.convert(*files, **options)


def task_of(config: Experiment) -> Task:
    """What trains an experiment."""
    return families()[config.model].task(config)


@contextlib.contextmanager
def precision(name: str) -> Iterator[None]:
    """Builds networks in ``float32`` or ``bfloat16``; variables and outputs stay float32."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16" if name == "bfloat16" else "float32")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def detached(network: keras.Model) -> Callable[[Tensor], Tensor]:
    """``network`` as a function without gradient to its variables and without updates of its state.

    A generator's loss looks through a discriminator with it, so one backward pass over the sum
    of both losses gives exactly the gradients of two separate ones.
    """

    def call(pictures: Tensor) -> Tensor:
        frozen = [keras.ops.stop_gradient(v.value) for v in network.trainable_variables]
        state = [v.value for v in network.non_trainable_variables]
        outputs, _ = network.stateless_call(frozen, state, pictures, training=True)
        return outputs

    return call
