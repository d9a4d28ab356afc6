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
        self.latent: int = model.latent
        self._folded = model.folded()

    def run(
        self, masked_faces: np.ndarray, masks: np.ndarray, latents: np.ndarray | None = None
    ) -> dict[int, np.ndarray]:
        """One batch, whole.

        Args:
            masked_faces: (n, S, S, 3) float32 in [0, 1], black outside the face; n >= 1.
            masks: (n, S, S, 1) float32, 1 = face.
            latents: (n, latent) float32, which variants; by default the single best pictures.

        Returns:
            ``{resolution: (n, resolution, resolution, 3)}`` float32, lowest first.
        """
        count = len(masked_faces)
        inputs = {"masked_faces": masked_faces, "masks": masks}
        if self.latent:
            if latents is None:
                latents = np.zeros((count, self.latent), np.float32)
            inputs["latent"] = latents
        if keras.backend.backend() == "jax":
            # JAX compiles anew for every batch size, which takes seconds: powers of two are few.
            fill = (1 << (count - 1).bit_length()) - count
            inputs = {
                name: np.concatenate([array, np.zeros((fill, *array.shape[1:]), array.dtype)])
                for name, array in inputs.items()
            }
        # `predict` would build an iterator for every call: 40 ms.
        outputs = self._folded.predict_on_batch(inputs)
        # In our order: JAX returns dictionaries sorted by their keys as text.
        return {size: np.asarray(outputs[str(size)])[:count] for size in self.resolutions}
