"""One pass over the validation images at their own resolution: loss and the official metrics."""

import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from searcher.data_pipeline.store import Store
from searcher.data_pipeline.tiling import stitch, tile_grid, tiles_seen
from searcher.evaluation.class_metrics import class_metrics, class_sums, table_of
from searcher.evaluation.official_metrics import ImageComparison, compare, pooled
from searcher.exceptions import NonFiniteLossError
from searcher.inference.precision import autocast
from searcher.models.base import DenseModel, DetectionModel, SegmentationModel
from searcher.models.values import Detections, Prediction, TensorBatch
from searcher.study.objectives import OFFICIAL, metrics_of_plugins
from searcher.training.alive import Alive, silent

__all__ = ["Validator", "loss_metrics"]

_MAX_PENDING = 4


class Validator:
    """Measures the loss and the metrics of a model on validation images.

    Images are predicted one at a time, since their sizes differ. While the network predicts one image, a second thread
    cuts the instances of the previous one and compares them with the truth.

    Args:
        store: The store with images and label maps.
        indices: Indices of the validation images, at least one.
        device: Device of the model.
        dtype: Number format of the forward pass, see `resolve_precision`.
        tile_px: Side of the overlapping tiles for dense models, in pixels; 0 for the rule of `tiles_seen`. Other models
            always get whole images.
        tile_overlap_px: Overlap of neighbouring tiles, in pixels.
    """

    def __init__(
        self,
        store: Store,
        indices: Sequence[int],
        *,
        device: torch.device,
        dtype: torch.dtype,
        tile_px: int = 0,
        tile_overlap_px: int = 64,
    ) -> None:
        assert indices
        self._store = store
        self._indices = tuple(indices)
        self._device = device
        self._dtype = dtype
        self._tile_px = tile_px
        self._tile_overlap_px = tile_overlap_px

    @torch.no_grad()
    def validate(self, model: SegmentationModel, *, epoch: int, alive: Alive = silent) -> dict[str, float]:
        """Return loss and metrics of a model by name. The model is put into eval mode and stays in it.

        Args:
            model: The network, on the device.
            epoch: Number of trained epochs, for error messages.
            alive: Called before every image.

        Returns:
            `loss`: mean over images of the model's summed losses, with those of each name if there are several
            (`loss_dice` say). `pixel_dice`, `object_f1`, `object_dice`, `object_hausdorff`: the official metrics pooled
            over all images, and `ap50`, `ap`, `pq`, `aji` and the metrics of plug-ins. Of a model that learns classes
            also `mpq`, `class_accuracy`, `f1/NAME` and `pq/NAME`. `seconds_per_image`: the median
            time from an image in memory to the network's output, losses included.

        Raises:
            NonFiniteLossError: A loss is NaN or infinite; the message names loss, epoch and image.
        """
        model.eval()
        losses: list[dict[str, float]] = []
        seconds: list[float] = []
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="validation") as worker:
            comparisons = _Ordered(worker)
            for num_done, index in enumerate(self._indices):
                alive("validation", f"epoch {epoch}, validation image {num_done + 1} of {len(self._indices)}")
                truth = self._truth(index, model)
                image: NDArray[np.uint8] = np.array(
                    self._store.image(index), np.uint8
                )  # writable, as tensors want
                where = f"epoch {epoch}, image '{self._store.samples[index].id}'"
                started = time.perf_counter()
                if isinstance(model, DenseModel):
                    loss, maps = self._evaluate_dense(model, image, truth, where)
                    comparisons.submit(_compared, truth, partial(model.instances_from_maps, maps))
                elif isinstance(model, DetectionModel):
                    loss, detections = self._evaluate_detections(model, image, truth, where)
                    comparisons.submit(_compared, truth, partial(model.instances_from_detections, detections))
                else:
                    loss, found = self._evaluate(model, image, truth, where)
                    comparisons.submit(_compared, truth, partial(Prediction, *found))
                losses.append(loss)
                seconds.append(time.perf_counter() - started)
            alive("validation", f"epoch {epoch}, comparing the last validation images")
            results = comparisons.results()
        values = pooled([of_image.comparison for of_image in results])
        official = {name: float(values[theirs]) for name, theirs in OFFICIAL.items()}
        official |= {name: float(values[name]) for name in metrics_of_plugins()}
        if model.num_classes:
            sums = np.sum([each.class_sums for each in results if each.class_sums is not None], axis=0)
            of_classes = class_metrics(sums, self._store.class_names)
            official |= {name: float(value) for name, value in of_classes.items()}
        return loss_metrics("loss", _means(losses)) | official | {"seconds_per_image": median(seconds)}

    def _truth(self, index: int, model: SegmentationModel) -> "_Truth":
        # A copy: tensors want writable memory, and int32 labels whatever the store keeps.
        labels = np.array(self._store.labels(index), dtype=np.int32)
        if not model.num_classes:
            return _Truth(labels)
        assert model.num_classes == len(self._store.class_names), self._store.class_names
        return _Truth(labels, self._store.classes(index), model.num_classes)

    def _evaluate(
        self, model: SegmentationModel, image: NDArray[np.uint8], truth: "_Truth", where: str
    ) -> tuple[dict[str, float], Prediction]:
        """Return the losses by name and the prediction of a whole image."""
        batch = self._batch(image, truth)
        with autocast(self._device, self._dtype):
            losses, [prediction] = model.training_step(batch), model.predict(batch.images)
        return _finite(losses, where), prediction

    def _evaluate_detections(
        self, model: DetectionModel, image: NDArray[np.uint8], truth: "_Truth", where: str
    ) -> tuple[dict[str, float], Detections]:
        """Return the losses by name and what was found in a whole image."""
        with autocast(self._device, self._dtype):
            losses, [detections] = model.evaluate(self._batch(image, truth))
        return _finite(losses, where), detections

    def _evaluate_dense(
        self, model: DenseModel, image: NDArray[np.uint8], truth: "_Truth", where: str
    ) -> tuple[dict[str, float], NDArray[np.float32]]:
        """Return the losses by name and the stitched maps; of tiles their mean, weighted by their annotated pixels."""
        height, width = truth.labels.shape
        tile_px, overlap_px = tiles_seen(
            height, width, tile_px=self._tile_px, overlap_px=self._tile_overlap_px
        )
        tiles = tile_grid(height, width, tile_px=tile_px, overlap_px=overlap_px)
        losses, parts, weights = [], [], []
        for tile in tiles:
            of_tile = truth._replace(labels=truth.labels[tile.window])
            with autocast(self._device, self._dtype):
                named, maps = model.evaluate(self._batch(image[tile.window], of_tile))
            losses.append(_finite(named, where))
            weights.append(int(np.count_nonzero(of_tile.labels >= 0)))
            parts.append((tile, maps[0].float().cpu().numpy()))
        if len(parts) == 1:
            return losses[0], parts[0][1]
        stitched = stitch(parts, height, width, overlap_px=overlap_px)
        return _means(losses, weights), stitched

    def _batch(self, image: NDArray[np.uint8], truth: "_Truth") -> TensorBatch:
        return TensorBatch(
            images=self._to_device(image),
            labels=self._to_device(truth.labels),
            classes=None if truth.classes is None else self._to_device(truth.classes).long(),
        )

    def _to_device(self, array: NDArray[Any]) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self._device)[None]


def loss_metrics(total: str, losses: Mapping[str, float]) -> dict[str, float]:
    """Return the sum of losses under the name `total`; if there are several, also each one as `total_name`."""
    each = {f"{total}_{name}": loss for name, loss in losses.items()} if len(losses) > 1 else {}
    return {total: math.fsum(losses.values()), **each}


def _finite(losses: dict[str, torch.Tensor], where: str) -> dict[str, float]:
    values = {name: float(loss) for name, loss in losses.items()}
    for name, value in values.items():
        if not math.isfinite(value):
            raise NonFiniteLossError(f"validation loss '{name}' became {value} at {where}")
    return values


def _means(losses: Sequence[Mapping[str, float]], weights: Sequence[int] | None = None) -> dict[str, float]:
    if weights is not None and len(set(weights)) > 1:
        return {
            name: math.fsum(each[name] * weight for each, weight in zip(losses, weights, strict=True))
            / sum(weights)
            for name in losses[0]
        }
    return {name: math.fsum(each[name] for each in losses) / len(losses) for name in losses[0]}


class _Truth(NamedTuple):
    """What is true of an image."""

    labels: NDArray[np.int32]
    """int32[H, W], instance label map."""
    classes: NDArray[np.int32] | None = None
    """int32[L], class by label; None where no classes are learned."""
    num_classes: int = 0


class _Compared(NamedTuple):
    """What an image adds to the metrics."""

    comparison: ImageComparison
    class_sums: NDArray[np.float64] | None
    """See `class_sums`; None where no classes are learned."""


def _compared(truth: _Truth, cut: Callable[[], Prediction]) -> _Compared:
    found = cut()
    sums = None
    if truth.classes is not None:
        classes = table_of(found.classes)
        sums = class_sums(truth.labels, truth.classes, found.labels, classes, truth.num_classes)
    return _Compared(compare(truth.labels, found.labels), sums)


class _Ordered:
    """Comparisons computed by a worker, in the order of submission, with few images waiting at a time."""

    def __init__(self, worker: ThreadPoolExecutor) -> None:
        self._worker = worker
        self._pending: deque[Future[_Compared]] = deque()
        self._done: list[_Compared] = []

    def submit(self, function: Callable[..., _Compared], *arguments: Any) -> None:
        while len(self._pending) >= _MAX_PENDING:
            self._done.append(self._pending.popleft().result())
        self._pending.append(self._worker.submit(function, *arguments))

    def results(self) -> list[_Compared]:
        while self._pending:
            self._done.append(self._pending.popleft().result())
        return self._done
