"""Cut block by block is cut whole, instance for instance."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from data_pipeline.tiling import Tile
from models.base import DenseModel, Evidence
from models.settings import PostprocessSettings
from searcher.inference.predictor import Predictor
from searcher.prediction.dense import cut_blended, see_dense
from searcher.prediction.raster import ArrayRaster

CPU = torch.device("cpu")


class Painted(DenseModel):
    """Red is the probability, green the core, if it knows cores."""

    postprocess_keys = ()
    kind_of_maps = "painted"

    def __init__(self, *, has_core: bool, **postprocess) -> None:
        super().__init__()
        self.has_core = has_core
        self.postprocess = PostprocessSettings(**postprocess)

    def parts(self):
        raise NotImplementedError

    def training_step(self, batch):
        raise NotImplementedError

    def predict_maps(self, images):
        return images[..., : 1 + self.has_core].permute(0, 3, 1, 2).float() / 255

    def evidence(self, maps):
        return Evidence(maps[0], maps[1] if self.has_core else None)


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
    assert not list(tmp_path.iterdir()), "scratch files have no name"
    return whole, labels, scores


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


@settings(max_examples=120, deadline=None)
@given(
    height=st.integers(1, 150),
    width=st.integers(1, 150),
    seed=st.integers(0, 10**6),
    grain=st.sampled_from([0.7, 2.0, 5.0]),
    has_core=st.booleans(),
    block_px=st.sampled_from([5, 16, 64, 2048]),
    tile_px=st.sampled_from([0, 24, 64]),
    postprocess=POSTPROCESS,
)
def test_blocks_cut_what_the_whole_image_does(
    tmp_path_factory, height, width, seed, grain, has_core, block_px, tile_px, postprocess
):
    image = painting(height, width, seed, grain)
    whole, labels, scores = cut_both_ways(
        image,
        Painted(has_core=has_core, **postprocess),
        tmp_path_factory.mktemp("scratch"),
        tile_px=tile_px,
        overlap_px=8,
        block_px=block_px,
    )
    np.testing.assert_array_equal(labels, whole.labels)
    np.testing.assert_allclose(scores, whole.scores, rtol=1e-6)
