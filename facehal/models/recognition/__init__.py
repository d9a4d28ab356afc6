"""The recognition network of section 4.4: does hallucinated context make it better?"""

from pathlib import Path

from facehal.errors import FacehalError
from facehal.models.base import Family, read_saved
from facehal.models.recognition.config import RecognitionConfig
from facehal.models.recognition.model import Recogniser
from facehal.models.recognition.task import RecognitionTask

FAMILIES = (Family("recognition", RecognitionConfig, RecognitionTask),)


def read_recogniser(path: str | Path) -> Recogniser:
    """A trained recognition network.

    Raises:
        FacehalError: no such file, not a saved model, or not one of these.
    """
    model = read_saved(Path(path))
    if not isinstance(model, Recogniser):
        raise FacehalError(f"{path}: holds a {type(model).__name__}, not a recognition network")
    return model


__all__ = ["FAMILIES", "Recogniser", "RecognitionConfig", "read_recogniser"]
