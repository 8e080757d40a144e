"""The parts of a Mask R-CNN (He et al. 2017, arXiv 1703.06870), as torchvision builds and names them.

The names in the state dictionary are torchvision's, so that its weights load.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torchvision.models.detection.backbone_utils import BackboneWithFPN  # type: ignore[import-untyped]
from torchvision.models.detection.faster_rcnn import (  # type: ignore[import-untyped]
    FastRCNNConvFCHead,
    FastRCNNPredictor,
    TwoMLPHead,
)
from torchvision.models.detection.mask_rcnn import (  # type: ignore[import-untyped]
    MaskRCNNHeads,
    MaskRCNNPredictor,
)
from torchvision.models.detection.roi_heads import RoIHeads  # type: ignore[import-untyped]
from torchvision.models.detection.rpn import (  # type: ignore[import-untyped]
    RegionProposalNetwork,
    RPNHead,
)
from torchvision.ops import FrozenBatchNorm2d, MultiScaleRoIAlign  # type: ignore[import-untyped]

from searcher.models.anchors import Anchors
from searcher.models.backbones import BackboneParts, NormLayer, group_norm, norm_layer
from searcher.models.parts import BACKBONES
from searcher.models.settings import MaskRCNNSettings

__all__ = ["BoxSampler", "DetectorParts", "build_detector"]

_NUM_CLASSES = 2  # background, instance
_BOX_CELLS, _MASK_CELLS = 7, 14


class DetectorParts(NamedTuple):
    """The three stages of the detector; torchvision's modules."""

    backbone: Any
    """Image to feature pyramid."""
    rpn: Any
    """Feature pyramid to proposals."""
    roi_heads: Any
    """Proposals to scored boxes with masks."""


class BoxSampler(nn.Module):
    """Draws at random the anchors or proposals of each image that the losses are computed on.

    In train mode the numbers come from torch's global generator. In eval mode they come from a generator of their own
    that restarts at each call. So the same images have the same loss, and no other random numbers change.

    Args:
        num_samples: Number to draw for each image; all if there are fewer.
        positive_fraction: Largest share of the drawn ones that lies on an instance, 0 to 1.
    """

    def __init__(self, num_samples: int, positive_fraction: float) -> None:
        super().__init__()
        self._num_samples = num_samples
        self._num_positive = int(num_samples * positive_fraction)

    def forward(self, classes: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Return two lists of masks bool[N], one mask an image: the drawn positives, and the drawn negatives.

        Args:
            classes: One tensor [N] for each image: above 0 on an instance, 0 on background, below 0 on neither.
        """
        device = classes[0].device
        generator = None if self.training else torch.Generator(device).manual_seed(0)
        positive, negative = [], []
        for each in classes:
            chosen = _draw(each > 0, self._num_positive, generator)
            num_left = self._num_samples - int(chosen.count_nonzero())
            positive.append(chosen)
            negative.append(_draw(each == 0, num_left, generator))
        return positive, negative


def _draw(candidates: Tensor, num: int, generator: torch.Generator | None) -> Tensor:
    """Return `num` of the candidates, or all where there are fewer; bool[N]."""
    [indices] = torch.nonzero(candidates, as_tuple=True)
    order = torch.randperm(len(indices), generator=generator, device=indices.device)[:num]
    drawn = torch.zeros_like(candidates)
    drawn[indices[order]] = True
    return drawn


def build_detector(settings: MaskRCNNSettings, anchors: Anchors) -> DetectorParts:
    """Return the backbone, proposal network and heads of a detector, with fresh weights and the frozen layers frozen.

    Args:
        settings: Structure and thresholds.
        anchors: Makes the boxes that proposals start from; becomes a part of the proposal network.
    """
    channels, is_v2 = settings.fpn_channels, settings.version == "v2"
    norm = norm_layer(settings.resolved_norm)
    # A frozen norm without statistics of its own does nothing, and only COCO's weights have them outside the backbone.
    is_without_statistics = settings.resolved_norm == "frozen" and settings.weights == "imagenet"
    head_norm = (group_norm if is_without_statistics else norm) if is_v2 else None

    rpn = RegionProposalNetwork(
        anchors,
        RPNHead(channels, len(anchors.ratios), conv_depth=2 if is_v2 else 1),
        fg_iou_thresh=settings.rpn_foreground_iou,
        bg_iou_thresh=settings.rpn_background_iou,
        batch_size_per_image=settings.rpn_samples,
        positive_fraction=0.5,
        pre_nms_top_n={"training": settings.rpn_proposals, "testing": settings.rpn_proposals},
        post_nms_top_n={"training": settings.rpn_proposals, "testing": settings.rpn_proposals},
        nms_thresh=settings.rpn_nms_threshold,
    )
    rpn.fg_bg_sampler = BoxSampler(settings.rpn_samples, 0.5)

    box_head = (
        FastRCNNConvFCHead(
            (channels, _BOX_CELLS, _BOX_CELLS), [channels] * 4, [settings.box_layer], norm_layer=head_norm
        )
        if is_v2
        else TwoMLPHead(channels * _BOX_CELLS**2, settings.box_layer)
    )
    roi_heads = RoIHeads(
        box_roi_pool=_pooling(_BOX_CELLS),
        box_head=box_head,
        box_predictor=FastRCNNPredictor(settings.box_layer, _NUM_CLASSES),
        fg_iou_thresh=settings.box_foreground_iou,
        bg_iou_thresh=settings.box_foreground_iou,
        batch_size_per_image=settings.box_samples,
        positive_fraction=0.25,
        bbox_reg_weights=None,
        score_thresh=settings.box_score_threshold,
        nms_thresh=settings.box_nms_threshold,
        detections_per_img=0,  # the model's buffer decides
        mask_roi_pool=_pooling(_MASK_CELLS),
        mask_head=MaskRCNNHeads(channels, [channels] * 4, 1, norm_layer=head_norm),
        mask_predictor=MaskRCNNPredictor(channels, settings.mask_layer, _NUM_CLASSES),
    )
    roi_heads.fg_bg_sampler = BoxSampler(settings.box_samples, 0.25)
    _calm(roi_heads)
    return DetectorParts(_build_backbone(settings, head_norm), rpn, roi_heads)


def _build_backbone(settings: MaskRCNNSettings, fpn_norm: NormLayer | None) -> nn.Module:
    parts: BackboneParts = BACKBONES[settings.backbone].made(
        options=settings.options.get(settings.backbone),
        channels=settings.channels,
        norm=settings.resolved_norm,
    )
    num_trained = len(parts.stages) if settings.weights == "none" else settings.trainable_layers
    trained = tuple(name for stage in parts.stages[:num_trained] for name in stage)
    for name, parameter in parts.body.named_parameters():
        parameter.requires_grad_(name.startswith(trained))
    pyramid: nn.Module = BackboneWithFPN(
        parts.body,
        return_layers={name: str(number) for number, name in enumerate(parts.levels)},
        in_channels_list=parts.channels,
        out_channels=settings.fpn_channels,
        norm_layer=fpn_norm,
    )
    if settings.weights == "coco" and settings.version == "v1":
        _forget_epsilon(pyramid)
    return pyramid


def _calm(roi_heads: RoIHeads) -> None:
    """Let fresh predictors begin undecided, with the deviations of Detectron2.

    With torchvision's initial weights, the masks' logits have a standard deviation of tens. The first loss is then 5 to
    10 nats, and the steps are equally large.
    """
    for layer, deviation in (
        (roi_heads.box_predictor.cls_score, 0.01),
        (roi_heads.box_predictor.bbox_pred, 0.001),
        (roi_heads.mask_predictor.mask_fcn_logits, 0.001),
    ):
        nn.init.normal_(layer.weight, std=deviation)
        nn.init.zeros_(layer.bias)


def _pooling(num_cells: int) -> nn.Module:
    pooling: nn.Module = MultiScaleRoIAlign(["0", "1", "2", "3"], output_size=num_cells, sampling_ratio=2)
    return pooling


def _forget_epsilon(module: nn.Module) -> None:
    """Make the frozen norms compute as they did when torchvision's first COCO weights were trained, without epsilon."""
    for each in module.modules():
        if isinstance(each, FrozenBatchNorm2d):
            each.eps = 0.0
