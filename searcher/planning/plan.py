"""The study file that follows from a data set's facts: every value with its reason.

The template is `unet-instances`, which was measured on GlaS (`docs/results.md`). What depends on the size of its glands
there follows from the objects here.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from searcher.data_pipeline.tiling import MAX_WHOLE_PX
from searcher.escaping import one_line
from searcher.exceptions import UserError
from searcher.models.sizes import contour_widths, distance_caps
from searcher.planning.facts import PlanningFacts
from searcher.study.toml_text import toml_value

__all__ = [
    "Plan",
    "Table",
    "check_patients",
    "folds_of",
    "learn_classes",
    "learns_classes",
    "lines_of",
    "objective_of",
    "plan_study",
    "remarks_of",
    "validation_table",
]

_SCALES = (0.5, 0.75, 1.0, 1.5, 2.0)
_SIDE_PX = 48
"""Median side of an object as the network best sees it: that of GlaS at its best scale."""
_LARGEST_CROP_PX = 448
_SMALLEST_CROP_PX = 192
_CROP_STEP_PX = 32
_STEP_PX = 8 * (448 * 0.75) ** 2
"""Pixels of a batch as the network sees it: 8 crops of `unet-instances`."""
_STEPS_PER_EPOCH = 75
_MOST_FOLDS = 6
_MANY = 30
"""Objects in an image, above which each counts the same, however large."""
_FEW_PATIENTS = 12
"""Fewer are validated on in folds: a fifth of them would be one or two."""
_NEAR = 0.01
"""Part of objects that are near another one, from which on one foreground mask is not enough."""
_EPOCHS = {True: 8, False: 28}
"""Of a trial, with and without pretrained weights."""


_SHOWN_CLASSES = 6
_UNEVEN = 3
"""A class that has so many times fewer objects than another may need crops of its own."""


@dataclass
class Table:
    """A table of a study file: keys with values, and the reason for each."""

    name: str
    entries: list[tuple[str, Any, str]] = field(default_factory=list)

    def add(self, key: str, value: Any, why: str = "") -> Self:
        """Add a key with its value and reason, and return the table.

        Args:
            key: Name of the key.
            value: A value that TOML can hold.
            why: The reason, which becomes a comment; empty for none.
        """
        self.entries.append((key, value, why))
        return self


@dataclass(frozen=True)
class Plan:
    """One or two study files for a data set, as text, with remarks."""

    name: str
    """Name of the study."""
    text: str
    """The search, TOML."""
    folds_text: str | None
    """The study that trains the winner on every fold; None where patients are many."""
    remarks: tuple[str, ...]
    """What a person should know before the launch, one line each."""


def plan_study(
    facts: PlanningFacts,
    *,
    name: str,
    where: str,
    has_imagenet: bool,
    num_cpus: int,
    remarks: Sequence[str] = (),
) -> Plan:
    """Return a plan of a study for a data set.

    Args:
        facts: Facts about the training and validation images.
        name: Name of the study. A second study, which trains the best trial on every fold, is called NAME-folds.
        where: The data set, for the file's header and for messages.
        has_imagenet: Whether the package with the encoder's pretrained weights is installed.
        num_cpus: Number of CPU cores of the machine.
        remarks: Further remarks on the data, one line each.

    Raises:
        UserError: There is only one image or one patient, so that nothing can be held out.
    """
    check_patients(facts, where)
    where = one_line(where)
    scales = _scales(facts)
    crop = _crop_px(facts)
    seen_px = crop * scales[len(scales) // 2]
    batch = _batch_size(seen_px)
    folds = folds_of(facts)
    tables = [
        _study(facts, name, where),
        _search(),
        _pruner(),
        Table("resources").add("cpus", max(1, min(2, num_cpus)), "cores of one trial"),
        _data(facts, folds, batch),
        _model(facts, seen_px, has_imagenet=has_imagenet),
        _postprocess(facts),
        Table("optimizer").add("name", "adamw").add("weight_decay", 1e-2),
        Table("schedule").add("name", "cosine").add("warmup_epochs", 1.0),
        _train(facts, batch, has_imagenet=has_imagenet),
        Table("tuning")
        .add("postprocess", True, "cuts the best network's maps in many ways after each trial, in seconds")
        .add("metric", "object_f1+object_dice"),
        Table("space.optimizer").add("lr", {"low": 3e-4, "high": 5e-3, "log": True}),
        _data_space(facts),
        _model_space(facts, scales, has_imagenet=has_imagenet),
        _augment_space(facts, crop),
    ]
    first = _first_point(facts, scales, crop, has_imagenet=has_imagenet)
    text = "\n".join((*_head(facts, where), *lines_of(tables), *first)) + "\n"
    folds_text = _folds_text(facts, name, where, folds) if folds else None
    return Plan(name, text, folds_text, (*remarks, *remarks_of(facts, name, folds)))


def folds_of(facts: PlanningFacts) -> int:
    """Return the number of folds for validation; 0 to hold out a part of the patients once."""
    if facts.has_validation or facts.num_patients >= _FEW_PATIENTS:
        return 0
    return min(facts.num_patients, _MOST_FOLDS)


def check_patients(facts: PlanningFacts, where: str) -> None:
    """Raise an error if nothing can be held out for validation.

    Raises:
        UserError: There is only one image or one patient.
    """
    if facts.has_validation or facts.num_patients > 1:
        return
    if facts.num_images == 1:
        raise UserError(
            f"{where}: must have two images or more, got 1; nothing could be held out to choose by. Add "
            "--val-region right to validate on a quarter of it; figures then say nothing about other patients"
        )
    raise UserError(
        f"{where}: must be of two patients or more, got {facts.num_images} images of 1; nothing could be held out to "
        "choose by. Add --val-region right to validate on a quarter of each image, or --patient-from '(.+)' to count "
        "each image as a patient; figures then say nothing about other patients"
    )


def _study(facts: PlanningFacts, name: str, where: str) -> Table:
    table = Table("study")
    table.add("name", name)
    table.add("description", f"U-Net planned for {where}, 20 trials")
    of_area = "each counts the same" if facts.objects_per_image > _MANY else "each counts by its area"
    why = f"{facts.objects_per_image} objects in an image (median): {of_area}"
    if learns_classes(facts):
        why = "where objects are and what they are, each class the same"
    table.add("objective", objective_of(facts), why)
    table.add("trials", 20)
    return table


def objective_of(facts: PlanningFacts, *, classes: bool = True) -> str:
    """Return the name of the objective that suits the classes of the objects and their number in an image.

    Args:
        facts: Of the images.
        classes: Whether classes are learned where the objects have several.
    """
    if classes and learns_classes(facts):
        return "mpq"
    return "object_f1" if facts.objects_per_image > _MANY else "object_dice"


def _search() -> Table:
    return Table("search").add("sampler", "tpe").add("startup_trials", 8)


def _pruner() -> Table:
    return Table("pruner").add("name", "asha").add("grace_epochs", 3).add("reduction_factor", 3)


def _data(facts: PlanningFacts, folds: int, batch: int) -> Table:
    table = validation_table(facts, folds)
    table.add("samples_per_epoch", _STEPS_PER_EPOCH * batch, f"{_STEPS_PER_EPOCH} steps of {batch} crops")
    table.add("normalisation", facts.normalisation.kind, facts.normalisation.reason)
    learn_classes(facts, table)
    table.add("num_threads", 2)
    return table


def learns_classes(facts: PlanningFacts) -> bool:
    """Return whether objects have two or more classes."""
    return sum(1 for num in facts.classes.values() if num) > 1


def learn_classes(facts: PlanningFacts, table: Table) -> None:
    """Set `learn_classes` in the table `data`, if the objects have two or more classes.

    Args:
        facts: Facts about the data set.
        table: The table to which the setting is added.
    """
    there = {name: num for name, num in facts.classes.items() if num}
    if learns_classes(facts):
        counts = ", ".join(f"{one_line(name)} {num}" for name, num in list(there.items())[:_SHOWN_CLASSES])
        more = ", .." if len(there) > _SHOWN_CLASSES else ""
        table.add("learn_classes", True, f"objects have {len(there)} classes: {counts}{more}")


def _is_uneven(facts: PlanningFacts) -> bool:
    nums = [num for num in facts.classes.values() if num]
    return len(nums) > 1 and max(nums) >= _UNEVEN * min(nums)


def _data_space(facts: PlanningFacts) -> Table:
    table = Table("space.data")
    if _is_uneven(facts):
        nums = [num for num in facts.classes.values() if num]
        why = f"the most frequent class has {max(nums) / min(nums):.0f} times the objects of the rarest"
        table.add("class_balance", {"choices": [0.0, 0.5]}, why)
    return table


def validation_table(facts: PlanningFacts, folds: int) -> Table:
    """Return the table `data` of a study file, with the images that are used for validation.

    Args:
        facts: Facts about the training and validation images.
        folds: The result of `folds_of`.
    """
    table = Table("data")
    unknown = f"{facts.num_images} images, patients unknown"
    who = f"{facts.num_patients} patients" if facts.patients_are_known else unknown
    if folds:
        table.add("folds", folds, f"{who}: too few to hold a fifth out once")
        table.add("fold", 0, "the search validates on the first fold")
    elif not facts.has_validation:
        table.add("val_fraction", 0.2, f"held out of {who}")
    return table


def _model(facts: PlanningFacts, seen_px: float, *, has_imagenet: bool) -> Table:
    depth = min(5, max(2, int(math.log2(seen_px / 8))))
    table = Table("model")
    table.add("name", "unet")
    table.add("norm", "batch")
    table.add(
        "depth", depth, f"a crop of {seen_px:.0f} px is {seen_px / 2**depth:.0f} px wide at the deepest level"
    )
    table.add("upsampling", "bilinear")
    if has_imagenet:
        table.add("weights", "imagenet", "of the encoder efficientnet_lite0")
    width = contour_widths(facts.narrow_px)
    if width is not None and width[0] == width[1] and _heads(facts) != ["distance"]:
        table.add("contour_width_px", width[0], f"5% of the objects are at most {facts.narrow_px} px wide")
    heads = _heads(facts)
    if len(heads) == 1:
        table.add("head", heads[0], _head_reason(facts))
    return table


def _postprocess(facts: PlanningFacts) -> Table:
    why = f"5% of {facts.num_objects} objects are smaller"
    return Table("postprocess").add("min_object_area_px", facts.small_area_px, why)


def _train(facts: PlanningFacts, batch: int, *, has_imagenet: bool) -> Table:
    table = Table("train")
    why = "pretrained weights need few" if has_imagenet else "random weights need many"
    table.add("epochs", _EPOCHS[has_imagenet], why)
    table.add("batch_size", batch)
    table.add("grad_clip_norm", 5.0)
    table.add("ema_decay", 0.995)
    if facts.largest_px > MAX_WHOLE_PX:
        table.add("eval_tile_px", 1024, f"the largest image has {facts.largest_px / 1e6:.0f} million pixels")
        table.add("eval_tile_overlap_px", 128)
    return table


def _model_space(facts: PlanningFacts, scales: list[float], *, has_imagenet: bool) -> Table:
    table = Table("space.model")
    encoders = ["efficientnet_lite0", "plain", "residual"] if has_imagenet else ["plain", "residual"]
    table.add("encoder", {"choices": encoders}, "" if has_imagenet else "no pretrained weights are installed")
    table.add("base_channels", {"choices": [8, 16] if has_imagenet else [16, 32]})
    table.add(
        "input_scale",
        {"choices": scales},
        f"an object's side is {facts.side_px:.0f} px (median); some {_SIDE_PX} px are seen best",
    )
    heads = _heads(facts)
    if len(heads) > 1:
        table.add("head", {"choices": heads}, _head_reason(facts))
    width = contour_widths(facts.narrow_px)
    if "contour" in heads and width is not None and width[0] < width[1]:
        entry: dict[str, Any] = {"low": width[0], "high": width[1]}
        if len(heads) > 1:
            entry["when"] = {"model.head": ["contour"]}
        table.add("contour_width_px", entry, f"5% of the objects are at most {facts.narrow_px} px wide")
    if "distance" in heads:
        entry = {"choices": distance_caps(facts.side_px)}
        if len(heads) > 1:
            entry["when"] = {"model.head": ["distance"]}
        table.add("distance_cap_px", entry, "up to half of an object's side")
    table.add("loss", {"choices": ["ce", "ce+dice", "focal+dice"]})
    table.add("border_weight", {"choices": [0.0, 5.0, 10.0]})
    return table


def _augment_space(facts: PlanningFacts, crop: int) -> Table:
    table = Table("space.augment")
    why = "colour images in bright field: strong varies the stain" if facts.is_stained else ""
    table.add("preset", {"choices": ["standard", "strong"]}, why)
    table.add("strength", {"low": 0.5, "high": 1.5})
    crops = sorted({crop, max(_CROP_STEP_PX, crop * 3 // 4 // _CROP_STEP_PX * _CROP_STEP_PX)})
    why = f"large objects have a side of {facts.large_side_px:.0f} px, images of {facts.short_px} px"
    table.add("crop_px", {"choices": crops}, why)
    return table


def _first_point(
    facts: PlanningFacts, scales: list[float], crop: int, *, has_imagenet: bool
) -> Iterator[str]:
    heads, width = _heads(facts), contour_widths(facts.narrow_px)
    head = "contour" if "contour" in heads else heads[0]
    point: dict[str, Any] = {"optimizer.lr": 1e-3}
    point["model.encoder"] = "efficientnet_lite0" if has_imagenet else "plain"
    point["model.base_channels"] = 8 if has_imagenet else 16
    point["model.input_scale"] = scales[len(scales) // 2]
    if len(heads) > 1:
        point["model.head"] = head
    if head == "contour" and width is not None and width[0] < width[1]:
        point["model.contour_width_px"] = (width[0] + width[1]) // 2
    if head == "distance":
        point["model.distance_cap_px"] = distance_caps(facts.side_px)[-1]
    point |= {"model.loss": "ce+dice", "model.border_weight": 0.0}
    point |= {"augment.preset": "strong" if facts.is_stained else "standard"}
    point |= {"augment.strength": 1.0, "augment.crop_px": crop}
    if _is_uneven(facts):
        point["data.class_balance"] = 0.5
    yield ""
    yield "# What usually works is tried first."
    yield "[[enqueue]]"
    yield from (f"{key} = {toml_value(value)}" for key, value in point.items())


def _scales(facts: PlanningFacts) -> list[float]:
    """Return the scale at which the median object has the side that networks see best, and those between it and 1."""
    wanted = _SIDE_PX / facts.side_px
    best = min(_SCALES, key=lambda scale: abs(math.log(scale / wanted)))
    low, high = sorted((best, 1.0))
    found = [scale for scale in _SCALES if low <= scale <= high]
    return found if len(found) > 1 else [0.75, 1.0]


def _crop_px(facts: PlanningFacts) -> int:
    """Return a crop in which several of the largest objects lie, within nine of ten images."""
    wanted = min(max(3 * facts.large_side_px, _SMALLEST_CROP_PX), _LARGEST_CROP_PX)
    rounded = math.ceil(wanted / _CROP_STEP_PX) * _CROP_STEP_PX
    return max(_CROP_STEP_PX, min(rounded, facts.short_px // _CROP_STEP_PX * _CROP_STEP_PX))


def _batch_size(seen_px: float) -> int:
    """Return the power of two, 2 to 32, at which a batch has about as many pixels as one of `unet-instances`."""
    return int(2 ** min(5, max(1, round(math.log2(_STEP_PX / seen_px**2)))))


def _heads(facts: PlanningFacts) -> list[str]:
    has_inside = contour_widths(facts.narrow_px) is not None
    if facts.near < _NEAR:
        return ["binary", "contour"] if has_inside else ["binary", "distance"]
    return ["contour", "distance"] if has_inside else ["distance"]


def _head_reason(facts: PlanningFacts) -> str:
    return f"{facts.near:.0%} of the objects have another one within {facts.gap_px} px" + (
        "" if contour_widths(facts.narrow_px) else "; the narrowest leave no room for a contour"
    )


def remarks_of(facts: PlanningFacts, name: str, folds: int) -> Iterator[str]:
    """Yield warnings to read before the planned study is launched, one line each.

    Args:
        facts: Facts about the training and validation images.
        name: Name of the study.
        folds: Number of folds of the second study; 0 for none.
    """
    if not facts.patients_are_known and not facts.has_validation:
        yield (
            f"patients are unknown, so each of {facts.num_images} images counts as its own; "
            "name them in samples.csv (id, patient), or add --patient-from"
        )
    if folds:
        what = "patients" if facts.patients_are_known else "images"
        validated = -(-facts.num_patients // folds)
        yield (
            f"{facts.num_patients} {what} are few: the search validates on {validated} of them, so its "
            f"best trial may be luck; launch {name}-folds afterwards, which trains it on each of {folds} folds"
        )


def _folds_text(facts: PlanningFacts, name: str, where: str, folds: int) -> str:
    head = f"# The best trials of {name}, planned for {where}, trained again on each of {folds} folds.\n"
    tables = [
        Table("study")
        .add("name", f"{name}-folds")
        .add("description", f"The best trials of {name} on {folds} folds")
        .add("objective", objective_of(facts)),
        Table("parent")
        .add("study", name)
        .add("how", "rerank")
        .add("best", 2)
        .add("replicate", "fold")
        .add("replicates", folds),
        Table("pruner").add("name", "none"),
        Table("data").add("folds", folds),
    ]
    return head + "\n".join(lines_of(tables)) + "\n"


def _head(facts: PlanningFacts, where: str) -> Iterator[str]:
    pixels = f"{facts.dtype.removeprefix('uint')} bit, channels {one_line(', '.join(facts.channels))}"
    yield f"# A first study for {where}, planned from its images; every value with its reason."
    yield "#"
    yield f"# {facts.num_images} images ({pixels}) with {facts.num_objects} objects."
    yield "# Change what you know better; searcher validate FILE says whether it still is a study."


def lines_of(tables: list[Table]) -> Iterator[str]:
    """Yield the lines of tables in a study file, with reasons as comments."""
    for table in tables:
        if table.entries:
            yield ""
            yield f"[{table.name}]"
        for key, value, why in table.entries:
            yield f"{key} = {toml_value(value)}" + (f"  # {why}" if why else "")
