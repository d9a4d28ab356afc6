"""The authors' trained network: their Caffe file made a model of this package.

Yijunmaverick/GenerativeFaceCompletion links ``Model_G.caffemodel`` (CelebA), on a cloud drive; the
package does not ship or fetch it. The files of the discriminators are not public, that of the
parser is named in an experiment (``loss.parser``).
"""

from pathlib import Path

from facehal.features import set_arrays
from facehal.models.genface.model import GenFace
from facehal.weights.converters import genface as published


def convert(
    file: str | Path,
    blending: str = "paste",
    resolution: int = 128,
    base: int = 32,
    features: int = 4096,
) -> GenFace:
    """The published network as a model.

    Args:
        file: ``Model_G.caffemodel``.
        blending: ``paste``, or ``poisson`` as the last of the pictures that the authors' test
            program shows.
        resolution, base, features: of the network (smaller ones in tests); the fully connected
            layers fit the authors' 128 pixels alone.

    Raises:
        WeightsError: not such a file.
    """
    shapes = published.network_shapes(resolution, base, features)
    arrays = published.convert(Path(file), shapes)
    model = GenFace(resolution, base, features, blending, name="genface")
    set_arrays(model.network, arrays)
    return model
