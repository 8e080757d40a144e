"""A report of six synthetic images, with predictions that are near the truth but not it."""

from collections.abc import Callable
from datetime import UTC, datetime

import cv2
import numpy as np
import pytest

from searcher.data_pipeline.datasets import SyntheticGlands
from searcher.evaluation import official_metrics
from searcher.evaluation.glas import poster
from searcher.evaluation.summary import ImageMetrics, summarise
from searcher.report.model import (
    DataSet,
    EvaluationReport,
    Example,
    ReportMember,
    SplitReport,
    choose_examples,
)
from searcher.study.ancestor import Ancestor


def moved(labels: np.ndarray, by_px: int) -> np.ndarray:
    """Return a prediction: the truth moved to the right, eroded, the last object missed."""
    eroded = cv2.erode(labels.astype(np.float32), np.ones((3, 3), np.uint8)).astype(np.int32)
    eroded[labels == labels.max()] = 0
    return np.roll(eroded, by_px, axis=1)


@pytest.fixture(scope="session")
def split() -> SplitReport:
    source = SyntheticGlands(num_images=2, size_px=96, seed=5, num_test_images=6)
    results, read = [], {}
    for number, index in enumerate(range(2, 8)):
        sample, (image, truth) = source.samples[index], source.read(index)
        prediction = moved(truth, number)
        read[sample.id] = (image, truth, prediction)
        results.append(
            ImageMetrics(
                id=sample.id,
                stratum=sample.stratum,
                comparison=official_metrics.compare(truth, prediction),
                poster=poster.compare_as_poster(truth, prediction),
                seconds=0.25 * (number + 1),
            )
        )
    summary = summarise(results, num_resamples=50).to_dict()
    examples = []
    for name, reason in choose_examples(summary["images"]).items():
        image, truth, prediction = read[name]
        examples.append(Example(id=name, reason=reason, image=image, truth=truth, prediction=prediction))
    return SplitReport(name="testA", summary=summary, examples=examples)


@pytest.fixture(scope="session")
def member() -> ReportMember:
    return ReportMember(
        study="unet-finetune",
        trial=3,
        epoch=2,
        objective="object_dice",
        value=0.8125,
        params={"optimizer.lr": 0.003, "optimizer.name": "adamw"},
        config={"model": {"name": "unet", "depth": 3}, "train": {"epochs": 3}},
        history={
            1: {"train_loss": 1.5, "loss": 1.25, "object_dice": 0.5},
            2: {"train_loss": 1.0, "loss": 1.0, "object_dice": 0.8125},
            3: {"train_loss": 0.5, "loss": 1.125, "object_dice": 0.75},
        },
        checkpoint_sha256="c" * 64,
        lineage=[
            Ancestor(study="unet-rerank", how="finetune", trials=(5,), sha256="d" * 64),
            Ancestor(study="unet-broad", how="rerank", trials=(7, 1, 4), sha256=None),
        ],
    )


@pytest.fixture(scope="session")
def make_report(split: SplitReport, member: ReportMember) -> Callable[..., EvaluationReport]:
    def make(**changes: object) -> EvaluationReport:
        fields = {
            "method": "unet-tiny",
            "splits": [split],
            "members": [member],
            "data": DataSet(name="synthetic glands", fingerprint="f" * 64),
            "device": "CPU, 2 threads",
            "settings": {"postprocess": {"threshold": 0.5}},
            "command": "searcher evaluate bundle --report r.html",
            "versions": {"Python": "3.11"},
            "created_at": datetime(2026, 1, 2, 3, 4, tzinfo=UTC),
        }
        return EvaluationReport(**(fields | changes))

    return make
