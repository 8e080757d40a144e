"""Sizes in pixels that a configuration may leave to the data, and what they are then. Imports no torch."""

from typing import Any, NamedTuple

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

__all__ = ["AUTO", "ObjectStatistics", "OrAuto", "contour_widths", "distance_caps", "fitted_size"]

AUTO = -1
"""What `"auto"` is in a configuration, until it is fitted to the data. No size is negative."""
_WORD = "auto"
_WIDEST_CONTOUR_PX = 12
_DEEPEST_PX = 256
"""Largest cap of the distance to the border."""
_USUAL_CAP_PX, _USUAL_SIGMA_PX = 16, 5.0
"""What was measured on GlaS; small objects get less."""


class OrAuto:
    """Marks a field that may be set to `"auto"`, as in `Annotated[int, Field(ge=0), OrAuto()]`.

    The settings then hold the number `AUTO`, until it is replaced by a size computed from the data.
    """

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Return the number's schema, before which the word is looked for, and behind which it is written again."""
        written = core_schema.plain_serializer_function_ser_schema(_written)
        return core_schema.no_info_wrap_validator_function(_read, handler(source), serialization=written)


def _read(value: Any, number: Any) -> Any:
    if isinstance(value, str):
        if value == _WORD:
            return AUTO
        raise PydanticCustomError("size_or_auto", 'must be a number of pixels or "auto"')
    return number(value)


def _written(value: float) -> float | str:
    return _WORD if value == AUTO else value


class ObjectStatistics(NamedTuple):
    """How large the objects of a data set are, and how many an image has at most.

    An object's side is that of the square with the area of its bounding box.
    """

    small_px: float
    """Side of a small object: 5% have a smaller one."""
    large_px: float
    """Side of a large object: 2% have a larger one."""
    aspect: float
    """Longer over shorter side of an elongated object's bounding box: 20% are more elongated."""
    max_per_image: int
    """Most objects in one image."""
    small_area_px: int = 0
    """Area of a small object: 5% have a smaller one."""
    narrow_px: int = 1
    """Shorter side of a narrow object's bounding box: 5% have a smaller one."""
    side_px: float = 1.0
    """Median side."""


def contour_widths(narrow_px: int) -> tuple[int, int] | None:
    """Return the smallest and the largest contour width that leave 95% of the objects an inside; None if no width does.

    Args:
        narrow_px: See `ObjectStatistics`.

    Returns:
        The two widths in pixels.
    """
    high = min(_WIDEST_CONTOUR_PX, (narrow_px - 1) // 2)
    return (max(1, high // 3), high) if high >= 1 else None


def distance_caps(side_px: float) -> list[int]:
    """Return candidates for `distance_cap_px`, ascending: depths in pixels from which on a pixel is an object's middle.

    The largest is half of an object's side.

    Args:
        side_px: See `ObjectStatistics`.
    """
    deepest = min(max(2, round(side_px / 2)), _DEEPEST_PX)
    return sorted({max(2, deepest // 4), max(2, deepest // 2), deepest})


def fitted_size(key: str, objects: ObjectStatistics) -> float:
    """Return the size in pixels, computed from the objects, for a setting that is `"auto"`.

    Args:
        key: Name of the setting without its section, such as `contour_width_px`.
        objects: Sizes of the training images' objects.
    """
    if key == "min_object_area_px":
        return objects.small_area_px
    if key == "contour_width_px":
        return sum(contour_widths(objects.narrow_px) or (1, 1)) // 2
    if key == "distance_cap_px":
        return min(_USUAL_CAP_PX, distance_caps(objects.side_px)[-1])
    assert key == "border_sigma_px", key
    return round(min(max(objects.side_px / 10, 1.0), _USUAL_SIGMA_PX), 1)
