"""A trained Keras model made ready to hallucinate: folded, compiled, NumPy in and out."""

import keras
import numpy as np

from facehal.models.base import PictureModel


class KerasEngine:
    """Runs a saved model on the backend that Keras has.

    Batch normalisation is folded into the convolutions: pictures within 1e-6 of the model's, at
    two thirds of the time for a single one.

    Args:
        model: a trained model of ours, as ``keras.models.load_model`` returns it. It stays as it
            is and is found under ``model``.
    """

    def __init__(self, model: PictureModel):
        self.model = model
        self.resolutions: tuple[int, ...] = tuple(model.resolutions)
        self._folded = model.folded()

    def run(self, masked_faces: np.ndarray, masks: np.ndarray) -> dict[int, np.ndarray]:
        """One batch, whole.

        Args:
            masked_faces: (n, S, S, 3) float32 in [0, 1], black outside the face; n >= 1.
            masks: (n, S, S, 1) float32, 1 = face.

        Returns:
            ``{resolution: (n, resolution, resolution, 3)}`` float32, lowest first.
        """
        count = len(masked_faces)
        if keras.backend.backend() == "jax":
            # JAX compiles anew for every batch size, which takes seconds: powers of two are few.
            fill = (1 << (count - 1).bit_length()) - count
            masked_faces, masks = (
                np.concatenate([array, np.zeros((fill, *array.shape[1:]), array.dtype)])
                for array in (masked_faces, masks)
            )
        # `predict` would build an iterator for every call: 40 ms.
        outputs = self._folded.predict_on_batch({"masked_faces": masked_faces, "masks": masks})
        # In our order: JAX returns dictionaries sorted by their keys as text.
        return {size: np.asarray(outputs[str(size)])[:count] for size in self.resolutions}
