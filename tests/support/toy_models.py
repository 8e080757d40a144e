"""Models whose predictions are known: what an image's colours say is what they predict."""

import numpy as np
import torch

from searcher.models.base import DenseModel, DetectionModel, ModelParts
from searcher.models.settings import PostprocessSettings
from searcher.models.values import Detections, InstanceMaps, Prediction, TensorBatch


class RedIsProbability(DenseModel):
    """Its one map is the red channel by 255, times a factor."""

    postprocess_keys = ("threshold", "min_object_area_px")
    kind_of_maps = "red"

    def __init__(self, factor: float = 1.0, postprocess: PostprocessSettings | None = None) -> None:
        super().__init__()
        self.factor = factor
        self.postprocess = postprocess or PostprocessSettings()
        self.sizes: list[tuple[int, ...]] = []

    def parts(self) -> ModelParts:
        raise NotImplementedError

    def training_step(self, batch: TensorBatch) -> dict[str, torch.Tensor]:
        raise NotImplementedError

    def predict_maps(self, images: torch.Tensor) -> torch.Tensor:
        assert not self.training
        assert not torch.is_grad_enabled()
        self.sizes.append(tuple(images.shape[1:3]))
        return images[..., 0].float()[:, None] / 255 * self.factor

    def instance_maps(self, maps) -> InstanceMaps:
        return InstanceMaps(maps[0])


class OneBox(DetectionModel):
    """Finds the upper left quarter of any image, with the score 0.6."""

    postprocess_keys = ("min_score",)

    def __init__(self) -> None:
        super().__init__()
        self.postprocess = PostprocessSettings()

    def parts(self) -> ModelParts:
        raise NotImplementedError

    def training_step(self, batch: TensorBatch) -> dict[str, torch.Tensor]:
        raise NotImplementedError

    def detect(self, images: torch.Tensor) -> list[Detections]:
        height, width = images.shape[1:3]
        box = np.array([[0, 0, width // 2, height // 2]], np.float32)
        found = Detections((height, width), box, np.array([0.6], np.float32), np.ones((1, 4, 4), np.float32))
        return [found] * len(images)

    def instances_from_detections(self, detections: Detections) -> Prediction:
        labels = np.zeros(detections.size, np.int32)
        if detections.scores[0] > self.postprocess.min_score:
            x1, y1, x2, y2 = detections.boxes[0].astype(int)
            labels[y1:y2, x1:x2] = 1
        return Prediction(labels, detections.scores[: labels.max()])
