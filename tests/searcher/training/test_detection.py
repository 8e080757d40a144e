"""Mask R-CNN through the same trainer: in parts, from pretrained weights, of the expected size."""

import pytest
import torch
from small_models import SMALL_MODELS
from torchvision.models import resnet18

from searcher.exceptions import UserError
from searcher.models.mask_rcnn import MaskRCNN
from searcher.models.values import TensorBatch
from searcher.study.objectives import Objective
from searcher.training.checkpoint_size import checkpoint_bytes
from searcher.training.checkpoints import load_checkpoint
from searcher.training.learner import Learner
from searcher.training.trainer import Trainer
from searcher.training.validation import Validator

DICE = Objective("object_dice")
MODEL = {"name": "mask_rcnn", **SMALL_MODELS["mask_rcnn"]}
NUM_EPOCHS = 3


@pytest.fixture
def detection(tiny):
    """Return a function from sections to a tiny configuration with a Mask R-CNN."""

    def configure(**sections):
        config = tiny(
            data={"num_threads": 1, "samples_per_epoch": 4},
            optimizer={"name": "sgd", "lr": 1e-3},
            train={"epochs": NUM_EPOCHS, "batch_size": 2, **sections.pop("train", {})},
        )
        values = {**config.to_dict(), "model": {**MODEL, **sections.pop("model", {})}, **sections}
        return type(config).model_validate(values)

    return configure


def run(config, store, run_dir, reporter, **arguments):
    with Trainer(config, DICE, store=store, run_dir=run_dir, device="cpu", **arguments) as trainer:
        trainer.fit(reporter)


def test_the_checkpoint_holds_the_datas_anchors_and_the_configuration_as_it_was_chosen(
    detection, store, recorder, tmp_path
):
    config = detection(train={"epochs": 1})
    run(config, store, tmp_path, recorder())
    checkpoint, file = load_checkpoint(tmp_path / "last.pt", config_digest=config.digest())
    assert checkpoint.config["model"]["anchor_min_px"] == 0.0
    sides = checkpoint.model["rpn.anchor_generator.sides_px"]
    assert 3 < sides[0] < sides[-1] < 64, "the images have 64 px, COCO's smallest anchors 32"
    assert file.num_bytes == pytest.approx(checkpoint_bytes(config), rel=0.05)


def learner(config, **arguments):
    torch.manual_seed(0)
    return Learner(
        config, DICE, device=torch.device("cpu"), dtype=torch.float32, steps_per_epoch=1, **arguments
    )


def batch():
    labels = torch.zeros(4, 64, 64, dtype=torch.int32)
    labels[:, 10:40, 20:50] = 1
    images = torch.where(labels[..., None] > 0, 90, 190).expand(-1, -1, -1, 3).to(torch.uint8)
    return TensorBatch(images.contiguous(), labels)


def test_a_batch_in_parts_makes_nearly_the_step_of_the_whole(detection):
    """Every part draws as many anchors and proposals an image, and all are taken: the losses are means of means."""
    all_taken = {"rpn_samples": 10_000, "box_samples": 10_000, "anchor_min_px": 16.0}
    config = detection(model=all_taken | {"backbone": "resnet18"})  # without a norm over the batch
    whole, parts = learner(config), learner(config, micro_batches=2)
    assert parts.learn(batch()) == pytest.approx(whole.learn(batch()), rel=1e-4)
    for (name, one), other in zip(whole.model.named_parameters(), parts.model.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5, msg=name)


def test_training_begins_from_the_weights_that_are_named_and_going_on_does_not_need_them(
    detection, store, recorder, tmp_path
):
    torch.manual_seed(9)
    classifier = resnet18().state_dict()
    path = tmp_path / "resnet.pth"
    torch.save(classifier, path)
    of_resnet = {"backbone": "resnet18", "weights": str(path), "trainable_layers": 2}
    config = detection(model=of_resnet, train={"epochs": 2})
    run(config, store, tmp_path / "run", recorder(stop_after=1))
    path.unlink()
    run(config, store, tmp_path / "run", recorder(), resume_from=tmp_path / "run" / "last.pt")
    weights = load_checkpoint(tmp_path / "run" / "last.pt")[0].model
    assert torch.equal(weights["backbone.body.layer1.0.conv1.weight"], classifier["layer1.0.conv1.weight"])
    assert not torch.equal(
        weights["backbone.body.layer4.0.conv1.weight"], classifier["layer4.0.conv1.weight"]
    )


def test_weights_that_cannot_be_had_are_the_users_problem(detection, store, tmp_path):
    config = detection(model={"weights": str(tmp_path / "none.pth")})
    with pytest.raises(UserError, match=r"none\.pth, where no file is; check the path"):
        Trainer(config, DICE, store=store, run_dir=tmp_path / "run")


def test_an_average_of_the_weights_keeps_the_anchors(detection):
    trained = learner(detection(train={"ema_decay": 0.9}, model={"anchor_min_px": 11.3}))
    trained.learn(batch())
    sides = trained.model.rpn.anchor_generator.sides_px
    assert torch.equal(trained.evaluated.rpn.anchor_generator.sides_px, sides)
    assert sides[0] == pytest.approx(11.3)


def test_validation_takes_one_pass_an_image(detection, store, monkeypatch):
    model, passes = learner(detection()).model, []
    forward = MaskRCNN.forward
    monkeypatch.setattr(MaskRCNN, "forward", lambda self, images: passes.append(1) or forward(self, images))
    validator = Validator(store, [0, 1, 2], device=torch.device("cpu"), dtype=torch.float32)
    metrics = validator.validate(model, epoch=1)
    assert len(passes) == 3
    assert metrics["loss"] > 0
    again = validator.validate(model, epoch=1)
    assert metrics.pop("seconds_per_image") > 0
    assert again.pop("seconds_per_image") > 0
    assert again == metrics
