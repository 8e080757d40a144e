"""A data set without files: drawn tissue whose truth is exact."""

import hashlib
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from searcher.data_pipeline.datasets.samples import RGB, Sample
from searcher.data_pipeline.datasets.tissue import Patient, draw_patient, draw_tissue

__all__ = ["SyntheticGlands"]

_STRATA = ("benign", "malignant")
# Streams of random numbers that must not meet.
_PATIENTS, _IMAGES = 0, 1


class SyntheticGlands:
    """Images of glands that look like H&E, drawn by a program for synthetic patients; a `SampleSource`.

    The arguments and the index determine an image, in any process and after any other reads. Another `num_images` may
    give other images. Each patient has four images if `num_images` is at least 16, else two; a split's last patient
    may have fewer. Patients alternate between benign and malignant.

    Args:
        num_images: Images of the split `train`.
        size_px: Side of the images, in pixels.
        seed: Seed of patients and images.
        num_test_images: Images of the split `testA`, of further patients.
    """

    kind = "synthetic"
    name = "synthetic glands"
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
        rng = np.random.default_rng((self._seed, _IMAGES, index))
        return draw_tissue(
            self._size_px, self._size_px, self._draw_patient(self._patient_numbers[index]), rng
        )

    def _draw_patient(self, number: int) -> Patient:
        rng = np.random.default_rng((self._seed, _PATIENTS, number))
        return draw_patient(rng, malignant=number % 2 == 1)
