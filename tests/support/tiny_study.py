"""A tiny study and a listener that remembers, for tests that launch."""

from collections.abc import Callable

from searcher.study.reader import parse_study
from searcher.study.spec import StudySpec

TINY = """
[study]
name = "tiny"
objective = "loss"
trials = 4
[search]
sampler = "random"
[pruner]
grace_epochs = 1
reduction_factor = 2
[resources]
max_concurrent = 2
pictures = 0
[data]
synthetic_images = 12
synthetic_size_px = 64
num_threads = 0
val_fraction = 0.3
[augment]
preset = "none"
crop_px = 64
[model]
base_channels = 2
depth = 2
norm = "batch"
[train]
epochs = 4
batch_size = 4
[space.optimizer]
name = { choices = ["sgd", "adamw"] }
lr = { low = 1e-4, high = 1e-1, log = true }
momentum = { low = 0.0, high = 0.9, when = { "optimizer.name" = ["sgd"] } }
"""


LOW_RATES = "[space.optimizer]\nlr = { low = 1e-5, high = 1e-4, log = true }"
"""The space of a fine-tuning child that hardly moves."""


def child_text(
    name: str, parent: str, how: str, *about: str, trials: int | None = None, rest: str = ""
) -> str:
    """Return the study file of a child.

    Args:
        name: Its name.
        parent: What its `parent.study` says.
        how: `refine`, `rerank` or `finetune`.
        about: Further lines about the parent.
        trials: Its budget, None where that follows from the parent.
        rest: Further tables.
    """
    budget = "" if trials is None else f"trials = {trials}"
    lines = [
        f'[study]\nname = "{name}"\nobjective = "loss"',
        budget,
        f'[parent]\nstudy = "{parent}"\nhow = "{how}"',
        *about,
    ]
    return "\n".join([*lines, "[resources]\nmax_concurrent = 1\npictures = 0", rest]) + "\n"


def tiny(text: str = TINY, **overrides: object) -> StudySpec:
    """Return the tiny study; `__` in a keyword stands for the dot of a key."""
    return parse_study(
        text, source="tiny.toml", overrides={k.replace("__", "."): v for k, v in overrides.items()}
    )


class RecordingListener:
    """A `StudyListener` that keeps everything it hears, and can act on an epoch."""

    def __init__(self, on_epoch: Callable[[int, int], None] | None = None) -> None:
        self.lines: list[str] = []
        self.epochs: list[tuple[int, int]] = []
        self.done: dict[int, list[str]] = {}
        self._on_epoch = on_epoch

    def study_opened(self, **about):
        self.opened = about

    def trial_started(self, number, params, *, first_epoch, num_epochs):
        self.lines.append(f"start {number} after {first_epoch}")

    def epoch_done(self, number, epoch, value):
        self.epochs.append((number, epoch))
        if self._on_epoch is not None:
            self._on_epoch(number, epoch)

    def trial_does(self, number, doing, epoch, value):
        self.done.setdefault(number, []).append(doing)

    def trial_ended(self, number, state, *, value, reason):
        self.lines.append(f"{state} {number}: {reason}")

    def info(self, text):
        self.lines.append(text)
