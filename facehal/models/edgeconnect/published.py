"""The authors' trained generators, made a model of this package.

knazeri/edge-connect links ``EdgeModel_gen.pth`` and ``InpaintingModel_gen.pth`` for CelebA, Places2
and Paris StreetView (CC BY-NC 4.0), on a cloud drive; the package does not ship or fetch them.
"""

from pathlib import Path

from facehal.errors import WeightsError
from facehal.models.edgeconnect.model import EdgeConnect
from facehal.models.edgeconnect.networks import Generator
from facehal.weights.arrays import Arrays
from facehal.weights.converters import edgeconnect as published


def convert(
    edges: str | Path,
    pictures: str | Path,
    resolution: int = 256,
    sigma: float = 2.0,
    merged: bool = False,
) -> EdgeConnect:
    """The published generators as a model.

    Args:
        edges: ``EdgeModel_gen.pth``.
        pictures: ``InpaintingModel_gen.pth``.
        resolution: of the model; the networks are convolutional and fit any, 256 is the one that
            they were trained at.
        sigma: of Canny's blur; 2 is the authors', for 256 pixels.
        merged: see :class:`facehal.models.edgeconnect.model.EdgeConnect`.

    Raises:
        WeightsError: not such files, or two that do not belong together.
    """
    edges, pictures = Path(edges), Path(pictures)
    first, *shape = published.convert(edges, inputs=3, outputs=1, spectral=True)
    second, *other = published.convert(pictures, inputs=4, outputs=3, spectral=False)
    if shape != other:
        raise WeightsError(
            f"{pictures}: width and blocks are {other} where {edges} has {shape}; take both files "
            "from one folder"
        )
    width, blocks = shape
    model = EdgeConnect(resolution, width, blocks, sigma, merged, name="edgeconnect")
    _fill(model.edges, first)
    _fill(model.pictures, second)
    return model


def _fill(network: Generator, arrays: Arrays) -> None:
    """``LAYER.PART`` into the variables of these names."""
    for name, array in arrays.items():
        layer, part = name.split(".")
        getattr(network.get_layer(layer), part).assign(array)
