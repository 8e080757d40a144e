"""What dense models and heads have in common: a way from a network's maps to the maps that instances are cut from."""

from typing import Any

from numpy.typing import NDArray

from searcher.models.values import InstanceMaps
from searcher.renamed import warn_of_old_name

__all__ = ["HasInstanceMaps"]


class HasInstanceMaps:
    """Base of classes with a method `instance_maps`, which was called `evidence` up to version 0.2.0.

    A class of a plug-in may define the method under either name.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        own = vars(cls)
        if "evidence" in own and "instance_maps" not in own:
            warn_of_old_name(f"{cls.__qualname__}.evidence", "instance_maps")
            cls.instance_maps = own["evidence"]  # type: ignore[attr-defined]
        super().__init_subclass__(**kwargs)

    def evidence(self, maps: NDArray[Any]) -> InstanceMaps:
        """Return the result of `instance_maps`, whose old name this is. Warns that the name is old.

        Args:
            maps: float32[C, H, W], the maps of one image.
        """
        warn_of_old_name(f"{type(self).__qualname__}.evidence", "instance_maps")
        found: InstanceMaps = self.instance_maps(maps)  # type: ignore[attr-defined]
        return found
