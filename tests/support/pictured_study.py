"""A study of six trials as its pictures are drawn from, with one and with two objectives."""

from dataclasses import replace

from searcher.report.study import StudyPicture, TriedTrial
from searcher.study.reader import parse_study

SPACE = parse_study(
    """
[study]
name = "s"
[space.optimizer]
name = { choices = ["sgd", "adam", "adamw"] }
lr = { low = 1e-4, high = 1e-2, log = true }
momentum = { low = 0.0, high = 0.8, when = { "optimizer.name" = ["sgd"] } }
""",
    source="s.toml",
).space


def trial(number: int, value: float | None, state: str = "COMPLETE", **params: object) -> TriedTrial:
    named = {f"optimizer.{key}": each for key, each in params.items()}
    epochs = {"COMPLETE": 3, "PRUNED": 1}.get(state, 0)
    return TriedTrial(
        number=number,
        state=state,
        params=named,
        value=value,
        values=(value,) if state == "COMPLETE" and value is not None else (),
        curve={epoch: (value or 0.0) * epoch / 3 for epoch in range(1, epochs + 1)},
    )


TRIALS = (
    trial(0, 0.5, name="adam", lr=1e-3),
    trial(1, 0.2, "PRUNED", name="sgd", lr=1e-4, momentum=0.4),
    trial(2, 0.9, name="sgd", lr=1e-2, momentum=0.8),
    trial(3, 0.7, name="adamw", lr=1e-3),
    trial(4, None, "FAIL", name="adam", lr=1e-3),
    trial(5, None, "RUNNING", name="adam", lr=1e-3),
)
PICTURE = StudyPicture(
    name="s",
    objectives=("object_dice",),
    directions=("maximize",),
    space=SPACE,
    trials=TRIALS,
    best=2,
    importances={"optimizer.lr": 0.75, "optimizer.name": 0.25},
)
SEVERAL = replace(
    PICTURE,
    objectives=("object_dice", "seconds_per_image"),
    directions=("maximize", "minimize"),
    trials=[replace(each, values=(*each.values, 0.5)[: 2 * len(each.values)]) for each in TRIALS],
)
