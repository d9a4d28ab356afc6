"""What a folder of prepared faces looks like: the manifest's columns, the size of a face."""

Row = dict[str, str]
"""A row of the manifest as text: column → value."""

SIZE = 128
"""Side of an aligned face in pixels, unless `preprocess` is told otherwise."""

PHOTO_POINTS = [f"p{axis}{i}" for i in range(68) for axis in "xy"]
"""Columns of the 68 landmarks in the photo: px0, py0 … px67, py67."""
FACE_POINTS = [f"a{axis}{i}" for i in range(68) for axis in "xy"]
"""Columns of the 68 landmarks in the aligned face: ax0, ay0 … ax67, ay67."""
TEXT_COLUMNS = ["file", "face", "subject", "status", "reason", "source_sha256"]
COLUMNS = [
    *["file", "face", "subject", "status", "reason", "faces_found", "width", "height"],
    *["left", "top", "right", "bottom", "source_sha256", *PHOTO_POINTS, *FACE_POINTS],
]
"""The manifest's columns. `file` is relative to the photos' folder, `face` to the output folder
and empty where the photo failed; `status` is ok or failed, `reason` says why; width and height
are the photo's, left … bottom the box of the face that was taken."""
