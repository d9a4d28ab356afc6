"""Batches of faces and masks from memory, the same ones for the same seed and step."""

import keras
import numpy as np

from facehal.errors import DataError


class Pairs:
    """A shuffled, mirrored stream of batches in which every step can be asked for by its number.

    The order of an epoch and which faces are mirrored follow from the seed and the epoch alone, so
    a resumed run sees what an uninterrupted one would have seen. A last partial batch is dropped
    (it would cost a second compilation); its faces come up in the other epochs.

    Args:
        faces: (n, S, S, 3) uint8 RGB.
        masks: (n, S, S) uint8, 1 = face.
        batch_size: faces a step; all of them where there are fewer.
        mirror: flip a random half of every batch left to right (section 4, "Image mirroring").
        seed: of order and mirroring.

    Raises:
        DataError: no faces, or arrays that do not belong together.
    """

    def __init__(self, faces, masks, batch_size: int, *, mirror: bool = True, seed: int = 0):
        if len(faces) == 0 or faces.shape[:3] != masks.shape:
            raise DataError(
                f"{len(faces)} faces of shape {faces.shape[1:]} with masks of shape {masks.shape}: "
                "nothing to train on; run preprocess first"
            )
        self.faces, self.masks = faces, masks
        self.batch_size = min(batch_size, len(faces))
        self.mirror, self.seed = mirror, seed
        self._epoch: int | None = None

    @property
    def steps_per_epoch(self) -> int:
        """Full batches in one pass over the faces."""
        return len(self.faces) // self.batch_size

    def _enter(self, epoch: int) -> None:
        if epoch == self._epoch:
            return
        rng = np.random.default_rng((self.seed, epoch))
        self._order = rng.permutation(len(self.faces))
        self._flip = rng.random(len(self.faces)) < 0.5 if self.mirror else None
        self._epoch = epoch

    def batch(self, step: int) -> dict[str, np.ndarray]:
        """Batch number ``step`` since the start of training, as uint8 arrays."""
        epoch, index = divmod(step, self.steps_per_epoch)
        self._enter(epoch)
        chosen = slice(index * self.batch_size, (index + 1) * self.batch_size)
        rows = self._order[chosen]
        faces, masks = self.faces[rows], self.masks[rows]
        if self._flip is not None:
            flip = self._flip[chosen]
            faces[flip] = faces[flip, :, ::-1]
            masks[flip] = masks[flip, :, ::-1]
        return {"faces": faces, "masks": masks}


class Stretch(keras.utils.PyDataset):
    """The batches from ``start`` to ``stop`` (not included) for ``keras.Model.fit``."""

    def __init__(self, pairs: Pairs, start: int, stop: int):
        super().__init__(workers=1, use_multiprocessing=False)
        self.pairs, self.start, self.stop = pairs, start, stop

    def __len__(self) -> int:
        return self.stop - self.start

    def __getitem__(self, index: int) -> tuple[dict[str, np.ndarray]]:
        return (self.pairs.batch(self.start + index),)

    def source(self):
        """What to hand to ``fit``: the batches themselves, or as a ``tf.data.Dataset``.

        Keras would make a dataset of its own on TensorFlow, whose tuning thread holds up the end of
        ``fit`` until it next wakes: up to a minute for every stretch.
        """
        if keras.backend.backend() != "tensorflow":
            return self
        import tensorflow as tf

        signature = {
            name: tf.TensorSpec(array.shape, array.dtype)
            for name, array in self.pairs.batch(self.start).items()
        }

        def batch(step):
            def arrays(number):
                return list(self.pairs.batch(int(number)).values())

            types = [spec.dtype for spec in signature.values()]
            tensors = tf.numpy_function(arrays, [step], types)
            named = zip(signature.items(), tensors, strict=True)
            return ({name: tf.ensure_shape(x, spec.shape) for (name, spec), x in named},)

        # Not from_generator: it sets malloc's trim threshold to 128 KB for the whole process, and
        # the memory of every step then goes back to the system and comes anew, a fifth of its time.
        dataset = tf.data.Dataset.range(self.start, self.stop).map(batch)
        options = tf.data.Options()
        options.autotune.enabled = False
        return dataset.prefetch(2).with_options(options)
