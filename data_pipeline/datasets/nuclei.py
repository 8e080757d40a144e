"""Drawing nuclei of two kinds in the colours of an H&E stain, with exact labels and classes.

Lymphocytes are small, round and dark, often in clusters. Epithelial nuclei are larger, elliptic and pale, with a darker
rim. Sizes and darknesses overlap, and each patient's stain is of another strength. So no threshold of one stain or one
size tells all of them apart.
"""

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from searcher.data_pipeline.datasets.tissue import Map, Patient, draw_stroma, expose, noise

__all__ = ["NUCLEI", "DrawnNuclei", "draw_nuclei"]

NUCLEI = ("epithelial", "lymphocyte")
"""Classes of the nuclei, class 1 first."""
_EPITHELIAL, _LYMPHOCYTE = 1, 2
_AREA_OF_ONE_PX = 620
"""Pixels of the image for each nucleus that is tried to be placed."""
_LEAST_SEEN = 0.5
"""A nucleus that the image's border leaves less of is not drawn."""


class DrawnNuclei(NamedTuple):
    """A drawn image and its truth."""

    image: NDArray[np.uint8]
    """uint8[H, W, 3], RGB."""
    labels: NDArray[np.int32]
    """int32[H, W], 0 is background, nuclei are 1 to n. Each is one piece; touching ones share no pixel."""
    classes: NDArray[np.int32]
    """int32[n + 1], the class of each label, 0 for background."""


@dataclass(frozen=True)
class _Nucleus:
    """One nucleus before it is placed in an image."""

    kind: int
    y: float
    x: float
    axes: tuple[float, float]
    """Half of its length and of its width, in pixels."""
    angle: float
    darkness: float
    """Amount of hematoxylin."""


def draw_nuclei(height: int, width: int, patient: Patient, rng: np.random.Generator) -> DrawnNuclei:
    """Return a random synthetic image of nuclei, their label map and their classes.

    Args:
        height: Height of the image, in pixels.
        width: Width of the image, in pixels.
        patient: The patient, who determines the stain; with `malignant` epithelial nuclei are larger and lymphocytes
            fewer.
        rng: The source of all random numbers.
    """
    hematoxylin, eosin = draw_stroma(height, width, float(rng.uniform(0, np.pi)), rng)
    hematoxylin *= np.float32(0.6)
    labels = np.zeros((height, width), np.int32)
    classes = [0]
    for nucleus in _placed(height, width, patient, rng):
        window, distance = _distance(nucleus, height, width)
        mask = distance <= 1
        if mask.sum() < _LEAST_SEEN * np.pi * nucleus.axes[0] * nucleus.axes[1] or labels[window][mask].any():
            continue
        classes.append(nucleus.kind)
        labels[window][mask] = len(classes) - 1
        hematoxylin[window][mask] += nucleus.darkness * _chromatin(nucleus.kind, distance, rng)[mask]
        eosin[window][mask] *= np.float32(0.5)
    image = expose(hematoxylin, eosin, patient, rng)
    return DrawnNuclei(image, labels, np.array(classes, np.int32))


def _placed(height: int, width: int, patient: Patient, rng: np.random.Generator) -> list[_Nucleus]:
    """Return nuclei all over the image, in the order in which they take their pixels."""
    num = max(4, int(height * width / _AREA_OF_ONE_PX * (1.3 - 0.4 * patient.crowding)))
    share = rng.uniform(0.1, 0.3) if patient.malignant else rng.uniform(0.2, 0.5)
    nuclei = []
    for _ in range(num):
        y, x = rng.uniform(0, height), rng.uniform(0, width)
        if rng.random() >= share:
            nuclei.append(_epithelial(y, x, patient, rng))
        elif rng.random() < 0.3:  # a cluster
            around = rng.normal((y, x), 9.0, size=(int(rng.integers(2, 6)), 2))
            nuclei += [_lymphocyte(float(row), float(column), rng) for row, column in around]
        else:
            nuclei.append(_lymphocyte(y, x, rng))
    return nuclei


def _epithelial(y: float, x: float, patient: Patient, rng: np.random.Generator) -> _Nucleus:
    length = float(np.clip(rng.normal(7.6 if patient.malignant else 6.6, 1.1), 4.4, 11.0))
    axes = (length, length * float(rng.uniform(0.6, 0.85)))
    return _Nucleus(_EPITHELIAL, y, x, axes, float(rng.uniform(0, np.pi)), float(rng.normal(0.5, 0.12)))


def _lymphocyte(y: float, x: float, rng: np.random.Generator) -> _Nucleus:
    radius = float(np.clip(rng.normal(4.2, 0.6), 3.0, 6.0))
    axes = (radius, radius * float(rng.uniform(0.85, 1.0)))
    return _Nucleus(_LYMPHOCYTE, y, x, axes, float(rng.uniform(0, np.pi)), float(rng.normal(0.85, 0.14)))


def _distance(nucleus: _Nucleus, height: int, width: int) -> tuple[tuple[slice, slice], Map]:
    """Return a window around a nucleus and the distance from its centre there, 1 on its outline."""
    reach = int(max(nucleus.axes)) + 2
    top, left = max(0, int(nucleus.y) - reach), max(0, int(nucleus.x) - reach)
    bottom, right = min(height, int(nucleus.y) + reach + 1), min(width, int(nucleus.x) + reach + 1)
    dy = np.arange(top, max(top, bottom), dtype=np.float32)[:, None] - np.float32(nucleus.y)
    dx = np.arange(left, max(left, right), dtype=np.float32)[None, :] - np.float32(nucleus.x)
    sine, cosine = np.float32(np.sin(nucleus.angle)), np.float32(np.cos(nucleus.angle))
    along = (dx * cosine + dy * sine) / np.float32(nucleus.axes[0])
    across = (dy * cosine - dx * sine) / np.float32(nucleus.axes[1])
    window = (slice(top, max(top, bottom)), slice(left, max(left, right)))
    return window, np.sqrt(along**2 + across**2)


def _chromatin(kind: int, distance: Map, rng: np.random.Generator) -> Map:
    """Return the dye inside a nucleus, 1 on average: clumped in lymphocytes, pale with a rim in epithelial nuclei."""
    height, width = distance.shape
    grains = noise(height, width, 2.0, rng) - np.float32(0.5)
    if kind == _LYMPHOCYTE:
        return np.float32(1) + np.float32(0.5) * grains
    rim = np.clip((distance - np.float32(0.7)) * 3, 0, 1)
    dye: Map = (
        np.float32(0.85) + np.float32(0.4) * rim + np.float32(0.7) * cv2.GaussianBlur(grains, (0, 0), 0.5)
    )
    return dye
