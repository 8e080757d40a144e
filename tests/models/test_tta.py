"""Averaging over the 8 symmetries, with toy models whose predictions are known."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from searcher.models.base import DenseModel
from searcher.models.settings import PostprocessSettings
from searcher.models.tta import dihedral_average
from searcher.models.unet import UNet
from searcher.models.values import TensorBatch


class Toy(DenseModel):
    """Predicts what a function of NumPy makes of each image float32[H, W, 3]: float32[C, H, W]."""

    postprocess_keys = ()
    kind_of_maps = "toy"

    def __init__(self, function: Callable[[np.ndarray], np.ndarray]) -> None:
        super().__init__()
        self.function = function
        self.seen: list[np.ndarray] = []
        self.postprocess = PostprocessSettings()

    def parts(self):
        raise NotImplementedError

    def training_step(self, batch: TensorBatch) -> dict[str, torch.Tensor]:
        raise NotImplementedError

    def instance_maps(self, maps):
        raise NotImplementedError

    def predict_maps(self, images):
        self.seen.extend(images.numpy())
        maps = [self.function(image.numpy().astype(np.float32) / 256) for image in images]
        return torch.from_numpy(np.stack(maps))


def some_images(*size: int) -> torch.Tensor:
    return torch.randint(0, 256, (*size, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def channels(image: np.ndarray) -> np.ndarray:
    """Sees each pixel alone: turns with the image."""
    return np.ascontiguousarray(image.transpose(2, 0, 1))


def position_and_colour(image: np.ndarray) -> np.ndarray:
    """Sees where a pixel lies: does not turn with the image."""
    y, x = np.indices(image.shape[:2])
    return np.stack([image[..., 0] * x / 50, image[..., 1] * y / 50]).astype(np.float32)


@pytest.mark.parametrize("size", [(2, 6, 9), (1, 7, 7), (1, 1, 5), (3, 1, 1)])
def test_a_model_that_turns_with_the_image_says_the_same(size):
    images = some_images(*size)
    model = Toy(channels)
    # Sums of 8 values with 8 bits are exact in float32.
    assert torch.equal(dihedral_average(model, images), model.predict_maps(images))


@pytest.mark.parametrize("size", [(1, 6, 9), (1, 7, 7)])
def test_the_model_sees_each_of_the_8_versions_once(size):
    model, images = Toy(channels), some_images(*size)
    dihedral_average(model, images)
    image = images[0].numpy()
    expected = [
        np.rot90(each, quarters) for each in (image, image.transpose(1, 0, 2)) for quarters in range(4)
    ]
    assert sorted(seen.tobytes() for seen in model.seen) == sorted(each.tobytes() for each in expected)
    assert len({each.tobytes() for each in expected}) == 8


@pytest.mark.parametrize("size", [(6, 9), (8, 8)])
def test_any_other_model_is_averaged_back_in_place(size):
    """Against NumPy: turn, predict, turn back, mean."""
    images = some_images(2, *size)
    expected = []
    for image in images.numpy().astype(np.float32) / 256:
        found = []
        for quarters in range(4):
            turned = np.rot90(image, quarters)
            found.append(np.rot90(position_and_colour(turned), -quarters, (1, 2)))
            upside_down = np.rot90(image[::-1], quarters)
            found.append(np.rot90(position_and_colour(upside_down), -quarters, (1, 2))[:, ::-1])
        expected.append(np.mean(found, axis=0))
    maps = dihedral_average(Toy(position_and_colour), images)
    assert maps.dtype == torch.float32
    np.testing.assert_allclose(maps, np.stack(expected), rtol=1e-5)


def test_the_average_of_a_network_turns_with_the_image():
    torch.manual_seed(0)
    model = UNet(base_channels=4, depth=2, head="contour").eval()
    images = some_images(1, 24, 40)
    turned = torch.rot90(images, 1, (1, 2)).flip(1)
    expected = torch.rot90(dihedral_average(model, images), 1, (2, 3)).flip(2)
    torch.testing.assert_close(dihedral_average(model, turned), expected, atol=1e-5, rtol=1e-5)
    apart = (
        (model.predict_maps(turned) - torch.rot90(model.predict_maps(images), 1, (2, 3)).flip(2)).abs().max()
    )
    assert apart > 1e-3  # by itself it does not


def test_nothing_is_left_for_a_gradient_and_images_stay():
    model, images = UNet(base_channels=2, depth=1).eval(), some_images(1, 8, 8)
    before = images.clone()
    assert not dihedral_average(model, images).requires_grad
    assert torch.equal(images, before)
