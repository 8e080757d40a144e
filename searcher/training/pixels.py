"""What a configuration leaves to the images' depth and channels: how they are normalised, and how many there are."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from searcher.data_pipeline.exposure import choose_for_store
from searcher.data_pipeline.normalisation import Normalisation
from searcher.data_pipeline.store import Store
from searcher.inference.image_kind import ImageKind
from searcher.study.config import DataConfig, TrialConfig
from searcher.training.dataset import trained_on

__all__ = ["PixelFacts", "pixels_of"]

_JITTERED = ("standard", "strong")
"""Presets that change the colours of photographs."""


@dataclass(frozen=True)
class PixelFacts:
    """The channels, type and normalisation of a trial's images."""

    normalisation: Normalisation
    """Resolved: `auto` is no kind."""
    reason: str
    """Why, where it was left to the data; else empty."""
    channels: tuple[str, ...]
    """Names of the images' channels."""
    dtype: Literal["uint8", "uint16"]
    """Type of the images' values in the store."""

    @property
    def are_photographs(self) -> bool:
        """Whether the three channels are the colours of a bright-field photograph, and not dyes."""
        return ImageKind(len(self.channels), self.dtype, self.normalisation).is_colour

    def in_config(self, config: TrialConfig) -> TrialConfig:
        """Return a trial's configuration with normalisation and channels filled in from the images."""
        kind = self.normalisation.kind
        model = config.model.model_copy(update={"channels": len(self.channels)})
        data = config.data.model_copy(update={"normalisation": kind})
        return config.model_copy(update={"data": data, "model": model})

    def left_to_data(self, config: TrialConfig) -> tuple[str, ...]:
        """Return the dotted keys that `in_config` fills in."""
        left = ["data.normalisation"] if config.data.normalisation == "auto" else []
        return (*left, "model.channels") if len(self.channels) != 3 else tuple(left)

    def remarks(self, config: TrialConfig) -> list[str]:
        """Return remarks on the images for the user, one line each; none for photographs."""
        if self.are_photographs:
            return []
        since = f", since {self.reason}" if self.reason else ""
        lines = [
            f"normalisation is {self.normalisation}{since}; {len(self.channels)} channels, {', '.join(self.channels)}"
        ]
        if config.augment.preset in _JITTERED and not config.augment.pipeline:
            lines.append(
                f"augment.preset={config.augment.preset}: hue and staining mean nothing in these images, so brightness "
                "and contrast of each channel are changed instead"
            )
        return lines


def pixels_of(config: TrialConfig, store: Store, resumed: Mapping[str, Any] | None = None) -> PixelFacts:
    """Return the channels, type and normalisation of a trial's images.

    Args:
        config: Configuration from the sampler.
        store: The store of the data set, not normalised.
        resumed: Configuration in the checkpoint from which the trial resumes; its values are kept. None for a new
            trial.
    """
    data = config.data
    reason = ""
    if data.normalisation == "auto" and resumed is not None:
        # An older checkpoint has no such key. Its network saw images as they were.
        data = data.model_copy(
            update={"normalisation": DataConfig.model_validate(resumed["data"]).normalised_by.kind}
        )
    elif data.normalisation == "auto":
        choice = choose_for_store(store, trained_on(store))
        reason = choice.reason
        data = data.model_copy(update={"normalisation": choice.kind})
    return PixelFacts(data.normalised_by, reason, store.channels, store.dtype)
