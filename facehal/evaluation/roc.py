"""ROC curves as a PNG, over a logarithmic axis of false positives."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from facehal.images import write_png

WIDTH, HEIGHT = 900, 620
LEFT, RIGHT, TOP, BOTTOM = 70, 20, 20, 60
LOWEST = 1e-4  # FPR at the left edge
# Okabe and Ito's colours, which stay apart for the colour-blind.
COLOURS = ((0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (86, 180, 233))
FONT = cv2.FONT_HERSHEY_SIMPLEX


def write_roc(path: Path, curves: Mapping[str, tuple[np.ndarray, Sequence[np.ndarray]]]) -> None:
    """Draws the curves of several networks: for each training a thin line, their mean a thick one.

    Args:
        path: of the PNG.
        curves: name → FPRs, rising, and for each training the TPRs at them.
    """
    picture = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    _axes(picture)
    for number, (name, (fprs, trainings)) in enumerate(curves.items()):
        colour = COLOURS[number % len(COLOURS)]
        for tprs in trainings:
            _line(picture, fprs, tprs, colour, 1)
        _line(picture, fprs, np.mean(trainings, axis=0), colour, 3)
        top = HEIGHT - BOTTOM - 20 - 24 * (len(curves) - 1 - number)
        cv2.line(picture, (WIDTH - 380, top), (WIDTH - 350, top), colour, 3, cv2.LINE_AA)
        _text(picture, name, (WIDTH - 340, top + 5))
    write_png(path, picture)


def _axes(picture: np.ndarray) -> None:
    for exponent in range(int(np.log10(LOWEST)), 1):
        x, _ = _place(10.0**exponent, 0)
        cv2.line(picture, (x, TOP), (x, HEIGHT - BOTTOM), (225, 225, 225), 1)
        _text(picture, f"{10.0**exponent:g}", (x - 22, HEIGHT - BOTTOM + 22))
    for tenths in range(0, 11, 2):
        _, y = _place(1.0, tenths / 10)
        cv2.line(picture, (LEFT, y), (WIDTH - RIGHT, y), (225, 225, 225), 1)
        _text(picture, f"{tenths / 10:g}", (LEFT - 40, y + 5))
    _text(picture, "false positive rate", (WIDTH // 2 - 70, HEIGHT - 12))
    _text(picture, "true positive rate", (LEFT + 8, TOP + 18))


def _place(fpr: float, tpr: float) -> tuple[int, int]:
    across = 1 - np.log10(max(fpr, LOWEST)) / np.log10(LOWEST)
    x = LEFT + across * (WIDTH - LEFT - RIGHT)
    y = HEIGHT - BOTTOM - tpr * (HEIGHT - TOP - BOTTOM)
    return round(float(x)), round(float(y))


def _line(
    picture: np.ndarray,
    fprs: np.ndarray,
    tprs: np.ndarray,
    colour: tuple[int, int, int],
    width: int,
) -> None:
    points = [_place(a, b) for a, b in zip(fprs, tprs, strict=True) if a >= LOWEST]
    cv2.polylines(picture, [np.array(points, np.int32)], False, colour, width, cv2.LINE_AA)


def _text(picture: np.ndarray, text: str, place: tuple[int, int]) -> None:
    cv2.putText(picture, text, place, FONT, 0.5, (40, 40, 40), 1, cv2.LINE_AA)
