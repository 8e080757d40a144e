"""What a plan needs to know of a data set, from its store."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from searcher.data_pipeline.annotations import annotation_facts
from searcher.data_pipeline.exceptions import DataError
from searcher.data_pipeline.exposure import NormalisationChoice, choose_for_store
from searcher.data_pipeline.store import Store
from searcher.data_pipeline.unannotated import objects_only
from searcher.training.data_defaults import statistics_of
from searcher.training.dataset import given_validation, trained_on

__all__ = ["PlanningFacts", "data_facts", "near_share"]


@dataclass(frozen=True)
class PlanningFacts:
    """Sizes and numbers of a data set's images and objects, for planning a study. Lengths are in pixels of the image.

    An object's side is that of the square with the area of its bounding box.
    """

    num_images: int
    """Images."""
    num_patients: int
    """Patients; the number of images where nobody said whose they are."""
    patients_are_known: bool
    """Whether somebody said whose the images are."""
    has_validation: bool
    """Whether the data set itself sets images aside for validation."""
    short_px: int
    """Shorter side that 9 of 10 images reach."""
    largest_px: int
    """Height times width of the largest image."""
    num_objects: int
    """Objects in all images."""
    objects_per_image: int
    """Median number of objects in one image."""
    small_area_px: int
    """Area that 5% of the objects fall below."""
    narrow_px: int
    """Shorter side of the bounding box that 5% of the objects fall below."""
    side_px: float
    """Median side of an object."""
    large_side_px: float
    """Side that 2% of the objects exceed."""
    gap_px: int
    """What counts as near: one twentieth of the median side, at least 1."""
    near: float
    """Part of the objects that have another one within `gap_px`, 0..1."""
    channels: tuple[str, ...]
    """Names of the channels."""
    dtype: str
    """Type of the images' values, `uint8` or `uint16`."""
    normalisation: NormalisationChoice
    """What `data.normalisation = "auto"` means for them."""
    classes: dict[str, int] = field(default_factory=dict)
    """Objects of each class, in the order of their numbers; empty where none has a class."""

    @property
    def is_stained(self) -> bool:
        """Whether the images are bright-field colour images, such as H&E."""
        return (len(self.channels), self.dtype, self.normalisation.kind) == (3, "uint8", "fixed")


def data_facts(store: Store, where: str) -> PlanningFacts:
    """Return the sizes and numbers of a data set's training and validation images.

    Args:
        store: The store of the data set.
        where: The data set, for messages.

    Raises:
        DataError: No image is for training, or none holds an object.
    """
    indices = trained_on(store)
    if not indices:
        raise DataError(f"{where}: some images must be of the split train, got none; correct samples.csv")
    every = annotation_facts(store)
    facts = [every[index] for index in indices]
    objects = statistics_of(facts)
    if objects is None:
        raise DataError(
            f"{where}: training images must hold objects, got no object in any of {len(indices)}; "
            "check how the label maps were written"
        )
    shapes = np.array([store.labels(index).shape for index in indices])
    samples = [store.samples[index] for index in indices]
    num_objects = sum(each.num_labels for each in facts)
    gap = max(1, round(objects.side_px / 20))
    num_near = sum(
        near_share(objects_only(store.labels(index)), gap) * every[index].num_labels for index in indices
    )
    return PlanningFacts(
        num_images=len(indices),
        num_patients=len({sample.group for sample in samples}),
        patients_are_known=any(sample.group != sample.id for sample in samples),
        has_validation=bool(given_validation(store)),
        short_px=_quantile(shapes.min(axis=1), 0.1),
        largest_px=int(shapes.prod(axis=1).max()),
        num_objects=num_objects,
        objects_per_image=_quantile(np.array([each.num_labels for each in facts]), 0.5),
        small_area_px=objects.small_area_px,
        narrow_px=objects.narrow_px,
        side_px=objects.side_px,
        large_side_px=objects.large_px,
        gap_px=gap,
        near=float(num_near / num_objects),
        channels=tuple(store.channels),
        dtype=store.dtype,
        classes=dict(zip(store.class_names, store.class_table.counts(indices).tolist(), strict=True)),
        normalisation=choose_for_store(store, indices),
    )


def near_share(labels: NDArray[np.integer], gap_px: int) -> float:
    """Return the share of objects that have a pixel near a pixel of another object, 0 to 1.

    Args:
        labels: integer[H, W], 0 background.
        gap_px: Largest distance along rows and along columns at which two pixels are near, in pixels.
    """
    from scipy import ndimage

    values = np.unique(labels[labels > 0])
    if not len(values):
        return 0.0
    highest, size = int(values[-1]), 2 * gap_px + 1
    most = ndimage.maximum_filter(labels, size, mode="nearest")
    least = ndimage.minimum_filter(np.where(labels > 0, labels, highest), size, mode="nearest")
    is_near = (labels > 0) & ((most != labels) | (least != labels))
    return len(np.unique(labels[is_near])) / len(values)


def _quantile(values: NDArray[np.generic] | Sequence[int], share: float) -> int:
    return int(np.quantile(np.asarray(values), share, method="lower"))
