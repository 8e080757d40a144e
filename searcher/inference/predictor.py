"""The output of trained models for an image: of one or several, on tiles, turned and mirrored."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from searcher.data_pipeline.pixel_arrays import Pixels
from searcher.data_pipeline.tiling import apply_tiled, tiles_seen
from searcher.exceptions import UserError
from searcher.inference.image_kind import ImageKind
from searcher.inference.precision import autocast
from searcher.models.base import DenseModel, DetectionModel, SegmentationModel
from searcher.models.settings import PostprocessSettings
from searcher.models.tta import dihedral_average
from searcher.models.values import Detections, InstanceMaps, Prediction

__all__ = ["Output", "Predictor"]

Output = NDArray[np.float32] | Detections
"""What is known of an image before instances are cut: a dense model's maps float32[C, H, W], or detections."""


class Predictor:
    """Runs one or several trained models on images, and cuts instances from their output.

    The models are put into eval mode. `see` runs the models, which is slow. `cut` makes instances of their output,
    which is fast. So tuning runs the models once, and cuts many times.

    Args:
        models: At least one model, on the device. The maps of several models are averaged; these must be dense and have
            maps of the same kind.
        device: Device of the models.
        dtype: Format of the forward pass, see `resolve_precision`.
        tta: Whether to average the maps of all 8 turned and mirrored versions of an image; for dense models only.
        tile_px: Side of the overlapping tiles for dense models, in pixels; 0 for the rule of `tiles_seen`.
        tile_overlap_px: Overlap of neighbouring tiles in pixels, below `tile_px`.
        kind: The kind of images that the models expect. The caller normalises the images.

    Raises:
        UserError: The models cannot be used together, or not with `tta`.
    """

    def __init__(
        self,
        models: Sequence[SegmentationModel],
        *,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        tta: bool = False,
        tile_px: int = 0,
        tile_overlap_px: int = 64,
        kind: ImageKind | None = None,
    ) -> None:
        assert models
        dense = [model for model in models if isinstance(model, DenseModel)]
        if len(dense) < len(models) and (len(models) > 1 or tta):
            what = "an ensemble" if len(models) > 1 else "test-time augmentation"
            raise UserError(
                f"{what} needs models with maps of probabilities, such as unet, got one that detects instances "
                "one by one; use one model, without test-time augmentation"
            )
        if len(kinds := {model.kind_of_maps for model in dense}) > 1:
            raise UserError(
                f"an ensemble needs models whose maps say the same, got {', '.join(sorted(kinds))}; "
                "take those of one head"
            )
        self._models = [model.eval() for model in models]
        self._dense = dense
        self._device = device
        self._dtype = dtype
        self.tta = tta
        """Whether the mean over turned and mirrored versions is taken."""
        self.kind = kind or ImageKind()
        """What images the models take, and how their values become 0..255. May be replaced."""
        self._tile_px = tile_px
        self._tile_overlap_px = tile_overlap_px

    @property
    def postprocess(self) -> PostprocessSettings:
        """The settings by which maps or detections become instances: those of the first model."""
        return self._models[0].postprocess

    @postprocess.setter
    def postprocess(self, settings: PostprocessSettings) -> None:
        self._models[0].postprocess = settings

    @property
    def postprocess_keys(self) -> tuple[str, ...]:
        """The names of the settings that affect these models."""
        return self._models[0].postprocess_keys

    @property
    def tuning_candidates(self) -> Mapping[str, Sequence[Any]]:
        """The values that tuning tries for these models instead of the usual ones, by setting."""
        return self._models[0].tuning_candidates

    @property
    def num_classes(self) -> int:
        """Number of classes of objects that the models distinguish; 0 if they learned none."""
        return self._models[0].num_classes

    @property
    def is_dense(self) -> bool:
        """Whether the models predict maps with a value for every pixel, so that large images can be tiled."""
        return bool(self._dense)

    @property
    def tile_px(self) -> int:
        """Side of the tiles for dense models, in pixels; 0 for whole images."""
        return self._tile_px

    @property
    def tile_overlap_px(self) -> int:
        """Overlap of neighbouring tiles, in pixels."""
        return self._tile_overlap_px

    @torch.no_grad()
    def see_tile(self, tile: Pixels) -> Output:
        """Return the maps, or the detections, of a tile, from one pass of the models over it.

        Args:
            tile: uint8[H, W, C], normalised.
        """
        if self._dense:
            return self._maps(tile)
        [model] = self._models
        assert isinstance(model, DetectionModel), type(model)
        with autocast(self._device, self._dtype):
            return model.detect(self._tensor(tile))[0]

    @torch.no_grad()
    def see(self, image: Pixels) -> Output:
        """Return the maps of an image, or the detections in it; large images are processed in tiles.

        Args:
            image: uint8[H, W, C], normalised; see `kind`.
        """
        if not self._dense:
            return self.see_tile(image)
        height, width = image.shape[:2]
        tile_px, overlap_px = tiles_seen(
            height, width, tile_px=self._tile_px, overlap_px=self._tile_overlap_px
        )
        return apply_tiled(self._maps, image, tile_px=tile_px, overlap_px=overlap_px)

    def instance_maps(self, maps: NDArray[np.float32]) -> InstanceMaps:
        """Return the foreground map and the seed map in dense models' maps; see `DenseModel.instance_maps`."""
        return self._dense[0].instance_maps(maps)

    def cut(self, output: Output) -> Prediction:
        """Return the instances in the output for one image, cut with the settings in `postprocess`."""
        model = self._models[0]
        if isinstance(output, Detections):
            assert isinstance(model, DetectionModel), type(model)
            return model.instances_from_detections(output)
        assert isinstance(model, DenseModel), type(model)
        return model.instances_from_maps(output)

    def _maps(self, image: Pixels) -> NDArray[np.float32]:
        images, total = self._tensor(image), None
        for model in self._dense:
            with autocast(self._device, self._dtype):
                maps = dihedral_average(model, images) if self.tta else model.predict_maps(images)
            total = maps if total is None else total.add_(maps)
        assert total is not None
        mean: NDArray[np.float32] = (total / len(self._dense))[0].float().cpu().numpy()
        return mean

    def _tensor(self, image: Pixels) -> Tensor:
        return torch.from_numpy(np.array(image)).to(self._device)[None]
