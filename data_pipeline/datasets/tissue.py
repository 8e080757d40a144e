"""Drawing tissue with glands in the colours of an H&E stain, and exact labels of the glands.

A picture is light that two dyes let through (Ruifrok & Johnston 2001): hematoxylin, blue, in the nuclei, and
eosin, pink, in fibres and cytoplasm. So the drawing is of the two dyes' amounts, and colours come last.

Colour alone does not tell a gland: stroma has nuclei, clefts as white as a lumen and pink as dense as
cytoplasm. What tells it is structure: a ring of cells, nuclei at its outer border, around a lumen.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["Patient", "draw_patient", "draw_stroma", "draw_tissue", "expose", "noise"]

Map = NDArray[np.float32]

_SUBPIXEL_BITS = 4
_MIN_GLAND_AREA_PX = 60
_SPECTRA = np.array([[0.66, 0.70, 0.27], [0.12, 0.95, 0.30]], dtype=np.float32)
"""Optical density per channel (R, G, B) of hematoxylin and eosin, near Ruifrok & Johnston's."""


@dataclass(frozen=True)
class Patient:
    """The properties that all synthetic images of one patient share: shape of glands, staining, colours."""

    malignant: bool
    gland_radius_px: float
    """Typical radius of a gland."""
    roughness: float
    """How far a gland's outline leaves an ellipse, relative to the radius."""
    crowding: float
    """How densely glands lie, 1 being the most."""
    epithelium_px: float
    """Typical thickness of a gland's ring of cells."""
    stain: tuple[float, float]
    """Strength of hematoxylin and eosin."""
    spectra: NDArray[np.float32]
    """float32[2, 3]: colours of the two dyes, as optical densities of R, G, B."""


def draw_patient(rng: np.random.Generator, *, malignant: bool) -> Patient:
    """Return a random patient. Malignant glands are irregular and crowded, and their epithelium is uneven."""
    return Patient(
        malignant=malignant,
        gland_radius_px=float(rng.uniform(17, 27)),
        roughness=float(rng.uniform(0.10, 0.18) if malignant else rng.uniform(0.02, 0.06)),
        crowding=float(rng.uniform(0.85, 1.0) if malignant else rng.uniform(0.45, 0.75)),
        epithelium_px=float(rng.uniform(10, 14)),
        stain=(float(rng.uniform(0.75, 1.25)), float(rng.uniform(0.65, 1.35))),
        spectra=(_SPECTRA * rng.uniform(0.9, 1.1, size=_SPECTRA.shape)).astype(np.float32),
    )


def draw_tissue(
    height: int, width: int, patient: Patient, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """Return a random synthetic image of a patient, and its label map.

    Args:
        height: Height of the image, in pixels.
        width: Width of the image, in pixels.
        patient: The patient, who determines glands and stain.
        rng: The source of all random numbers.

    Returns:
        The image, uint8[height, width, 3], RGB, and its label map, int32[height, width]: 0 for stroma, 1..n for n
        glands. Each gland is one piece. Touching glands share no pixel and have different labels.
    """
    labels = _draw_labels(height, width, patient, rng)
    depth = _depth(labels)
    fibre_angle = float(rng.uniform(0, np.pi))
    hematoxylin, eosin = draw_stroma(height, width, fibre_angle, rng)
    _draw_glands(labels, depth, patient, hematoxylin, eosin, rng)
    nuclei = np.zeros((height, width), dtype=np.uint8)
    _draw_stroma_nuclei(nuclei, fibre_angle, rng)
    nuclei[labels > 0] = 0
    _draw_gland_nuclei(nuclei, labels, depth, patient, rng)
    chromatin = 0.8 + 0.4 * noise(height, width, 2.5, rng)
    hematoxylin += cv2.GaussianBlur(nuclei, (0, 0), 0.6).astype(np.float32) * np.float32(1 / 255) * chromatin
    return expose(hematoxylin, eosin, patient, rng), labels


def noise(height: int, width: int, scale_px: float, rng: np.random.Generator, stretch: float = 1.0) -> Map:
    """Return smooth random noise, float32[height, width], roughly from 0 to 1 with mean 0.5.

    Args:
        height: Height of the image, in pixels.
        width: Width of the image, in pixels.
        scale_px: Distance between the random values that are interpolated, in pixels.
        rng: The source of all random numbers.
        stretch: Ratio of width to height of the noise's grains.
    """
    rows, columns = int(height / scale_px) + 3, int(width / (scale_px * stretch)) + 3
    coarse = rng.random((rows, columns), dtype=np.float32)
    smooth: Map = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return smooth


def _draw_labels(height: int, width: int, patient: Patient, rng: np.random.Generator) -> NDArray[np.int32]:
    """Place glands one by one; where two meet, each pixel goes to the one it lies deeper in."""
    labels = np.zeros((height, width), dtype=np.int32)
    nearest = np.ones((height, width), dtype=np.float32)
    placed: list[tuple[float, float, float]] = []
    mean_area = 4 * patient.gland_radius_px**2
    for _ in range(int(12 * patient.crowding * height * width / mean_area)):
        radius = patient.gland_radius_px * float(np.exp(rng.normal(0, 0.28)))
        y, x = (
            rng.uniform(-0.3 * radius, height + 0.3 * radius),
            rng.uniform(-0.3 * radius, width + 0.3 * radius),
        )
        # Glands may press into each other by a tenth of their radii; most keep some stroma between them.
        gap = 0.9 if rng.random() < patient.crowding else 1.35
        if all((y - v) ** 2 + (x - u) ** 2 > (gap * (radius + r)) ** 2 for v, u, r in placed):
            placed.append((y, x, radius))
            _add_gland(len(placed), y, x, radius, patient.roughness, labels, nearest, rng)
    return _whole_glands(labels, len(placed))


def _add_gland(
    label: int,
    y: float,
    x: float,
    radius: float,
    roughness: float,
    labels: NDArray[np.int32],
    nearest: Map,
    rng: np.random.Generator,
) -> None:
    """Draw a gland's outline, an ellipse with waves, into the label map."""
    reach = int(radius * 1.9) + 2
    top, left = max(0, int(y) - reach), max(0, int(x) - reach)
    window = (slice(top, max(0, int(y) + reach)), slice(left, max(0, int(x) + reach)))
    height, width = labels[window].shape
    if not height or not width:
        return
    dy = np.arange(top, top + height, dtype=np.float32)[:, None] - np.float32(y)
    dx = np.arange(left, left + width, dtype=np.float32)[None, :] - np.float32(x)
    distance, angle = cv2.cartToPolar(
        np.broadcast_to(dx, (height, width)).copy(), np.broadcast_to(dy, (height, width)).copy()
    )
    outline = 1 + rng.uniform(0.05, 0.25) * np.cos(2 * angle + rng.uniform(0, 2 * np.pi))
    for waves in range(3, 8):
        outline += rng.normal(0, roughness * 2 / waves) * np.cos(waves * angle + rng.uniform(0, 2 * np.pi))
    relative = distance / (np.float32(radius) * np.clip(outline, 0.45, 1.8))
    inside = relative < nearest[window]
    labels[window][inside] = label
    nearest[window][inside] = relative[inside]


def _whole_glands(labels: NDArray[np.int32], num: int) -> NDArray[np.int32]:
    """Keep each gland's largest piece, drop specks, and number what is left from 1 without gaps."""
    kept = np.zeros_like(labels)
    count = 0
    for label in range(1, num + 1):
        mask = (labels == label).astype(np.uint8)
        x, y, width, height = cv2.boundingRect(mask)
        if width == 0:
            continue
        cut = mask[y : y + height, x : x + width]
        _, pieces, stats, _ = cv2.connectedComponentsWithStats(cut, connectivity=4)
        largest = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
        if stats[largest, cv2.CC_STAT_AREA] >= _MIN_GLAND_AREA_PX:
            count += 1
            kept[y : y + height, x : x + width][pieces == largest] = count
    return kept


def _depth(labels: NDArray[np.int32]) -> Map:
    """Return how deep a pixel lies in its gland, in px: float32[H, W], 0 outside and on the outline."""
    inside = labels > 0
    inside[:-1] &= labels[:-1] == labels[1:]
    inside[1:] &= labels[1:] == labels[:-1]
    inside[:, :-1] &= labels[:, :-1] == labels[:, 1:]
    inside[:, 1:] &= labels[:, 1:] == labels[:, :-1]
    depth: Map = cv2.distanceTransform(inside.astype(np.uint8), cv2.DIST_L2, 3)
    return depth


def draw_stroma(height: int, width: int, angle: float, rng: np.random.Generator) -> tuple[Map, Map]:
    """Return the amounts of hematoxylin and eosin in random connective tissue, float32[height, width] each.

    It has wavy fibres that take up eosin, and white clefts between them.

    Args:
        height: Height of the image, in pixels.
        width: Width of the image, in pixels.
        angle: Direction of the fibres, in radians.
        rng: The source of all random numbers.

    Returns:
        Hematoxylin and eosin.
    """
    diagonal = int(np.hypot(height, width)) + 2
    fibres = noise(diagonal, diagonal, 3.5, rng, stretch=9) + 0.7 * noise(
        diagonal, diagonal, 9, rng, stretch=6
    )
    centre = (diagonal / 2, diagonal / 2)
    turn = cv2.getRotationMatrix2D(centre, float(np.rad2deg(angle)), 1.0)
    turn[:, 2] += (width - diagonal) / 2, (height - diagonal) / 2
    rotated = cv2.warpAffine(
        fibres, turn, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )
    bend_x, bend_y = (10 * (noise(height, width, 28, rng) - 0.5) for _ in range(2))
    x = bend_x + np.arange(width, dtype=np.float32)[None, :]
    y = bend_y + np.arange(height, dtype=np.float32)[:, None]
    wavy = cv2.remap(rotated, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    eosin = (
        np.float32(0.10)
        + np.float32(0.38) * wavy
        + np.float32(0.2) * (noise(height, width, 60, rng) - np.float32(0.5))
    )
    clefts = np.clip(
        (noise(height, width, 16, rng, stretch=1.8) + np.float32(0.4) * wavy - np.float32(0.42)) * 7, 0.06, 1
    )
    hematoxylin = np.float32(0.06) + np.float32(0.13) * noise(height, width, 22, rng)
    return (hematoxylin * clefts).astype(np.float32), (eosin * clefts).astype(np.float32)


def _draw_glands(
    labels: NDArray[np.int32],
    depth: Map,
    patient: Patient,
    hematoxylin: Map,
    eosin: Map,
    rng: np.random.Generator,
) -> None:
    """Replace the stroma inside glands by a ring of cytoplasm around a lumen."""
    height, width = labels.shape
    num = int(labels.max(initial=0))
    unevenness = 0.6 if patient.malignant else 0.25
    # Per gland: thickness of the ring, density of the cytoplasm, how white the lumen is. Index 0 is stroma.
    ring = patient.epithelium_px * np.exp(rng.normal(0, 0.18, num + 1)).astype(np.float32)
    density = rng.uniform(0.75, 1.25, num + 1).astype(np.float32)
    lumen_dye = rng.uniform(0.0, 0.14, num + 1).astype(np.float32)
    filled = rng.random(num + 1) < (0.25 if patient.malignant else 0.06)
    ring[filled] = 1e3
    edge = depth - ring[labels] * (
        1 + np.float32(unevenness) * (noise(height, width, 9, rng) - np.float32(0.5))
    )
    lumen = np.clip(edge * np.float32(0.8) + np.float32(0.5), 0, 1)
    texture = np.float32(0.7) + np.float32(0.6) * noise(height, width, 3, rng)
    # Goblet cells: pale drops in the cytoplasm, more of them in benign glands.
    goblets = np.clip((noise(height, width, 5.5, rng) - (0.66 if patient.malignant else 0.56)) * 7, 0, 1)
    goblets *= (depth > 3.5) & (depth < ring[labels])
    cytoplasm = density[labels] * texture * (1 - np.float32(0.75) * goblets)
    for dye, amount, in_lumen in ((hematoxylin, 0.15, 0.12), (eosin, 0.36, 1.0)):
        gland = (
            np.float32(amount) * cytoplasm * (1 - lumen) + np.float32(in_lumen) * lumen_dye[labels] * lumen
        )
        np.copyto(dye, gland, where=labels > 0)


def _draw_stroma_nuclei(canvas: NDArray[np.uint8], fibre_angle: float, rng: np.random.Generator) -> None:
    """Draw spindle-shaped nuclei along the fibres, and clusters of round ones (lymphocytes)."""
    height, width = canvas.shape
    area = height * width
    for _ in range(int(rng.poisson(area / 420))):
        centre = rng.uniform((0, 0), (width, height))
        angle = np.rad2deg(-fibre_angle) + rng.normal(0, 22)
        _ellipse(canvas, centre, (rng.uniform(2.5, 5), rng.uniform(0.9, 1.7)), angle, rng.uniform(0.5, 0.95))
    for _ in range(int(rng.poisson(area / 12000))):
        middle = rng.uniform((0, 0), (width, height))
        spread = rng.uniform(6, 16)
        for centre in rng.normal(middle, spread, size=(int(rng.integers(12, 45)), 2)):
            _ellipse(
                canvas, centre, (rng.uniform(1.7, 2.5), rng.uniform(1.6, 2.3)), 0.0, rng.uniform(0.7, 1.0)
            )


def _draw_gland_nuclei(
    canvas: NDArray[np.uint8],
    labels: NDArray[np.int32],
    depth: Map,
    patient: Patient,
    rng: np.random.Generator,
) -> None:
    """Draw nuclei along each gland's outline, standing on it; in malignant glands in several uneven rows."""
    rows = (3.5, 7.5) if patient.malignant else (3.6,)
    for row_depth in rows:
        # The level set of one depth, found for all glands at once: gaps of depth 0 keep neighbours apart.
        level = (depth > row_depth).astype(np.uint8)
        contours, _ = cv2.findContours(level, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        for contour in contours:
            _nuclei_along(canvas, contour[:, 0, :].astype(np.float32), patient, rng)
    canvas[(labels > 0) & (depth < 0.5)] = 0


def _nuclei_along(
    canvas: NDArray[np.uint8], outline: Map, patient: Patient, rng: np.random.Generator
) -> None:
    num = len(outline)
    if num < 8:
        return
    spacing, jitter = (4.6, 1.1) if patient.malignant else (4.4, 0.4)
    ahead, behind = np.roll(outline, -4, axis=0), np.roll(outline, 4, axis=0)
    position = float(rng.uniform(0, spacing))
    right, bottom = canvas.shape[1] - 1, canvas.shape[0] - 1
    while position < num:
        at = int(position)
        position += spacing * float(rng.uniform(0.75, 1.4))
        if not (0 < outline[at, 0] < right and 0 < outline[at, 1] < bottom):
            continue  # the picture's edge cuts the gland here: no outline
        tangent = ahead[at] - behind[at]
        across = float(np.rad2deg(np.arctan2(tangent[1], tangent[0]))) + 90
        centre = outline[at] + rng.normal(0, jitter, 2)
        axes = (rng.uniform(2.4, 3.4), rng.uniform(1.4, 2.0))
        if patient.malignant:
            axes = (axes[0] * rng.uniform(0.8, 1.25), axes[1] * rng.uniform(0.9, 1.5))
        _ellipse(canvas, centre, axes, across + rng.normal(0, 12 + 60 * jitter / 4), rng.uniform(0.55, 0.95))


def _ellipse(
    canvas: NDArray[np.uint8],
    centre: NDArray[np.floating],
    axes: tuple[float, float],
    angle_deg: float,
    darkness: float,
) -> None:
    """Fill an ellipse with subpixel position and smooth outline."""
    unit = 1 << _SUBPIXEL_BITS
    cv2.ellipse(
        canvas,
        (round(float(centre[0]) * unit), round(float(centre[1]) * unit)),
        (round(axes[0] * unit), round(axes[1] * unit)),
        float(angle_deg),
        0,
        360,
        255 * darkness,
        cv2.FILLED,
        cv2.LINE_AA,
        _SUBPIXEL_BITS,
    )


def expose(hematoxylin: Map, eosin: Map, patient: Patient, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return the photograph of stained tissue, uint8[H, W, 3], RGB.

    Light is absorbed by the law of Lambert and Beer; then come blur and the noise of the camera.

    Args:
        hematoxylin: float32[H, W], amount of the dye.
        eosin: float32[H, W], amount of the dye.
        patient: The patient, who determines the stain.
        rng: The source of all random numbers.
    """
    height, width = eosin.shape
    thickness = 0.9 + 0.2 * noise(height, width, 90, rng)
    amounts = (
        np.stack([hematoxylin * patient.stain[0], eosin * patient.stain[1]], axis=-1) * thickness[..., None]
    )
    density = amounts.astype(np.float32) @ patient.spectra
    light = np.exp(-np.maximum(density, 0) * np.float32(1.35)) * np.float32(243)
    light = cv2.GaussianBlur(light, (0, 0), 0.55)
    light += rng.standard_normal(light.shape, dtype=np.float32) * np.float32(3.0)
    picture: NDArray[np.uint8] = np.clip(light, 0, 255).astype(np.uint8)
    return picture
