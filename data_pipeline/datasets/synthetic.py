"""Data sets without files: drawn tissue whose truth is exact."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from searcher.data_pipeline.datasets.annotations.annotation import Annotation
from searcher.data_pipeline.datasets.nuclei import NUCLEI, draw_nuclei
from searcher.data_pipeline.datasets.samples import RGB, Sample
from searcher.data_pipeline.datasets.tissue import Patient, draw_patient, draw_tissue

__all__ = ["SYNTHETIC", "SyntheticGlands", "SyntheticNuclei", "SyntheticSource", "is_synthetic"]

_STRATA = ("benign", "malignant")
# Streams of random numbers that must not meet.
_PATIENTS, _IMAGES = 0, 1


class SyntheticSource(ABC):
    """Images that are drawn by a program for synthetic patients; a `SampleSource`.

    The arguments and the index determine an image, in any process and after any other reads. Another `num_images` may
    give other images. Each patient has four images if `num_images` is at least 16, else two; a split's last patient
    may have fewer. Patients alternate between benign and malignant.

    Args:
        num_images: Images of the split `train`.
        size_px: Side of the images, in pixels.
        seed: Seed of patients and images.
        num_test_images: Images of the split `testA`, of further patients.
    """

    kind: ClassVar[str]
    name: ClassVar[str]
    licence = "Drawn by a program; nobody's tissue."
    pixel_size_um = None
    channels = RGB
    dtype: Literal["uint8"] = "uint8"

    def __init__(self, *, num_images: int, size_px: int, seed: int, num_test_images: int = 0) -> None:
        assert num_images >= 1, num_images
        assert size_px >= 1, size_px
        assert seed >= 0, seed
        assert num_test_images >= 0, num_test_images
        self._size_px = size_px
        self._seed = seed
        per_patient = 4 if num_images >= 16 else 2
        first_test_patient = -(-num_images // per_patient)
        self._patient_numbers = [i // per_patient for i in range(num_images)]
        self._patient_numbers += [first_test_patient + i // per_patient for i in range(num_test_images)]
        splits = ["train"] * num_images + ["testA"] * num_test_images
        numbers = [*range(1, num_images + 1), *range(1, num_test_images + 1)]
        self.samples: Sequence[Sample] = tuple(
            Sample(f"{split}_{number}", split, f"synthetic patient {patient + 1}", _STRATA[patient % 2])
            for split, number, patient in zip(splits, numbers, self._patient_numbers, strict=True)
        )

    def fingerprint(self) -> str:
        """Return the SHA-256 of the names, splits and groups of all samples, and of the first and the last image.

        The parameters determine all images. Two images are hashed so that other drawing code, or a release of NumPy or
        OpenCV that draws differently, changes the fingerprint.
        """
        digest = hashlib.sha256(repr((self.kind, self._size_px, self._seed, self.samples)).encode())
        for index in (0, len(self.samples) - 1):
            for array in self.read(index):
                digest.update(array.tobytes())
        return digest.hexdigest()

    def read(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
        """Return the image, uint8[size_px, size_px, 3], and label map, int32[size_px, size_px], drawn on request."""
        image, annotation = self._draw(index)
        return image, annotation.labels

    def _patient_and_rng(self, index: int) -> tuple[Patient, np.random.Generator]:
        """Return whose image it is, and the generator that decides about all else."""
        number = self._patient_numbers[index]
        patient = draw_patient(
            np.random.default_rng((self._seed, _PATIENTS, number)), malignant=number % 2 == 1
        )
        return patient, np.random.default_rng((self._seed, _IMAGES, index))

    @abstractmethod
    def _draw(self, index: int) -> tuple[NDArray[np.uint8], Annotation]: ...


class SyntheticGlands(SyntheticSource):
    """Images of glands that look like H&E, see `SyntheticSource`."""

    kind = "synthetic"
    name = "synthetic glands"

    def _draw(self, index: int) -> tuple[NDArray[np.uint8], Annotation]:
        patient, rng = self._patient_and_rng(index)
        image, labels = draw_tissue(self._size_px, self._size_px, patient, rng)
        return image, Annotation(labels)


class SyntheticNuclei(SyntheticSource):
    """Synthetic images, similar to H&E, of epithelial nuclei and lymphocytes; see `SyntheticSource`."""

    kind = "synthetic nuclei"
    name = "synthetic nuclei"
    classes = declared_classes = NUCLEI

    def read_annotated(self, index: int) -> tuple[NDArray[np.uint8], Annotation]:
        """Draw an image, and return it with its annotation, which has the class of each nucleus.

        Args:
            index: Index of the image.
        """
        return self._draw(index)

    def _draw(self, index: int) -> tuple[NDArray[np.uint8], Annotation]:
        patient, rng = self._patient_and_rng(index)
        drawn = draw_nuclei(self._size_px, self._size_px, patient, rng)
        names = {label: NUCLEI[number - 1] for label, number in enumerate(drawn.classes.tolist()) if number}
        return drawn.image, Annotation(drawn.labels, names)


SYNTHETIC: dict[str, type[SyntheticSource]] = {"glands": SyntheticGlands, "nuclei": SyntheticNuclei}
"""What can be drawn, by the value of `data.synthetic`."""


def is_synthetic(name: str) -> bool:
    """Return whether a name is that of a synthetic data set, which has no files.

    Args:
        name: The name.
    """
    return any(name == each.name for each in SYNTHETIC.values())
