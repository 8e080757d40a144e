"""Cut block by block is cut whole, instance for instance."""

import numpy as np
import pytest
import torch
from fuzzing import examples
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from searcher.data_pipeline.images import ArrayRaster
from searcher.data_pipeline.tiling import Tile
from searcher.inference.predictor import Predictor
from searcher.models.base import DenseModel
from searcher.models.postprocess import smooth
from searcher.models.settings import PostprocessSettings
from searcher.models.unet import UNet
from searcher.models.values import InstanceMaps
from searcher.prediction.dense import cut_blended, see_dense

CPU = torch.device("cpu")


class Painted(DenseModel):
    """Red is the probability, green the seed map, if it has one, blue the probability of the first of two classes."""

    postprocess_keys = ()
    kind_of_maps = "painted"

    def __init__(self, *, has_seed_map: bool, **postprocess) -> None:
        super().__init__()
        self.has_seed_map = has_seed_map
        self.postprocess = PostprocessSettings(**postprocess)

    def parts(self):
        raise NotImplementedError

    def training_step(self, batch):
        raise NotImplementedError

    def predict_maps(self, images):
        red, green, blue = images.permute(3, 0, 1, 2).float() / 255
        of_place = [red, green] if self.has_seed_map else [red]
        return torch.stack([*of_place, blue, 1 - blue], dim=1)

    def instance_maps(self, maps):
        return InstanceMaps(maps[0], maps[1] if self.has_seed_map else None, maps[-2:])


def painting(height: int, width: int, seed: int, grain: float) -> np.ndarray:
    """Blobs, rings and specks, more or less coarse; green lies deeper inside than red."""
    noise = np.random.default_rng(seed).standard_normal((height, width, 2))
    smooth = np.stack([ndimage.gaussian_filter(noise[..., n], grain) for n in range(2)], axis=-1)
    smooth /= smooth.std() + 1e-9
    red = 0.5 + 0.3 * smooth[..., 0]
    green = red - 0.25 + 0.2 * smooth[..., 1]
    image = np.stack([red, green, green], axis=-1)
    return np.rint(255 * image.clip(0, 1)).astype(np.uint8)


def cut_both_ways(image, model, tmp_path, *, tile_px, overlap_px, block_px, max_window_px=1 << 23):
    predictor = Predictor([model], device=CPU, tile_px=tile_px, tile_overlap_px=overlap_px)
    whole = predictor.cut(predictor.see(image))
    with (
        see_dense(predictor, ArrayRaster(image), tmp_path) as blended,
        cut_blended(
            blended, model.postprocess, tmp_path, block_px=block_px, max_window_px=max_window_px
        ) as found,
    ):
        labels = found.read(Tile(0, 0, *image.shape[:2]))
        scores = found.scores
        if isinstance(model, Painted):
            assert found.class_probabilities.shape == (len(scores), 2)
        if isinstance(model, Painted) and np.array_equal(whole.labels, labels):
            np.testing.assert_allclose(found.class_probabilities, whole.class_probabilities, atol=1e-6)
            assert_mean_of_blue(image, labels, found.class_probabilities)
    assert not list(tmp_path.iterdir()), "scratch files have no name"
    return whole, labels, scores


def assert_mean_of_blue(image, labels, class_probabilities):
    """Of every object, as scipy counts it."""
    numbers = np.arange(1, len(class_probabilities) + 1)
    expected = ndimage.mean(image[..., 2] / 255, labels, numbers) if len(numbers) else np.zeros(0)
    np.testing.assert_allclose(class_probabilities[:, 0], expected, atol=1e-5)
    np.testing.assert_allclose(class_probabilities.sum(axis=1), 1, atol=1e-6)


POSTPROCESS = st.fixed_dictionaries(
    {
        "threshold": st.sampled_from([0.4, 0.5, 0.6]),
        "seed_threshold": st.sampled_from([0.4, 0.6]),
        "fill_holes": st.booleans(),
        "smoothing_sigma_px": st.sampled_from([0.0, 0.8, 2.0]),
        "min_object_area_px": st.sampled_from([0, 1, 9, 60]),
        "min_seed_area_px": st.sampled_from([0, 5]),
        "keep_unseeded": st.booleans(),
    }
)


@examples(30)
@given(
    height=st.integers(1, 150),
    width=st.integers(1, 150),
    seed=st.integers(0, 10**6),
    grain=st.sampled_from([0.7, 2.0, 5.0]),
    has_seed_map=st.booleans(),
    block_px=st.sampled_from([5, 16, 64, 2048]),
    tile_px=st.sampled_from([0, 24, 64]),
    postprocess=POSTPROCESS,
)
def test_blocks_cut_what_the_whole_image_does(
    tmp_path_factory, height, width, seed, grain, has_seed_map, block_px, tile_px, postprocess
):
    image = painting(height, width, seed, grain)
    whole, labels, scores = cut_both_ways(
        image,
        Painted(has_seed_map=has_seed_map, **postprocess),
        tmp_path_factory.mktemp("scratch"),
        tile_px=tile_px,
        overlap_px=8,
        block_px=block_px,
    )
    np.testing.assert_array_equal(labels, whole.labels)
    np.testing.assert_allclose(scores, whole.scores, rtol=1e-6)


@pytest.mark.parametrize("sigma_px", [0.0, 1.0, 3.0])
def test_windows_are_smoothed_as_the_whole_image_is_to_the_last_bit(tmp_path, sigma_px):
    rng = np.random.default_rng(0)
    for height, width in rng.integers(60, 300, (12, 2)):
        image = rng.integers(0, 256, (height, width, 3), np.uint8)
        predictor = Predictor([Painted(has_seed_map=True)], device=CPU)
        with see_dense(predictor, ArrayRaster(image), tmp_path) as blended:
            whole = [smooth(image[..., n] / np.float32(255), sigma_px) for n in range(2)]
            for _ in range(8):
                y, x = int(rng.integers(height)), int(rng.integers(width))
                window = Tile(y, x, int(rng.integers(1, height - y + 1)), int(rng.integers(1, width - x + 1)))
                seen = blended.read(window, smoothing_sigma_px=sigma_px)
                for part, expected in zip(seen[:2], whole, strict=True):
                    np.testing.assert_array_equal(part, expected[window.window])


@pytest.mark.parametrize("head", ["binary", "contour", "distance"])
def test_the_heads_of_a_network_are_cut_alike(tmp_path, head):
    torch.manual_seed(1)
    postprocess = PostprocessSettings(smoothing_sigma_px=1.5, min_object_area_px=20, seed_threshold=0.4)
    model = UNet(base_channels=4, depth=2, head=head, postprocess=postprocess)
    image = painting(150, 190, 3, 4.0)
    with torch.no_grad():  # decided, and torn into pieces
        model.classifier.weight *= 20
        model.classifier.bias -= model.eval()(torch.from_numpy(image)[None]).mean(dim=(0, 2, 3))
    whole, labels, scores = cut_both_ways(image, model, tmp_path, tile_px=96, overlap_px=32, block_px=40)
    assert len(whole.scores) > 3
    np.testing.assert_array_equal(labels, whole.labels)
    np.testing.assert_allclose(scores, whole.scores, rtol=1e-6)


def test_a_network_without_tiles_sees_small_images_whole_and_large_ones_in_tiles(tmp_path):
    shapes = []

    class Recording(Painted):
        def predict_maps(self, images):
            shapes.append(tuple(images.shape[1:3]))
            return super().predict_maps(images)

    predictor = Predictor([Recording(has_seed_map=False)], device=CPU)
    for width in (64, 65):
        image = painting(20, width, 0, 2.0)
        with see_dense(predictor, ArrayRaster(image), tmp_path, default_tile_px=64) as blended:
            instance_maps = blended.read(Tile(0, 0, 20, width), smoothing_sigma_px=0)
        np.testing.assert_allclose(instance_maps.foreground_map, image[..., 0] / 255, rtol=1e-5)
    assert shapes == [(20, 64), (20, 64), (20, 64)]


def test_no_foreground_and_nothing_but_foreground(tmp_path):
    for value, expected in ((0, 0), (255, 1)):
        image = np.full((40, 50, 3), value, np.uint8)
        for has_seed_map in (False, True):
            _, labels, scores = cut_both_ways(
                image, Painted(has_seed_map=has_seed_map), tmp_path, tile_px=0, overlap_px=8, block_px=16
            )
            np.testing.assert_array_equal(labels, np.full((40, 50), expected))
            assert len(scores) == expected


class TestPiecesTooLargeForMemory:
    """A piece of foreground larger than `max_window_px` is never looked at as a whole."""

    def test_without_cores_it_is_what_it_would_be(self, tmp_path):
        for seed in range(5):
            image = painting(120, 130, seed, 5.0)
            model = Painted(has_seed_map=False, threshold=0.4, min_object_area_px=30)
            whole, labels, scores = cut_both_ways(
                image, model, tmp_path, tile_px=0, overlap_px=8, block_px=32, max_window_px=100
            )
            np.testing.assert_array_equal(labels, whole.labels)
            np.testing.assert_allclose(scores, whole.scores, rtol=1e-6)

    def test_one_instance_that_covers_everything_is_one(self, tmp_path):
        image = np.full((100, 140, 3), 250, np.uint8)
        image[40:60, 50:90] = 0
        whole, labels, _ = cut_both_ways(
            image,
            Painted(has_seed_map=True),
            tmp_path,
            tile_px=0,
            overlap_px=8,
            block_px=16,
            max_window_px=100,
        )
        np.testing.assert_array_equal(labels, whole.labels)
        assert labels.all(), "the hole is larger than a window's margin, and filled all the same"

    def test_touching_instances_are_told_apart_and_numbered(self, tmp_path):
        """A sheet of touching squares, 20 px each, with a seed in each middle: every one of them keeps its place."""
        side, num = 20, 6
        rows, columns = np.indices((side * num, side * num)) % side
        depth = np.minimum(np.minimum(rows, columns), side - 1 - np.maximum(rows, columns))
        image = np.zeros((side * num, side * num, 3), np.uint8)
        image[..., 0] = 255
        image[..., 1] = 60 + 20 * depth
        model = Painted(has_seed_map=True, seed_threshold=0.6)
        whole, labels, scores = cut_both_ways(
            image, model, tmp_path, tile_px=0, overlap_px=8, block_px=48, max_window_px=1000
        )
        assert len(scores) == len(whole.scores) == num**2
        assert (labels == whole.labels).mean() > 0.99
        np.testing.assert_array_equal(labels[10::20, 10::20].ravel(), np.arange(1, num**2 + 1))

    def test_a_long_way_to_the_only_seeds_is_flooded_all_the_way(self, tmp_path):
        image = np.zeros((12, 400, 3), np.uint8)
        image[2:10, 2:398, 0] = 255
        image[2:10, 2:6, 1] = image[2:10, 8:12, 1] = 200
        model = Painted(has_seed_map=True)
        _, labels, _ = cut_both_ways(
            image, model, tmp_path, tile_px=0, overlap_px=8, block_px=16, max_window_px=50
        )
        np.testing.assert_array_equal(labels > 0, image[..., 0] > 0)
        assert set(np.unique(labels)) == {0, 1, 2}
        assert (labels[5, 12:398] == 2).all()

    @pytest.mark.parametrize("seed", range(3))
    def test_hardly_a_pixel_changes_hands_and_none_is_lost(self, tmp_path, seed):
        model = Painted(has_seed_map=True, threshold=0.4, keep_unseeded=seed > 0, fill_holes=seed < 2)
        whole, labels, _ = cut_both_ways(
            painting(160, 160, seed, 4.0),
            model,
            tmp_path,
            tile_px=0,
            overlap_px=8,
            block_px=64,
            max_window_px=400,
        )
        assert whole.labels.max() > 20
        assert labels.max() == whole.labels.max()
        np.testing.assert_array_equal(labels > 0, whole.labels > 0)
        partner = [np.bincount(whole.labels[labels == label]).argmax() for label in range(labels.max() + 1)]
        assert (np.array(partner)[labels] == whole.labels).mean() > 0.995
