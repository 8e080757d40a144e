"""Classes in a trial: learned, validated in every epoch, in the checkpoint, and taken over by no other classes."""

import math

import numpy as np
import pytest
import torch
from small_models import SMALL_MODELS

from searcher.data_pipeline.batch import Batch
from searcher.data_pipeline.datasets.synthetic import SYNTHETIC
from searcher.data_pipeline.store import prepare_store
from searcher.exceptions import StudyFileError, UserError
from searcher.models.class_branch import CLASS_BRANCH
from searcher.models.registry import build_model
from searcher.models.settings import SETTINGS, PostprocessSettings
from searcher.study.objectives import Objective
from searcher.study.reader import parse_study
from searcher.training.checkpoints import load_checkpoint
from searcher.training.device import to_device
from searcher.training.trained import trained_network
from searcher.training.trainer import Trainer
from searcher.training.validation import Validator
from searcher.training.warm_start import warm_start

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def nuclei(tmp_path_factory):
    """Six drawn images of two kinds of nuclei."""
    source = SYNTHETIC["nuclei"](num_images=6, size_px=64, seed=0)
    return prepare_store(source, tmp_path_factory.mktemp("nuclei"), with_classes=True)


@pytest.fixture(scope="module")
def learned(nuclei, tiny, recorder, tmp_path_factory):
    """One epoch of a trial for mPQ: its reports, and its checkpoint."""
    config, reporter = tiny(data={"learn_classes": True}, train={"epochs": 1}), recorder()
    folder = tmp_path_factory.mktemp("run")
    with Trainer(config, Objective("mpq"), store=nuclei, run_dir=folder) as trainer:
        trainer.fit(reporter)
        return reporter.reports, load_checkpoint(trainer.last_checkpoint.path)[0]


def test_every_epoch_reports_the_classes(nuclei, learned):
    [[report], _] = learned
    names = {f"{metric}/{name}" for metric in ("f1", "pq") for name in nuclei.class_names}
    assert {"mpq", "class_accuracy", "loss_class", "train_loss_class", *names} <= report.keys()
    assert all(math.isfinite(report[name]) for name in ("mpq", "class_accuracy", "loss_class"))


def test_the_checkpoint_knows_the_classes_and_opens_as_a_network_of_them(nuclei, learned):
    _, checkpoint = learned
    network = trained_network(checkpoint)
    assert network.config.model.class_names == nuclei.class_names
    assert network.config.model.num_classes == 2
    image = torch.from_numpy(np.array(nuclei.image(0)))[None]
    [found] = network.model(CPU).predict(image)
    assert found.class_probabilities.shape == (len(found.scores), 2)


@pytest.mark.parametrize("is_same", [True, False])
def test_a_class_branch_is_taken_over_by_a_network_of_the_same_classes_alone(learned, tiny, is_same):
    _, checkpoint = learned
    names = checkpoint.config["model"]["class_names"]
    settings = tiny().model.model_copy(update={"num_classes": 2})
    model = build_model(settings, tiny().postprocess)
    transfer = warm_start(model, checkpoint, settings=settings, class_names=names if is_same else names[::-1])
    assert any(name.startswith(CLASS_BRANCH) for name in transfer.loaded) == is_same
    assert any(name.startswith("encoder") for name in transfer.loaded)


def test_a_detector_is_measured_by_class_too(nuclei):
    settings = SETTINGS["mask_rcnn"](
        **SMALL_MODELS["mask_rcnn"], num_classes=2, class_names=nuclei.class_names
    )
    torch.manual_seed(0)
    model = build_model(settings, PostprocessSettings(min_score=0.0))
    metrics = Validator(nuclei, [0], device=CPU, dtype=torch.float32).validate(model, epoch=1)
    assert {
        "mpq",
        "class_accuracy",
        "loss_class",
        *(f"f1/{name}" for name in nuclei.class_names),
    } <= metrics.keys()


def test_a_metric_of_classes_needs_classes(nuclei, tiny, tmp_path):
    with pytest.raises(UserError, match="must be a metric that is measured, got mpq"):
        Trainer(tiny(), Objective("mpq"), store=nuclei, run_dir=tmp_path)
    text = '[study]\nname = "s"\nobjective = "class_accuracy"\n[space.optimizer]\nlr = {low=0.1, high=0.2}\n'
    with pytest.raises(StudyFileError, match="must be metrics that are measured, got class_accuracy"):
        parse_study(text, source="s.toml")
    parse_study(text + "[data]\nlearn_classes = true\n", source="s.toml")


def test_tables_of_different_length_are_one_tensor():
    zeros = np.zeros((2, 4, 4), np.int32)
    tables = (np.array([0, 2], np.int32), np.array([0, 1, 0, 3], np.int32))
    batch = to_device(Batch(zeros[..., None].astype(np.uint8), zeros, ("a", "b"), tables), CPU)
    assert batch.classes.tolist() == [[0, 2, 0, 0], [0, 1, 0, 3]]
    assert batch.classes.dtype == torch.int64
