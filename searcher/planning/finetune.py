"""The study file that trains a bundle's network on with other images: those that a person corrected, say."""

from pathlib import Path

from searcher.escaping import one_line
from searcher.planning.facts import PlanningFacts
from searcher.planning.plan import (
    Plan,
    Table,
    check_patients,
    folds_of,
    learn_classes,
    lines_of,
    objective_of,
    remarks_of,
    validation_table,
)
from searcher.study.config import TrialConfig
from searcher.study.spec import flat
from searcher.study.toml_text import toml_value

__all__ = ["plan_finetuning"]

_KEPT = ("augment", "model", "postprocess", "train", "tuning")
"""Tables of the bundle's network that the study has, too."""
_DECIDED = {
    "model.channels",
    "model.num_classes",
    "model.class_names",
    "model.class_weights",
    "tuning.metric",
}
"""Keys that the data or the plan decide about."""
_LR = {"low": 1e-5, "high": 1e-3, "log": True}
_FIRST_LR = 1e-4
_TRIALS = 4


def plan_finetuning(
    facts: PlanningFacts, config: TrialConfig, *, name: str, where: str, bundle: Path, num_cpus: int
) -> Plan:
    """Return a plan of a study that trains a bundle's network further on other images.

    Args:
        facts: Facts about the training and validation images.
        config: Configuration with which the network was trained.
        name: Name of the study.
        where: The data set, for the file's header and for messages.
        bundle: Folder of the bundle.
        num_cpus: Number of CPU cores of the machine.

    Raises:
        UserError: There is only one image or one patient, so that nothing can be held out.
    """
    check_patients(facts, where)
    where, folds = one_line(where), folds_of(facts)
    data = validation_table(facts, folds)
    data.add("samples_per_epoch", config.data.samples_per_epoch, "as the bundle")
    data.add("normalisation", config.data.normalised_by.kind, "the network saw such images")
    if config.data.normalisation == "percentile":
        data.add("low_percentile", config.data.low_percentile)
        data.add("high_percentile", config.data.high_percentile)
    if config.data.learn_classes:
        learn_classes(facts, data)
    tables = [
        Table("study")
        .add("name", name)
        .add("description", f"{one_line(bundle.name)}, trained on with {where}")
        .add("objective", objective_of(facts, classes=config.data.learn_classes))
        .add("trials", _TRIALS),
        Table("pruner").add("name", "none"),
        Table("resources").add("cpus", max(1, min(2, num_cpus)), "cores of one trial"),
        data,
        *_as_in_bundle(config),
        Table("optimizer").add("name", "adamw").add("weight_decay", 1e-2),
        Table("schedule").add("name", "cosine").add("warmup_epochs", 1.0),
        Table("warm_start").add("bundle", str(bundle.absolute()), "training begins from its first network"),
        Table("space.optimizer").add("lr", _LR, "lower rates than a new network's"),
    ]
    head = [
        f"# {one_line(bundle.name)}, trained on with {where}.",
        "#",
        f"# {facts.num_images} images with {facts.num_objects} objects. Network and augmentation are the bundle's.",
    ]
    first = ["", "[[enqueue]]", f"optimizer.lr = {toml_value(_FIRST_LR)}"]
    text = "\n".join((*head, *lines_of(tables), *first)) + "\n"
    return Plan(name, text, None, tuple(each for each in remarks_of(facts, name, 0)))


def _as_in_bundle(config: TrialConfig) -> list[Table]:
    """Return the tables that the bundle's network was trained with, as far as they are no defaults."""
    values = flat(config.model_dump(mode="json", exclude_defaults=True)) | {"model.name": config.model.name}
    tables: dict[str, Table] = {}
    for key, value in sorted(values.items()):
        table, _, leaf = key.rpartition(".")
        if key.partition(".")[0] in _KEPT and key not in _DECIDED:
            tables.setdefault(table, Table(table)).add(leaf, value)
    return list(tables.values())
