"""`--normalisation`: another way to 0..255 than that of the training."""

import argparse
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from searcher.inference.predictor import Predictor

__all__ = ["add_normalisation", "normalise_as_wished"]


def add_normalisation(parser: argparse.ArgumentParser) -> None:
    """Add the option."""
    parser.add_argument(
        "--normalisation",
        choices=("bundle", "fixed", "percentile"),
        default="bundle",
        help="how values become 0..255: as in training (bundle, the default), as they are (fixed), or by two "
        "percentiles of each image and channel, which takes the exposure out",
    )


def normalise_as_wished(predictor: "Predictor", wish: str, configs: Iterable[Mapping[str, Any]]) -> None:
    """Let a predictor take images as the option says.

    Args:
        predictor: Changed in place.
        wish: The option.
        configs: Of its networks. Those from before normalisation say nothing of it: dark images are brightened.
    """
    from searcher.data_pipeline.normalisation import Normalisation

    kind = predictor.kind
    if wish == "bundle" and not all("normalisation" in config.get("data", {}) for config in configs):
        predictor.kind = replace(kind, normalisation=replace(kind.normalisation, brightens_dark=True))
    if wish == "bundle" or wish == kind.normalisation.kind:
        return
    normalisation = Normalisation("percentile" if wish == "percentile" else "fixed")
    predictor.kind = replace(kind, normalisation=normalisation)
