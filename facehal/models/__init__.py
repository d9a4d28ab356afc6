"""The families of models, a folder each.

Importing this package registers their classes with Keras, as with any Keras package:
``import facehal.models`` before ``keras.models.load_model``.
"""

from facehal.models.base import (
    Family,
    PictureModel,
    families,
    from_dict,
    load_config,
    task_of,
)
from facehal.models.task import (
    Chart,
    ChartLine,
    Page,
    Phase,
    PictureMeasures,
    Stage,
    System,
    Task,
    Update,
)

families()

__all__ = [
    "Chart",
    "ChartLine",
    "Family",
    "Page",
    "Phase",
    "PictureMeasures",
    "PictureModel",
    "Stage",
    "System",
    "Task",
    "Update",
    "families",
    "from_dict",
    "load_config",
    "task_of",
]
