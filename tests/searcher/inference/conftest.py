"""Two painted images whose red channel is what a toy model believes."""

import numpy as np
import pytest

from searcher.data_pipeline.datasets.samples import RGB, Sample
from searcher.data_pipeline.store import Store, prepare_store


class Painted:
    """A gland of 6 x 6 px believed at 0.8 with a halo of 8 x 8 px believed at 0.4; in the second image a speck of 2 px
    at 0.9 besides."""

    name, kind = "painted", "test"
    channels, dtype = RGB, "uint8"

    def __init__(self) -> None:
        self.samples = tuple(
            Sample(f"painted_{i}", "testA", f"patient {i}", ("benign", "malignant")[i]) for i in range(2)
        )
        self.images, self.truths = [], []
        for with_speck in (False, True):
            image, truth = np.zeros((16, 20, 3), np.uint8), np.zeros((16, 20), np.int32)
            image[3:11, 3:11, 0] = 102
            image[4:10, 4:10, 0] = 204
            truth[4:10, 4:10] = 1
            if with_speck:
                image[14, 16:18, 0] = 230
            self.images.append(image)
            self.truths.append(truth)

    def fingerprint(self) -> str:
        return "painted-for-inference-2"

    def read(self, index: int):
        return self.images[index], self.truths[index]


@pytest.fixture(scope="session")
def painted(tmp_path_factory) -> Store:
    return prepare_store(Painted(), tmp_path_factory.mktemp("painted"))
