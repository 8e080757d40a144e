"""A trial that begins from another's checkpoint: what it takes over, what it leaves alone, and what it refuses."""

import dataclasses
import logging

import pytest
import torch
from same_runs import assert_same, without_timings

from searcher.data_pipeline.datasets import SyntheticGlands
from searcher.data_pipeline.store import prepare_store
from searcher.exceptions import CheckpointError, UserError
from searcher.models.registry import build_model
from searcher.models.settings import PostprocessSettings, UNetSettings
from searcher.study.config import TrialConfig
from searcher.study.objectives import Objective
from searcher.training.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from searcher.training.trained import trained_model
from searcher.training.trainer import Trainer
from searcher.training.warm_start import Transfer, warm_start

LOSS = Objective("loss")
CPU = torch.device("cpu")
NO_STEP = {"name": "sgd", "lr": 1e-30, "momentum": 0.0}
"""A rate that changes no float32 weight."""
MASK_RCNN = {
    "name": "mask_rcnn", "backbone": "efficientnet_lite0", "norm": "batch", "fpn_channels": 32, "box_layer": 64,
    "mask_layer": 32, "rpn_proposals": 50, "rpn_samples": 64, "box_samples": 32,
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Ancestor:
    """A trained trial: its configuration and best checkpoint."""

    config: TrialConfig
    path: object
    sha256: str
    checkpoint: Checkpoint


@pytest.fixture(scope="module")
def ancestor(store, tiny, recorder, tmp_path_factory):
    """Return a function from sections to a trial trained with them for two epochs."""
    known = {}

    def train(**sections) -> Ancestor:
        config = configured(tiny, sections)
        if config.digest() not in known:
            with Trainer(config, LOSS, store=store, run_dir=tmp_path_factory.mktemp("parent")) as trainer:
                trainer.fit(recorder(stop_after=2))
                file = trainer.last_checkpoint
            known[config.digest()] = Ancestor(config, file.path, file.sha256, load_checkpoint(file.path)[0])
        return known[config.digest()]

    return train


def configured(tiny, sections):
    """The tiny configuration, or a tiny one of a Mask R-CNN, with these sections changed."""
    values = tiny(**{name: section for name, section in sections.items() if name != "model"}).to_dict()
    model = sections.get("model", {})
    values["model"] = {
        **(MASK_RCNN if model.get("name") == "mask_rcnn" else {"base_channels": 4, "depth": 2}),
        **model,
    }
    if (
        model.get("name") == "mask_rcnn"
    ):  # of whose steps one an epoch is enough, each takes a tenth of a second
        values["data"] = {**values["data"], "samples_per_epoch": 3}
    return TrialConfig.model_validate(values)


def child_of(parent, tiny, *, warm=None, **sections):
    return configured(tiny, {**sections, "warm_start": {"sha256": parent.sha256, **(warm or {})}})


def begin(config, parent, store, run_dir, **arguments):
    path = arguments.pop("warm_start", parent.path)
    return Trainer(config, LOSS, store=store, run_dir=run_dir, device="cpu", warm_start=path, **arguments)


def copied(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(one, two):
    return {name for name, value in one.items() if torch.equal(value, two[name])}


# ---- which tensors -------------------------------------------------------------------------------------


def network(**settings):
    torch.manual_seed(1)
    settings = UNetSettings(**{"base_channels": 4, "depth": 1, **settings})
    return build_model(settings, PostprocessSettings()), settings


def checkpoint_of(model, *, ema=None):
    return Checkpoint(
        config={"model": {"name": "unet"}}, config_digest="", data_fingerprint="", objective="loss", epoch=7,
        next_batch=0, step=0, value=0.0, metrics={}, progress={"best_epoch": 1}, model=model, ema=ema,
        optimizer={}, schedule={}, random={},
    )  # fmt: skip


# Level, bottleneck, upsampling, decoder level: two convolutions each but for the upsampling. Then the classifier.
LAYERS = (
    "encoder.0.0",
    "encoder.0.2",
    "bottleneck.0",
    "bottleneck.2",
    "upsample.0",
    "decoder.0.0",
    "decoder.0.2",
)
TENSORS = {f"{layer}.{tensor}" for layer in LAYERS for tensor in ("weight", "bias")}


def test_a_changed_head_is_reset_and_the_rest_is_loaded():
    old, _ = network(head="binary")
    new, settings = network(head="contour", loss="ce", deep_supervision=True)
    fresh = copied(new)
    transfer = warm_start(new, checkpoint_of(old.state_dict()), settings=settings)
    assert set(transfer.loaded) == TENSORS
    assert transfer.reset == {
        "classifier.weight": "3x4x1x1 here, 1x4x1x1 there",
        "classifier.bias": "3 here, 1 there",
    }
    assert transfer.skipped == transfer.settled == ()
    assert all(torch.equal(new.state_dict()[name], old.state_dict()[name]) for name in TENSORS)
    assert {"classifier.weight", "classifier.bias"} <= same(new.state_dict(), fresh)


def test_a_changed_width_fits_nowhere_but_in_what_does_not_depend_on_it():
    old, _ = network(base_channels=8)
    new, settings = network()
    fresh = copied(new)
    transfer = warm_start(new, checkpoint_of(old.state_dict()), settings=settings)
    assert transfer.loaded == ("classifier.bias",)
    assert set(transfer.reset) == TENSORS | {"classifier.weight"}
    assert transfer.reset["encoder.0.0.weight"] == "4x3x3x3 here, 8x3x3x3 there"
    assert transfer.skipped == ()
    assert same(new.state_dict(), fresh) >= set(transfer.reset)


def test_of_a_deeper_network_the_encoder_fits_a_shallower_one():
    old, _ = network(depth=2, deep_supervision=True)
    new, settings = network()
    transfer = warm_start(new, checkpoint_of(old.state_dict()), settings=settings)
    assert {"encoder.0.0.weight", "encoder.0.2.weight", "classifier.weight"} <= set(transfer.loaded)
    assert transfer.reset["bottleneck.0.weight"] == "8x4x3x3 here, 16x8x3x3 there"
    assert {"encoder.1.0.weight", "decoder.1.0.weight", "auxiliary.0.bias"} <= set(transfer.skipped)


def test_a_norm_that_the_checkpoint_has_not_is_reset():
    old, _ = network(norm="group")
    new, settings = network(norm="batch")
    transfer = warm_start(new, checkpoint_of(old.state_dict()), settings=settings)
    assert transfer.reset["encoder.0.1.running_var"] == "4 here, none there"
    assert transfer.reset["encoder.0.1.num_batches_tracked"] == "one number here, none there"
    assert "encoder.0.1.weight" in transfer.loaded


def test_the_validated_weights_are_taken():
    old, _ = network()
    average = {name: value + 1 for name, value in old.state_dict().items()}
    new, settings = network()
    checkpoint = checkpoint_of(old.state_dict(), ema={"weights": average, "num_updates": 9})
    warm_start(new, checkpoint, settings=settings)
    assert same(new.state_dict(), average) == average.keys()


def test_a_checkpoint_of_which_nothing_fits_is_refused_in_one_line(caplog):
    new, settings = network()
    before = copied(new)
    with pytest.raises(UserError) as caught:
        warm_start(new, checkpoint_of({"backbone.weight": torch.zeros(3)}), settings=settings)
    assert "must be of a checkpoint with weights that fit model.name=unet" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert same(new.state_dict(), before) == before.keys()


def test_the_record_is_plain_and_short():
    names = [f"layer.{number}" for number in range(30)]
    record = Transfer(
        epoch=3, loaded=tuple(names), reset=dict.fromkeys(names, "1 here, none there"), skipped=tuple(names)
    ).to_dict()
    assert (record["epoch"], record["num_loaded"], record["num_reset"], record["num_skipped"]) == (
        3,
        30,
        30,
        30,
    )
    assert [*record["reset"]] == record["skipped"] == names[:20]
    assert record["settled"] == []


def test_the_log_names_every_tensor(caplog):
    old, _ = network()
    new, settings = network(head="contour", loss="ce")
    with caplog.at_level(logging.INFO):
        transfer = warm_start(new, checkpoint_of(old.state_dict()), settings=settings)
    assert caplog.messages == [
        "warm start from epoch 7 of another trial",
        f"warm start: 14 tensors loaded: {', '.join(transfer.loaded)}",
        "warm start: 2 tensors reset: classifier.weight (3x4x1x1 here, 1x4x1x1 there), "
        "classifier.bias (3 here, 1 there)",
        "warm start: 0 tensors skipped: none",
    ]
    assert {*transfer.loaded, "classifier.weight", "classifier.bias"} == new.state_dict().keys()


# ---- a trial -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "ema_decay"),
    [({"norm": "batch"}, 0.0), ({"norm": "batch"}, 0.9), ({"name": "mask_rcnn", "norm": "batch"}, 0.9)],
    ids=["unet", "unet, average", "mask_rcnn, average"],
)
def test_before_any_training_it_predicts_and_measures_as_its_parent(
    ancestor, store, tiny, tmp_path, model, ema_decay
):
    parent = ancestor(model=model, train={"ema_decay": ema_decay})
    config = child_of(parent, tiny, model=model, train={"ema_decay": 0.5, "seed": 9})
    expected = trained_model(parent.checkpoint, device=CPU).state_dict()
    with begin(config, parent, store, tmp_path) as trainer:
        learner = trainer.learner
        assert not trainer.transfer.reset
        for each in (learner.model, learner.evaluated):
            assert same(each.state_dict(), expected) == expected.keys()
        metrics = trainer._validator.validate(learner.evaluated, epoch=0)
        assert metrics.pop("seconds_per_image") > 0
    assert metrics == {name: parent.checkpoint.metrics[name] for name in metrics}


def test_it_trains_otherwise_than_from_fresh_weights(ancestor, store, tiny, recorder, tmp_path):
    parent = ancestor()
    warm, cold = recorder(stop_after=1), recorder(stop_after=1)
    with begin(child_of(parent, tiny, train={"seed": 3}), parent, store, tmp_path / "warm") as trainer:
        trainer.fit(warm)
    with Trainer(tiny(train={"seed": 3}), LOSS, store=store, run_dir=tmp_path / "cold") as trainer:
        trainer.fit(cold)
    assert warm.reports[0]["train_loss"] < cold.reports[0]["train_loss"]


def test_the_average_begins_from_the_loaded_weights(ancestor, store, tiny, recorder, tmp_path):
    parent = ancestor()
    config = child_of(parent, tiny, optimizer=NO_STEP, train={"ema_decay": 0.999})
    with begin(config, parent, store, tmp_path) as trainer:
        trainer.fit(recorder(stop_after=1))
        average = trainer.learner.evaluated.state_dict()
    expected = parent.checkpoint.weights()
    assert same(average, expected) == expected.keys()


BEGINNINGS = {
    ("unet", "encoder"): ("encoder.", "bottleneck."),
    ("unet", "all_but_head"): ("encoder.", "bottleneck.", "upsample.", "decoder."),
    ("mask_rcnn", "encoder"): ("backbone.body.",),
    ("mask_rcnn", "all_but_head"): ("backbone.", "rpn.", "roi_heads.box_head.", "roi_heads.mask_head."),
}
"""Of the names of what is frozen. (Anchors and the number of detections never move.)"""


@pytest.mark.parametrize(
    ("model", "freeze", "decay"),
    [
        *(("unet", freeze, decay) for freeze in ("encoder", "all_but_head") for decay in (0.0, 0.9)),
        ("mask_rcnn", "encoder", 0.9),
        ("mask_rcnn", "all_but_head", 0.0),
    ],
)
def test_what_is_frozen_stays_through_an_epoch_and_the_rest_moves(
    ancestor, store, tiny, recorder, tmp_path, model, freeze, decay
):
    sections = {
        "model": {"name": model, "norm": "batch"},
        "optimizer": {"name": "adamw", "lr": 1e-3, "weight_decay": 0.1},
    }
    parent = ancestor(**sections)
    config = child_of(parent, tiny, warm={"freeze": freeze}, train={"ema_decay": decay}, **sections)
    with begin(config, parent, store, tmp_path) as trainer:
        trained = {name for name, p in trainer.learner.model.named_parameters() if p.requires_grad}
        trainer.fit(recorder(stop_after=1))
        found = [trainer.learner.model.state_dict(), trainer.learner.evaluated.state_dict()]
    before = parent.checkpoint.weights()
    frozen = {name for name in before if name.startswith(BEGINNINGS[model, freeze])}
    assert any("running_mean" in name for name in frozen)
    assert trained.isdisjoint(frozen)
    settled = {"detections_per_image", *(name for name in before if "anchor" in name)}
    for after in found:
        assert same(after, before) == frozen | (settled & before.keys())


def test_a_frozen_trial_has_its_checkpoint_without_moments_of_what_is_frozen(
    ancestor, store, tiny, recorder, tmp_path
):
    parent = ancestor()
    config = child_of(parent, tiny, warm={"freeze": "all_but_head"})
    with begin(config, parent, store, tmp_path) as trainer:
        trainer.fit(recorder(stop_after=1))
    assert (
        len(load_checkpoint(tmp_path / "last.pt")[0].optimizer["state"]) == 2
    )  # the classifier's weight, bias


def test_what_does_not_fit_begins_as_it_would_without_the_checkpoint(ancestor, store, tiny, tmp_path):
    parent = ancestor()
    sections = {"model": {"head": "contour", "loss": "ce"}}
    with begin(child_of(parent, tiny, **sections), parent, store, tmp_path / "warm") as trainer:
        warm = copied(trainer.learner.model)
        assert [*trainer.transfer.reset] == ["classifier.weight", "classifier.bias"]
    with Trainer(tiny(**sections), LOSS, store=store, run_dir=tmp_path / "cold") as trainer:
        cold = copied(trainer.learner.model)
    assert torch.equal(warm["classifier.weight"], cold["classifier.weight"])
    assert not torch.equal(warm["decoder.0.0.weight"], cold["decoder.0.0.weight"])


@pytest.mark.parametrize("model", ["unet", "mask_rcnn"])
def test_going_on_is_bit_identical_and_needs_no_parent(ancestor, store, tiny, recorder, tmp_path, model):
    parent = ancestor(model={"name": model, "norm": "batch"}, train={"ema_decay": 0.9})
    sections = {
        "model": {"name": model, "norm": "batch"},
        "train": {"epochs": 3 if model == "unet" else 2, "ema_decay": 0.9, "seed": 5},
    }
    config = child_of(parent, tiny, warm={"freeze": "encoder"}, **sections)
    whole, first, rest = recorder(), recorder(stop_after=1), recorder()
    with begin(config, parent, store, tmp_path / "whole") as trainer:
        trainer.fit(whole)
    with begin(config, parent, store, tmp_path / "parts") as trainer:
        trainer.fit(first)
    last = tmp_path / "parts" / "last.pt"
    with Trainer(
        config, LOSS, store=store, run_dir=tmp_path / "parts", device="cpu", resume_from=last
    ) as trainer:
        assert trainer.transfer is None
        trainer.fit(rest)
    untimed = [without_timings(each.reports) for each in (whole, first, rest)]
    assert untimed[1] + untimed[2] == untimed[0]
    one, two = (load_checkpoint(tmp_path / name / "last.pt")[0] for name in ("whole", "parts"))
    for part in ("model", "optimizer", "ema", "random"):
        assert_same(getattr(one, part), getattr(two, part), part)


# ---- anchors -------------------------------------------------------------------------------------------


def test_anchors_come_with_the_weights_that_mean_them_unless_the_settings_say_otherwise(
    ancestor, store, tiny, tmp_path
):
    parent = ancestor(model={"name": "mask_rcnn", "anchor_min_px": 9.0, "anchor_aspect": 1.5})
    there = parent.checkpoint.weights()
    prefix = "rpn.anchor_generator."

    def settled(**model):
        config = child_of(parent, tiny, model={"name": "mask_rcnn", "detections_per_image": 7, **model})
        with begin(config, parent, store, tmp_path / str(len([*tmp_path.iterdir()]))) as trainer:
            state = copied(trainer.learner.model)
            assert state["detections_per_image"] == 7
            kept = same({name: state[name] for name in state if name.startswith(prefix)}, there)
            return {name.removeprefix(prefix) for name in kept}, set(trainer.transfer.settled)

    always = {"detections_per_image"}
    assert settled() == ({"sides_px", "ratios"}, always)
    assert settled(anchor_min_px=12.0) == ({"ratios"}, always | {prefix + "sides_px"})
    assert settled(anchor_aspect=3.0) == ({"sides_px"}, always | {prefix + "ratios"})
    taken, left = settled(fpn_channels=16)  # another proposal network: the anchors are the data's
    assert taken == set()
    assert left == always | {prefix + "sides_px", prefix + "ratios"}


# ---- the optimiser -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "optimizer", [{"name": "adamw"}, {"name": "sgd", "momentum": 0.9}], ids=["adamw", "sgd"]
)
def test_a_kept_optimizer_has_the_moments_of_the_checkpoint_and_the_rates_of_the_trial(
    ancestor, store, tiny, tmp_path, optimizer
):
    parent = ancestor(optimizer={"lr": 1e-3, **optimizer})
    changed = {**optimizer, "lr": 5e-4, "weight_decay": 0.25}
    config = child_of(parent, tiny, warm={"optimizer": "keep"}, optimizer=changed)
    with begin(config, parent, store, tmp_path) as trainer:
        state = trainer.learner.state_dict()["optimizer"]
    assert_same(state["state"], parent.checkpoint.optimizer["state"], "state")
    assert [group["lr"] for group in state["param_groups"]] == [5e-4, 5e-4]
    assert [group["weight_decay"] for group in state["param_groups"]] == [0.25, 0.0]
    reset = child_of(parent, tiny, optimizer=changed)
    with begin(reset, parent, store, tmp_path / "reset") as trainer:
        assert trainer.learner.state_dict()["optimizer"]["state"] == {}


@pytest.mark.parametrize(
    ("sections", "warm", "rule"),
    [
        ({"optimizer": {"name": "adam"}}, {}, "optimizer.name must be the checkpoint's adamw, got adam"),
        (
            {"model": {"head": "contour", "loss": "ce"}},
            {},
            "every tensor must fit, got 2 that do not (classifier.weight 3x4x1x1 here, 1x4x1x1 there",
        ),
        ({}, {"freeze": "encoder"}, "warm_start.freeze must be the checkpoint's none, got encoder"),
    ],
    ids=["another optimiser", "reset", "frozen"],
)
def test_an_optimizer_that_cannot_be_kept_is_refused_with_the_rule(
    ancestor, store, tiny, tmp_path, sections, warm, rule
):
    parent = ancestor()
    config = child_of(parent, tiny, warm={"optimizer": "keep", **warm}, **sections)
    assert rule in refusal(config, parent, store, tmp_path)


def test_an_optimizer_of_other_trained_layers_is_refused(ancestor, store, tiny, tmp_path):
    parent = ancestor()
    content = dict(parent.checkpoint.optimizer)
    content["param_groups"] = [{**group, "params": group["params"][:-1]} for group in content["param_groups"]]
    other = stored(dataclasses.replace(parent.checkpoint, optimizer=content), tmp_path / "other.pt", parent)
    config = child_of(other, tiny, warm={"optimizer": "keep"})
    assert "the trained parameters must be the checkpoint's" in refusal(
        config, other, store, tmp_path / "run"
    )


# ---- what is refused -----------------------------------------------------------------------------------


def refusal(config, parent, store, run_dir, *, error=UserError, **arguments):
    with pytest.raises(error) as caught:
        begin(config, parent, store, run_dir, **arguments)
    assert "\n" not in str(caught.value)
    assert not list(run_dir.rglob("*.pt")) or run_dir == parent.path.parent
    return str(caught.value)


def stored(checkpoint, path, parent):
    file = save_checkpoint(checkpoint, path)
    return dataclasses.replace(parent, path=path, sha256=file.sha256, checkpoint=checkpoint)


def test_a_checkpoint_that_is_missing_damaged_or_another_one_is_said_in_one_line(
    ancestor, store, tiny, tmp_path
):
    parent = ancestor()
    config = child_of(parent, tiny)
    damaged = tmp_path / "damaged.pt"
    content = bytearray(parent.path.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    other = ancestor(train={"seed": 4})
    for path, text in (
        (tmp_path / "missing.pt", "no checkpoint to read there"),
        (damaged, f"sha256 must be {parent.sha256}"),
        (other.path, f"sha256 must be {parent.sha256}, got {other.sha256}"),
    ):
        message = refusal(config, parent, store, tmp_path / "run", error=CheckpointError, warm_start=path)
        assert message.startswith(f"{path}: ")
        assert text in message


def test_a_configuration_that_names_a_checkpoint_needs_it(ancestor, store, tiny, tmp_path):
    parent = ancestor()
    message = refusal(child_of(parent, tiny), parent, store, tmp_path, warm_start=None)
    assert f"needs the checkpoint with the digest {parent.sha256[:12]}" in message


@pytest.mark.parametrize("freeze", ["encoder", "all_but_head"])
def test_random_weights_are_not_frozen(ancestor, store, tiny, tmp_path, freeze):
    with pytest.raises(UserError, match=f"warm_start.freeze={freeze}: needs warm_start.sha256"):
        Trainer(tiny(warm_start={"freeze": freeze}), LOSS, store=store, run_dir=tmp_path)
    parent = ancestor()
    config = child_of(parent, tiny, warm={"freeze": freeze}, model={"depth": 3})
    message = refusal(config, parent, store, tmp_path)
    assert (
        "must freeze what the checkpoint has weights for, got encoder.2.0.weight (16x8x3x3 here, none"
        in message
    )


def test_a_new_head_on_frozen_layers_is_fine(ancestor, store, tiny, recorder, tmp_path):
    parent = ancestor()
    config = child_of(parent, tiny, warm={"freeze": "all_but_head"}, model={"head": "distance"})
    with begin(config, parent, store, tmp_path) as trainer:
        trainer.fit(recorder(stop_after=1))
        assert [*trainer.transfer.reset] == ["classifier.weight", "classifier.bias"]


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ({"split_seed": 1}, "data.split_seed=0, got data.split_seed=1"),
        ({"val_fraction": 0.4}, "data.val_fraction=0.2, got data.val_fraction=0.4"),
        (
            {"folds": 3, "fold": 1},
            "data.fold=(unused) data.folds=0 data.val_fraction=0.2, got data.fold=1 data.folds=3",
        ),
    ],
)
def test_images_that_the_parent_trained_on_do_not_validate(ancestor, store, tiny, tmp_path, data, text):
    parent = ancestor()
    message = refusal(child_of(parent, tiny, data=data), parent, store, tmp_path)
    assert text in message
    assert "images to validate on were trained on" in message


def test_another_split_by_folds_is_refused_and_a_fraction_that_is_unused_is_not(
    ancestor, store, tiny, tmp_path
):
    parent = ancestor(data={"folds": 3, "fold": 1})
    same_folds = {"folds": 3, "fold": 1, "val_fraction": 0.5}
    begin(child_of(parent, tiny, data=same_folds), parent, store, tmp_path / "same").close()
    other = child_of(parent, tiny, data={"folds": 3, "fold": 2})
    assert "data.fold=1, got data.fold=2" in refusal(other, parent, store, tmp_path / "other")


def test_other_images_may_be_split_as_one_likes(ancestor, tiny, tmp_path, caplog):
    parent = ancestor()
    other = prepare_store(SyntheticGlands(num_images=10, size_px=64, seed=1), tmp_path / "store")
    config = child_of(parent, tiny, data={"split_seed": 5})
    with caplog.at_level(logging.INFO), begin(config, parent, other, tmp_path / "run") as trainer:
        assert not trainer.transfer.reset
    assert any("trained on other data" in message for message in caplog.messages)


def test_what_an_earlier_ancestor_trained_on_does_not_validate_either(
    ancestor, store, tiny, recorder, tmp_path
):
    """Trained on these images, then on others, resumed there, and back with another split."""
    first = ancestor()
    other = prepare_store(SyntheticGlands(num_images=10, size_px=64, seed=1), tmp_path / "store")
    config = child_of(first, tiny, data={"split_seed": 1})
    with begin(config, first, other, tmp_path / "second") as trainer:
        trainer.fit(recorder(stop_after=1))
    last = tmp_path / "second" / "last.pt"
    with Trainer(config, LOSS, store=other, run_dir=last.parent, resume_from=last) as trainer:
        trainer.fit(recorder(stop_after=2))
        sha256 = trainer.last_checkpoint.sha256
    split = {"folds": 0, "val_fraction": 0.2, "split_seed": 0}
    second = Ancestor(config, last, sha256, load_checkpoint(last)[0])
    assert second.checkpoint.lineage == ({"data_fingerprint": store.fingerprint, "split": split},)
    message = refusal(child_of(second, tiny, data={"split_seed": 1}), second, store, tmp_path / "third")
    assert "data.split_seed=0, got data.split_seed=1" in message
    begin(child_of(second, tiny), second, store, tmp_path / "alike").close()


def test_a_checkpoint_from_before_there_was_a_warm_start_is_a_parent_and_resumes(
    ancestor, store, tiny, recorder, tmp_path
):
    parent = ancestor()
    config = parent.checkpoint.config.copy()
    del config["warm_start"]
    old = stored(
        dataclasses.replace(parent.checkpoint, config=config, config_digest="0" * 64),
        tmp_path / "old.pt",
        parent,
    )
    child = child_of(old, tiny, warm={"optimizer": "keep"})
    begin(child, old, store, tmp_path / "child").close()
    with Trainer(
        parent.config, LOSS, store=store, run_dir=tmp_path / "resumed", resume_from=old.path
    ) as trainer:
        assert trainer.epoch == 2
