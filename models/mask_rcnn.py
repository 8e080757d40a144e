"""Mask R-CNN (He et al. 2017, arXiv 1703.06870): proposals from a feature pyramid, each classified and masked.

It is built from torchvision's parts with their names, so torchvision's weights load. Three things differ: every image
of a batch has the same size, masks are never unrolled over the image, and losses are also computed in eval mode.

Shapes: B batch, H rows, W columns, A anchors, P proposals, M cells of a mask's side.
"""

from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection.roi_heads import fastrcnn_loss  # type: ignore[import-untyped]
from torchvision.models.detection.rpn import concat_box_prediction_layers  # type: ignore[import-untyped]

from searcher.models.anchors import Anchors
from searcher.models.base import DetectionModel, ModelParts
from searcher.models.boxes import Instances, find_instances, mask_targets, unannotated_share
from searcher.models.class_branch import UNKNOWN, class_loss, weights_of
from searcher.models.detector import build_detector
from searcher.models.detector_weights import load_into_detector, pretrained_detector
from searcher.models.instances import instances_from_detections
from searcher.models.parts import BACKBONES
from searcher.models.registry import register
from searcher.models.settings import MaskRCNNSettings, ModelSettings, ObjectStatistics, PostprocessSettings
from searcher.models.stems import as_stem_input, imagenet_statistics, stem_channels
from searcher.models.targets import has_unannotated
from searcher.models.values import Detections, Prediction, TensorBatch

__all__ = ["MaskRCNN"]

_COCO = ObjectStatistics(small_px=32, large_px=512, aspect=2.0, max_per_image=50)
"""Anchors and detections that a model has whose settings leave them open, until it gets a state: torchvision's."""
_MIN_SIDE_PX = 2
"""Instances smaller than that in the network's input are nothing to learn a mask from: a crop's slivers, mostly."""
_MOST_UNANNOTATED = 0.5
"""Of a box on background."""
_SIZE_MULTIPLE = 32
_MIN_INPUT_PX = 64
"""A norm over a single value is undefined, so that the deepest level keeps 2 x 2 positions."""
_ANCHORS, _PROPOSALS = "rpn.anchor_generator.", "rpn.head."
"""In the state dictionary: the anchors, and the weights that mean corrections of them."""


class _Proposed(NamedTuple):
    """A batch as far as the proposal network has brought it."""

    features: dict[str, Tensor]
    """float[B, channels, rows, columns] by level."""
    objectness: Tensor
    """float32[B, A], logits."""
    deltas: Tensor
    """float32[B, A, 4], corrections of the anchors."""
    anchors: Tensor
    """float32[A, 4], in pixels of the input."""
    proposals: list[Tensor]
    """float32[P, 4] for each image, in the same way."""
    image_size: tuple[int, int]
    """Height and width that the image has in the input, which padding makes larger."""
    padded_size: tuple[int, int]


@register("mask_rcnn", MaskRCNNSettings)
class MaskRCNN(DetectionModel):
    """A backbone with a feature pyramid, a region proposal network, a box head and a mask head.

    A class branch, if there are classes, says of each box which class its instance has, from the box head's features.
    Boxes, scores and masks do not depend on it: an instance of any class has one box, and instances of all
    classes compete by score. The probabilities are those of one softmax over background and all classes: that of an
    instance, times that of a class among instances. An instance of unknown class is trained to be an instance. It has
    no part in the branch's loss.

    The sizes of the anchors and the largest number of detections per image are buffers. So a checkpoint restores them
    with its weights, also for other data.

    Args:
        postprocess: How detections become instances.
        settings: The fields of `MaskRCNNSettings` except `name`. Fields that are left to the data have torchvision's
            defaults until a state is loaded. Training fills them in first, with `MaskRCNNSettings.with_objects`.
    """

    detections_per_image: Tensor
    """int64[]."""
    class_weights: Tensor | None
    """float32[K]."""
    _mean: Tensor
    _std: Tensor

    def __init__(self, *, postprocess: PostprocessSettings | None = None, **settings: Any) -> None:
        super().__init__()
        self.postprocess = postprocess or PostprocessSettings()
        self.settings = MaskRCNNSettings(**settings)
        complete = self.settings.with_objects(_COCO)
        anchors = Anchors(
            smallest_px=complete.anchor_min_px, octaves=complete.anchor_octaves, aspect=complete.anchor_aspect
        )
        self.backbone, self.rpn, self.roi_heads = build_detector(self.settings, anchors)
        self.register_buffer("detections_per_image", torch.tensor(complete.detections_per_image))
        self.num_classes = self.settings.num_classes
        self.class_branch: nn.Linear | None = None
        if self.num_classes:
            self.class_branch = nn.Linear(self.settings.box_layer, self.num_classes)
            nn.init.normal_(self.class_branch.weight, std=0.01)
            nn.init.zeros_(self.class_branch.bias)
        self.register_buffer("class_weights", weights_of(self.settings.class_weights), persistent=False)
        mean, std = imagenet_statistics(stem_channels(self.settings.channels))
        self.register_buffer("_mean", mean, persistent=False)
        self.register_buffer("_std", std, persistent=False)

    @property
    def postprocess_keys(self) -> tuple[str, ...]:
        """The settings that choose among detections and cut their masks; see `SegmentationModel.postprocess_keys`."""
        return ("min_score", "threshold", "max_overlap", "min_object_area_px")

    def parts(self) -> ModelParts:
        """Return the backbone as encoder, and the predictors with the class branch as head; see `SegmentationModel`.

        The feature pyramid is not part of the encoder: like a U-Net's decoder, it combines the levels for the task.
        `trainable_layers`, too, concerns the backbone alone.
        """
        heads = self.roi_heads
        branch = [] if self.class_branch is None else [self.class_branch]
        return ModelParts(
            encoder=[self.backbone.body], head=[heads.box_predictor, heads.mask_predictor, *branch]
        )

    def transferable(self, fitting: Collection[str], settings: ModelSettings) -> set[str]:
        """Return the names of the learned tensors among `fitting`; see `SegmentationModel.transferable`.

        The proposal network's weights are corrections of its anchors. So the anchors are taken over with those weights,
        unless the settings define the anchors' size or shape. The largest number of detections per image is never taken
        over.
        """
        assert isinstance(settings, MaskRCNNSettings)
        weights = [name for name in self.state_dict() if name.startswith(_PROPOSALS)]
        are_corrections = all(name in fitting for name in weights)
        taken = {name for name in fitting if not name.startswith(("detections_per_image", _ANCHORS))}
        if are_corrections and not (settings.anchor_min_px or settings.anchor_octaves):
            taken.add(f"{_ANCHORS}sides_px")
        if are_corrections and not settings.anchor_aspect:
            taken.add(f"{_ANCHORS}ratios")
        return taken & {*fitting}

    def forward(self, images: Tensor) -> tuple[dict[str, Tensor], Tensor, Tensor, list[tuple[int, int]]]:
        """Return the feature pyramid of the images and the proposal network's output: everything of fixed size.

        Args:
            images: uint8[B, H, W, C], with the channels that the network was built for.

        Returns:
            Four values: the features by level; objectness logits float32[B, A] of A anchors; box corrections float32[B,
            A, 4]; and height and width of each level.
        """
        rows, columns = self._input_size(*images.shape[1:3])
        x = images.permute(0, 3, 1, 2).to(self._mean.dtype) / 255
        if (rows, columns) != images.shape[1:3]:
            is_smaller = rows < images.shape[1]
            x = F.interpolate(x, (rows, columns), mode="bilinear", align_corners=False, antialias=is_smaller)
        x = (as_stem_input(x) - self._mean) / self._std
        padded_rows, padded_columns = _padded(rows), _padded(columns)
        x = F.pad(x, (0, padded_columns - columns, 0, padded_rows - rows))
        features = self.backbone(x)
        logits, deltas = self.rpn.head(list(features.values()))
        grid_sizes = [tuple(level.shape[-2:]) for level in logits]
        objectness, corrections = concat_box_prediction_layers(logits, deltas)
        objectness, corrections = objectness.float(), corrections.float()
        return features, objectness.view(len(x), -1), corrections.view(len(x), -1, 4), grid_sizes

    def training_step(self, batch: TensorBatch) -> dict[str, Tensor]:
        """Return the losses `objectness`, `rpn_box`, `classifier`, `box`, `mask`, and with classes `class`, of a batch.

        Each is a float32 scalar.

        The losses are computed on a sample of the anchors and proposals; see `Sampler`. Background anchors and
        proposals are left out if more than half of their pixels are not annotated: there may be an instance that nobody
        drew.
        """
        return self._losses(self._propose(batch.images), batch)

    @torch.no_grad()
    def detect(self, images: Tensor) -> list[Detections]:
        """Return the detections of each image; see `DetectionModel.detect`."""
        return self._detections(self._propose(images), (images.shape[1], images.shape[2]))

    @torch.no_grad()
    def evaluate(self, batch: TensorBatch) -> tuple[dict[str, Tensor], list[Detections]]:
        """Return losses by name and the detections of each image, without gradients, from one pass of the backbone.

        See `DetectionModel.evaluate`.
        """
        proposed = self._propose(batch.images)
        size = (batch.images.shape[1], batch.images.shape[2])
        return self._losses(proposed, batch), self._detections(proposed, size)

    def instances_from_detections(self, detections: Detections) -> Prediction:
        """Return the instances of one image, by `searcher.models.instances.instances_from_detections`."""
        return instances_from_detections(detections, self.postprocess)

    def _propose(self, images: Tensor) -> _Proposed:
        height, width = images.shape[1:3]
        image_size = self._input_size(height, width)
        padded_size = (_padded(image_size[0]), _padded(image_size[1]))
        features, objectness, deltas, grid_sizes = self(images)
        anchors = self.rpn.anchor_generator(
            grid_sizes, input_size=padded_size, scale=self._scale(height, width)
        )
        with torch.no_grad():  # proposals are data to what follows
            boxes = self.rpn.box_coder.decode(deltas.reshape(-1, 4), [anchors] * len(images))
            num_anchors = [3 * rows * columns for rows, columns in grid_sizes]
            proposals, _ = self.rpn.filter_proposals(
                boxes.view(len(images), -1, 4), objectness, [image_size] * len(images), num_anchors
            )
        return _Proposed(features, objectness, deltas, anchors, proposals, image_size, padded_size)

    def _losses(self, proposed: _Proposed, batch: TensorBatch) -> dict[str, Tensor]:
        """Return all losses by name; the batch's labels stay as they are, boxes are in pixels of the input."""
        labels = batch.labels
        (rows, columns), (height, width) = proposed.image_size, labels.shape[1:]
        scale = min(rows / height, columns / width)
        found = [find_instances(each, min_side_px=_MIN_SIDE_PX / scale) for each in labels]
        ratio = proposed.anchors.new_tensor([columns / width, rows / height] * 2)
        instances = [Instances(each.labels, each.boxes * ratio) for each in found]
        are_unsure = _unsure(labels, ratio) if has_unannotated(labels) else None
        return self._proposal_losses(proposed, instances, are_unsure) | self._head_losses(
            proposed, batch, instances, ratio, are_unsure
        )

    def _proposal_losses(
        self, proposed: _Proposed, instances: list[Instances], are_unsure: "_Unsure | None"
    ) -> dict[str, Tensor]:
        anchors = [proposed.anchors] * len(instances)
        targets = [{"boxes": each.boxes} for each in instances]
        classes, boxes = self.rpn.assign_targets_to_anchors(anchors, targets)
        if are_unsure is not None:
            classes = are_unsure(classes, anchors)
            if not any((each >= 0).any() for each in classes):
                nothing = (proposed.objectness.sum() + proposed.deltas.sum()) * 0
                return {"objectness": nothing, "rpn_box": nothing}
        corrections = self.rpn.box_coder.encode(boxes, anchors)
        objectness, box = self.rpn.compute_loss(
            proposed.objectness, proposed.deltas.reshape(-1, 4), classes, corrections
        )
        return {"objectness": objectness, "rpn_box": box}

    def _head_losses(
        self,
        proposed: _Proposed,
        batch: TensorBatch,
        instances: list[Instances],
        ratio: Tensor,
        are_unsure: "_Unsure | None",
    ) -> dict[str, Tensor]:
        heads = self.roi_heads
        truth = [each.boxes for each in instances]
        proposals = heads.add_gt_proposals(proposed.proposals, truth)
        matched, classes = heads.assign_targets_to_proposals(
            proposals, truth, [torch.ones(len(each), dtype=torch.int64, device=each.device) for each in truth]
        )
        if are_unsure is not None:
            classes = are_unsure(classes, proposals)
        sampled = heads.subsample(classes)
        proposals, matched, classes = (
            [each[index] for each, index in zip(lists, sampled, strict=True)]
            for lists in (proposals, matched, classes)
        )
        boxes = [
            each.boxes[index] if len(each.boxes) else index.new_zeros((len(index), 4), dtype=torch.float32)
            for each, index in zip(instances, matched, strict=True)
        ]
        corrections = heads.box_coder.encode(boxes, proposals)
        of_boxes = self._of_boxes(proposed, proposals)
        logits, deltas = self._classify(of_boxes)
        if not len(logits):  # every proposal lies beyond the image's border
            nothing = (logits.sum() + deltas.sum()) * 0
            losses = {"classifier": nothing, "box": nothing, "mask": self._no_mask_loss()}
            return losses | self._class_loss(of_boxes, torch.cat(classes), [], None)
        classifier, box = fastrcnn_loss(logits, deltas, classes, corrections)
        is_instance = [each > 0 for each in classes]
        proposals = [each[index] for each, index in zip(proposals, is_instance, strict=True)]
        ids = [
            each.labels[index[chosen]]
            for each, index, chosen in zip(instances, matched, is_instance, strict=True)
        ]
        losses = {
            "classifier": classifier,
            "box": box,
            "mask": self._mask_loss(
                proposed, batch.labels, proposals, ids, ratio, is_partial=are_unsure is not None
            ),
        }
        return losses | self._class_loss(of_boxes, torch.cat(classes), ids, batch.classes)

    def _class_loss(
        self, of_boxes: Tensor, is_instance: Tensor, ids: list[Tensor], classes: Tensor | None
    ) -> dict[str, Tensor]:
        """Return `class`, the cross-entropy of the boxes on instances of known class; nothing if none is learned.

        Args:
            of_boxes: float[N, features], of the boxes of all images.
            is_instance: int64[N], above 0 where a box lies on an instance.
            ids: The labels of those instances, for each image.
            classes: As `TensorBatch.classes`.
        """
        if self.class_branch is None:
            return {}
        logits = self.class_branch(of_boxes)[is_instance > 0]
        targets = torch.full((len(logits),), UNKNOWN, dtype=torch.int64, device=logits.device)
        if classes is not None and ids:
            known = [table[labels.long()] for table, labels in zip(classes, ids, strict=True)]
            targets = torch.cat(known) - 1
        return {"class": class_loss(logits, targets, self.class_weights)}

    def _mask_loss(
        self,
        proposed: _Proposed,
        labels: Tensor,
        boxes: list[Tensor],
        ids: list[Tensor],
        ratio: Tensor,
        *,
        is_partial: bool,
    ) -> Tensor:
        """Return the binary cross-entropy of the masks of boxes that lie on an instance, in nats a cell.

        Cells with a pixel that is not annotated do not count. `ratio` float32[4] is pixels of the input per pixel of a
        label map: targets are taken from the map itself.
        """
        if not any(len(each) for each in boxes):
            return self._no_mask_loss()
        logits = self._mask_logits(proposed, boxes)
        targets = [
            mask_targets(label_map, label, box / ratio, size=logits.shape[-1])
            for label_map, label, box in zip(labels, ids, boxes, strict=True)
        ]
        if not is_partial:
            return F.binary_cross_entropy_with_logits(logits, torch.cat(targets))
        shares = [
            mask_targets(
                label_map.clamp(-1, 0), torch.full_like(label, -1), box / ratio, size=logits.shape[-1]
            )
            for label_map, label, box in zip(labels, ids, boxes, strict=True)
        ]
        is_known = torch.cat(shares) == 0
        loss = F.binary_cross_entropy_with_logits(logits, torch.cat(targets), reduction="none")
        return (loss * is_known).sum() / is_known.sum().clamp(min=1)

    def _no_mask_loss(self) -> Tensor:
        """Return 0, with a gradient of 0 for the mask head. (A norm has no statistics of no masks.)"""
        heads: tuple[nn.Module, ...] = (self.roi_heads.mask_head, self.roi_heads.mask_predictor)
        return torch.stack([p.sum() for head in heads for p in head.parameters()]).sum() * 0

    def _of_boxes(self, proposed: _Proposed, boxes: list[Tensor]) -> Tensor:
        """Return float[N, box_layer], the box head's features of the boxes of all images together."""
        heads = self.roi_heads
        pooled = heads.box_roi_pool(proposed.features, boxes, [proposed.padded_size] * len(boxes))
        features: Tensor = heads.box_head(pooled)
        return features

    def _classify(self, of_boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits float32[N, 2] of background and instance, and corrections float32[N, 8].

        Args:
            of_boxes: float[N, box_layer], as `_of_boxes` gives them.
        """
        logits, deltas = self.roi_heads.box_predictor(of_boxes)
        return logits.float(), deltas.float()

    def _class_probabilities(self, proposed: _Proposed, boxes: list[Tensor]) -> list[Any]:
        """Return float32[n, K] of the found boxes of each image, None for each if no classes are learned.

        They are read once more where the corrected boxes lie, as the masks are.
        """
        if self.class_branch is None:
            return [None] * len(boxes)
        if not any(len(each) for each in boxes):
            return [np.zeros((0, self.num_classes), np.float32)] * len(boxes)
        logits = self.class_branch(self._of_boxes(proposed, boxes)).float()
        parts = logits.softmax(dim=1).split([len(each) for each in boxes])
        return [each.cpu().numpy() for each in parts]

    def _mask_logits(self, proposed: _Proposed, boxes: list[Tensor]) -> Tensor:
        """Return float32[N, M, M] for the boxes of all images together."""
        heads = self.roi_heads
        pooled = heads.mask_roi_pool(proposed.features, boxes, [proposed.padded_size] * len(boxes))
        logits: Tensor = heads.mask_predictor(heads.mask_head(pooled))
        return logits[:, 1].float()

    def _detections(self, proposed: _Proposed, size: tuple[int, int]) -> list[Detections]:
        heads, num_images = self.roi_heads, len(proposed.proposals)
        heads.detections_per_img = int(self.detections_per_image)
        boxes, scores, _ = heads.postprocess_detections(
            *self._classify(self._of_boxes(proposed, proposed.proposals)),
            proposed.proposals,
            [proposed.image_size] * num_images,
        )
        num_found = [len(each) for each in boxes]
        cells = 2 * heads.mask_roi_pool.output_size[0]
        masks = (
            self._mask_logits(proposed, boxes).sigmoid()
            if any(num_found)
            else scores[0].new_zeros((0, cells, cells))
        )
        rows, columns = proposed.image_size
        ratio = masks.new_tensor([size[1] / columns, size[0] / rows] * 2)
        of_classes = self._class_probabilities(proposed, boxes)
        return [
            Detections(size, (box * ratio).cpu().numpy(), score.cpu().numpy(), mask.cpu().numpy(), of_class)
            for box, score, mask, of_class in zip(
                boxes, scores, masks.split(num_found), of_classes, strict=True
            )
        ]

    def _scale(self, height: int, width: int) -> float:
        """Return pixels of the network's input per pixel of an image."""
        settings = self.settings
        short, long = sorted((height, width))
        return settings.input_scale or min(settings.min_size_px / short, settings.max_size_px / long)

    def _input_size(self, height: int, width: int) -> tuple[int, int]:
        """Return the height and width that an image has in the network's input, without padding."""
        scale = self._scale(height, width)
        return max(1, int(height * scale + 1e-6)), max(1, int(width * scale + 1e-6))

    @classmethod
    def fetch_pretrained(cls, settings: ModelSettings) -> None:
        """Download the pretrained weights if they are not on this machine; see `SegmentationModel.fetch_pretrained`."""
        assert isinstance(settings, MaskRCNNSettings)
        pretrained_detector(settings)

    def load_pretrained(self) -> None:
        """Load the weights that the setting `weights` names; see `SegmentationModel.load_pretrained`."""
        state = pretrained_detector(self.settings)
        if state is not None:
            stem = BACKBONES[self.settings.backbone].stem
            load_into_detector(self, state, source=f"model.weights={self.settings.weights}", stem=stem)


_Unsure = Callable[[list[Tensor], list[Tensor]], list[Tensor]]


def _unsure(labels: Tensor, ratio: Tensor) -> _Unsure:
    """Return what makes the class of boxes on background -1, which no loss looks at, where that is not annotated.

    Args:
        labels: int32[B, H, W].
        ratio: float32[4], pixels of the boxes per pixel of a label map.
    """

    def mark(classes: list[Tensor], boxes: list[Tensor]) -> list[Tensor]:
        return [
            of_image.masked_fill(
                (of_image == 0) & (unannotated_share(label_map, box / ratio) > _MOST_UNANNOTATED), -1
            )
            for of_image, label_map, box in zip(classes, labels, boxes, strict=True)
        ]

    return mark


def _padded(size: int) -> int:
    return max(_MIN_INPUT_PX, -(-size // _SIZE_MULTIPLE) * _SIZE_MULTIPLE)
