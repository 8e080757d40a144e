"""Which weights a detector begins from, and how they find their places in it."""

from typing import Any

from torch import Tensor, nn
from torchvision.models.detection import (  # type: ignore[import-untyped]
    MaskRCNN_ResNet50_FPN_V2_Weights,
    MaskRCNN_ResNet50_FPN_Weights,
)
from torchvision.ops import FrozenBatchNorm2d  # type: ignore[import-untyped]

from searcher.models.backbones import BODY
from searcher.models.class_branch import CLASS_BRANCH
from searcher.models.exceptions import WeightsError
from searcher.models.parts import BACKBONES
from searcher.models.pretrained import fetch
from searcher.models.settings import MaskRCNNSettings
from searcher.models.stems import fit_stem

__all__ = ["load_into_detector", "pretrained_detector"]

_PREDICTORS = ("roi_heads.box_predictor.", "roi_heads.mask_predictor.", CLASS_BRANCH)
_FROM_SETTINGS = ("rpn.anchor_generator.", "detections_per_image")
"""Of a detector of ours; the settings decide about them, and the data."""


def pretrained_detector(settings: MaskRCNNSettings) -> dict[str, Tensor] | None:
    """Return the state dictionary of the pretrained weights that the settings name; None if they name none.

    Raises:
        WeightsError: The weights cannot be read or downloaded.
    """
    detectors: dict[str, Any] = {
        "v1": MaskRCNN_ResNet50_FPN_Weights.COCO_V1,
        "v2": MaskRCNN_ResNet50_FPN_V2_Weights.COCO_V1,
    }
    if settings.weights == "coco":
        return fetch(detectors[settings.version])
    weights = BACKBONES[settings.backbone].weights
    state: dict[str, Tensor] | None = None if weights is None else weights(settings.weights)
    return state


def load_into_detector(detector: nn.Module, state: dict[str, Tensor], *, source: str, stem: str) -> None:
    """Load pretrained weights into a detector, in place.

    The weights may be of a detector with torchvision's names, of its backbone only, or of a ResNet classifier, which
    becomes the backbone. A predictor layer of another shape is left out as a whole (COCO has 91 classes).

    Args:
        detector: The detector to fill, with torchvision's names.
        state: Weights by name.
        source: What the weights are, for messages.
        stem: Name of the first layer's weights in the backbone's body; see `Backbone.stem`.

    Raises:
        WeightsError: The weights are of another network. The detector may already hold some of them.
    """
    own = detector.state_dict()
    state = _with_stem(own, state, stem)
    if any(name.startswith("backbone.") and not name.startswith(BODY) for name in state):
        left_out = (*_unfit_predictors(own, state), *_FROM_SETTINGS)
        state = {name: value for name, value in state.items() if not name.startswith(left_out)}
        needed = [name for name in own if not name.startswith((*_PREDICTORS, *_FROM_SETTINGS))]
    else:
        if not any(name.startswith(BODY) for name in state):
            state = {BODY + name: value for name, value in state.items() if not name.startswith("fc.")}
        needed = [name for name in own if name.startswith(BODY)]
    try:
        missing, unknown = detector.load_state_dict(state, strict=False)
    except RuntimeError as error:  # other shapes; the first line only says that there are errors
        first = [line.strip() for line in str(error).splitlines()][:2][-1]
        raise WeightsError(
            f"{source}: must fit the network that the settings describe, got: {first}"
        ) from error
    if unset := [name for name in _frozen_statistics(detector) if name in missing]:
        raise WeightsError(
            f"{source}: must hold what the frozen norms outside the backbone compute with, got weights that lack "
            f"{unset[0]} and {len(unset) - 1} more; use --set model.norm=batch, or weights of a whole detector"
        )
    missing = [name for name in missing if name in needed]
    for what, names in (("lack", missing), ("have beside it", unknown)):
        if names:
            others = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise WeightsError(
                f"{source}: must be of the network that the settings describe, got weights that {what} "
                f"{names[0]}{others}"
            )


def _with_stem(own: dict[str, Tensor], state: dict[str, Tensor], stem: str) -> dict[str, Tensor]:
    """Return weights whose first layer is fitted to the images' channels; see `searcher.models.stems`."""
    kernels = own.get(BODY + stem)
    if kernels is not None:
        for name in (BODY + stem, stem):
            state = fit_stem(state, name, kernels.shape[1])
    return state


def _frozen_statistics(detector: nn.Module) -> list[str]:
    """Return the names of what is neither trained nor learned in passing, outside the backbone."""
    return [
        f"{name}.{key}"
        for name, module in detector.named_modules()
        if isinstance(module, FrozenBatchNorm2d) and not name.startswith(BODY)
        for key in module.state_dict()
    ]


def _unfit_predictors(own: dict[str, Tensor], state: dict[str, Tensor]) -> list[str]:
    """Return the predictors of which a part is missing or of another shape."""

    def fits(name: str) -> bool:
        return name in state and state[name].shape == own[name].shape

    return [
        predictor
        for predictor in _PREDICTORS
        if not all(fits(name) for name in own if name.startswith(predictor))
    ]
