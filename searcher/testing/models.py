"""What every model must do with any network."""

import copy
import io
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch

from searcher.models.base import DenseModel, SegmentationModel
from searcher.models.registry import build_model, settings_of
from searcher.models.settings import SETTINGS, ModelSettings, PostprocessSettings
from searcher.models.values import Prediction, TensorBatch
from searcher.testing.images import LABELS, batch_of, discs, few_images
from searcher.testing.learning import f1_by_heart

__all__ = [
    "SIZES",
    "Subject",
    "check_any_size",
    "check_compiles",
    "check_learns",
    "check_model",
    "model_checks",
]

SIZES = (
    ((1, 1), 1),
    ((17, 23), 3),
    ((1, 1), 3),
    ((1, 9), 1),
    ((5, 3), 3),
    ((16, 16), 1),
    ((64, 64), 3),
    ((100, 37), 1),
)
"""Sizes of images, and of batches of them, the hardest first: in one pixel a norm has one value."""


class Subject:
    """A model and its settings, for the checks below.

    Args:
        settings: Settings of the model.
    """

    def __init__(self, settings: ModelSettings) -> None:
        self.settings = settings

    def fresh(self) -> SegmentationModel:
        """Return a newly built model, each time with the same weights."""
        torch.manual_seed(0)
        return build_model(self.settings, PostprocessSettings())

    @cached_property
    def _built(self) -> SegmentationModel:
        return self.fresh()

    def model(self) -> SegmentationModel:
        """Return a copy of a model with the weights that `fresh` returns; copying is faster than building."""
        return copy.deepcopy(self._built)

    def batch(self, size: tuple[int, int], *images: tuple[tuple[int, int, int], ...]) -> TensorBatch:
        """Return a batch of images with the model's channels; an image is given by its discs: row, column, radius."""
        batch = batch_of(*(discs(size, *circles, channels=self.settings.channels) for circles in images))
        return self.with_classes(batch)

    def with_classes(self, batch: TensorBatch) -> TensorBatch:
        """Return a batch with a class for each label, unknown for some, if the model learns classes."""
        num = self.settings.num_classes
        if not num:
            return batch
        table = torch.arange(int(batch.labels.max()) + 1) % (num + 1)
        return batch._replace(classes=table.expand(len(batch.labels), -1))


def check_model(model: type[SegmentationModel] | str, *, learns: bool = True, **settings: Any) -> None:
    """Check that a registered model does what training, validation, prediction and bundles demand.

    Args:
        model: The model's class or name.
        learns: Whether to check, too, that the model learns four small images by heart, which takes seconds.
        settings: Settings that differ from `ModelSettings.small`. Check a model with several of them.

    Raises:
        AssertionError: A check failed; the message begins with the check's name and says why.
    """
    kind = SETTINGS[model] if isinstance(model, str) else settings_of(model)
    subject = Subject(kind(**{**kind.small, **settings}))
    checks = [*model_checks(), *([check_learns] if learns else [])]
    for check in checks:
        try:
            check(subject)
        except AssertionError as error:
            raise AssertionError(f"{check.__name__}: {error}") from error
        except Exception as error:  # a plug-in may raise anything
            raise AssertionError(f"{check.__name__}: raised {type(error).__name__}: {error}") from error


def model_checks() -> tuple[Callable[[Subject], None], ...]:
    """Return the checks of `check_model` except `check_learns`; each takes a `Subject`."""
    return (
        check_settings,
        check_any_size,
        check_any_labels,
        check_validation_loss,
        check_prediction_repeats,
        check_batch_or_alone,
        check_inputs_stay,
        check_same_seed,
        check_state_round_trip,
        check_parts,
        check_frozen_ends,
        check_transferable,
        check_postprocess_keys,
        check_compiles,
        check_autocast,
        check_channels_last,
        check_maps,
        check_postprocess_replaced,
        check_classes,
    )


def check_settings(subject: Subject) -> None:
    """Check that settings survive conversion to JSON and back, and other rules of `ModelSettings`.

    `has_maps` must be true exactly for a `DenseModel`, `small` must have only names of settings, and each number must
    have bounds.

    Raises:
        AssertionError: A check fails.
    """
    settings = subject.settings
    kind = type(settings)
    _claim(
        kind.model_validate(settings.model_dump(mode="json")) == settings, "settings must come back from JSON"
    )
    _claim(
        kind.has_maps == isinstance(subject.model(), DenseModel),
        "has_maps must say whether it is a DenseModel",
    )
    for key, value in {**kind.small}.items():
        _claim(key in kind.model_fields, f"small must name settings, got {key}={value!r}")
    unbounded = [
        key
        for key, field in kind.model_fields.items()
        if field.annotation in (int, float) and not field.metadata
    ]
    _claim(
        not unbounded,
        f"numbers must have bounds, as Field(ge=.., le=..) gives them, got none for {unbounded}",
    )


def check_any_size(subject: Subject, *, sizes: Sequence[tuple[tuple[int, int], int]] = SIZES) -> None:
    """Check that the model trains on and predicts images of any size, in batches of any size.

    Args:
        subject: The model.
        sizes: The sizes to check: height and width, and number of images.
    """
    channels = subject.settings.channels
    for size, batch_size in sizes:
        generator = torch.Generator().manual_seed(1)
        images = torch.randint(0, 256, (batch_size, *size, channels), dtype=torch.uint8, generator=generator)
        labels = torch.randint(0, 3, (batch_size, *size), dtype=torch.int32, generator=generator)
        model = subject.model()
        about = f"{batch_size} images of {size[0]} x {size[1]} px"
        _check_trains(model, subject.with_classes(TensorBatch(images, labels)), about)
        _check_predicts(model.eval(), images, about)


def check_any_labels(subject: Subject) -> None:
    """Check that the model trains on images without objects, with one, with many, and with large labels."""
    for name, labels in LABELS.items():
        noise = np.random.default_rng(0).integers(0, 60, (*labels.shape, subject.settings.channels))
        image = np.where(labels[..., None] > 0, 90 + noise, 190 + noise).astype(np.uint8)
        batch, model = subject.with_classes(batch_of((image, labels))), subject.model()
        _check_trains(model, batch, name)
        _check_predicts(model.eval(), batch.images, name)


def check_validation_loss(subject: Subject) -> None:
    """Check that losses in eval mode need no gradients, are reproducible, and change no weight or statistic."""
    batch, model = subject.batch((32, 32), ((16, 16, 8),)), subject.model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.eval()
    with torch.no_grad():
        first, second = model.training_step(batch), model.training_step(batch)
    _claim(first == second, f"two losses of one batch must be equal, got {first} and {second}")
    _claim(not any(loss.requires_grad for loss in first.values()), "losses must have no graph under no_grad")
    changed = [name for name, value in model.state_dict().items() if not torch.equal(value, before[name])]
    _claim(not changed, f"a validation loss must change nothing, got changed {changed}")


def check_prediction_repeats(subject: Subject) -> None:
    """Check that in eval mode the same image gets the same prediction again."""
    images = subject.batch((40, 56), ((12, 12, 8), (28, 40, 9))).images
    model = subject.model().eval()
    _check_equal(model.predict(images)[0], model.predict(images)[0], "two predictions of one image")


def check_batch_or_alone(subject: Subject) -> None:
    """Check that an image gets the same labels alone and in a batch, except in less than 0.1% of its pixels."""
    model = subject.model().eval()
    images = subject.batch((40, 56), ((12, 12, 8),), ((28, 40, 9), (9, 9, 5))).images
    together, alone = model.predict(images)[1], model.predict(images[1:])[0]
    share = float(np.mean(together.labels != alone.labels))  # convolutions may round otherwise
    _claim(
        share < 1e-3, f"an image must be predicted alone as in a batch, got other labels in {share:.1%} of it"
    )


def check_inputs_stay(subject: Subject) -> None:
    """Check that the model does not change its input images and labels."""
    batch, model = subject.batch((32, 32), ((16, 16, 8),)), subject.model()
    images, labels = batch.images.clone(), batch.labels.clone()
    model.training_step(batch)
    model.eval().predict(batch.images)
    _claim(torch.equal(batch.images, images), "images must be left alone")
    _claim(torch.equal(batch.labels, labels), "labels must be left alone")


def check_same_seed(subject: Subject) -> None:
    """Check that weights depend only on the seed of torch's global generator."""
    first, second = subject.fresh().state_dict(), subject.fresh().state_dict()
    other = [name for name, value in first.items() if not torch.equal(value, second[name])]
    _claim(not other, f"the same seed must give the same weights, got others in {other}")


def check_state_round_trip(subject: Subject) -> None:
    """Check that a trained model predicts the same after its weights were saved and loaded.

    The weights are saved by torch and as safetensors, and loaded as data only.
    """
    from safetensors.torch import load, save

    model = subject.model()
    batch = subject.batch((40, 56), ((12, 12, 8),), ((28, 40, 9), (9, 9, 5)))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for _ in range(3):
        optimizer.zero_grad()
        torch.stack(list(model.training_step(batch).values())).sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    packed = save({name: value.contiguous() for name, value in model.state_dict().items()})
    expected = model.eval().predict(batch.images)
    for state in (torch.load(file, weights_only=True), load(packed)):
        loaded = subject.model()
        for parameter in loaded.parameters():
            torch.nn.init.zeros_(parameter)
        loaded.load_state_dict(state)
        for one, other in zip(expected, loaded.eval().predict(batch.images), strict=True):
            _check_equal(one, other, "predictions before saving and after loading")


def check_parts(subject: Subject) -> None:
    """Check that encoder and head have no parameter in common, and that there are other parameters between them."""
    model = subject.model()
    own = {id(parameter) for parameter in model.parameters()}
    encoder, head = ({id(p) for part in end for p in part.parameters()} for end in model.parts())
    _claim(bool(encoder), "parts().encoder must have parameters")
    _claim(bool(head), "parts().head must have parameters")
    _claim(not encoder & head, "parts().encoder and parts().head must have no parameter in common")
    _claim(
        encoder | head < own,
        "parts() must leave parameters of the model between its ends, and have no others",
    )


def check_frozen_ends(subject: Subject) -> None:
    """Check that the model trains with its encoder or its head frozen."""
    for end in ("encoder", "head"):
        model = subject.model()
        for part in getattr(model.parts(), end):
            part.requires_grad_(False)
        _check_trains(model, subject.batch((48, 40), ((16, 16, 8),)), f"with its {end} frozen")


def check_transferable(subject: Subject) -> None:
    """Check that `transferable` returns all fitting parameters, and nothing that does not fit."""
    model, settings = subject.model(), type(subject.settings)()
    taken = model.transferable(model.state_dict().keys(), settings)
    learned = {name for name, _ in model.named_parameters()}
    _claim(
        learned <= taken, f"transferable must take every parameter that fits, got without {learned - taken}"
    )
    _claim(taken <= model.state_dict().keys(), "transferable must take nothing but what fits")
    _claim(model.transferable([], settings) == set(), "transferable must take nothing where nothing fits")


def check_postprocess_keys(subject: Subject) -> None:
    """Check that the settings to tune are settings of post-processing, each once, with valid candidates."""
    model = subject.model()
    keys, candidates = model.postprocess_keys, model.tuning_candidates
    unknown = {*keys} - {*PostprocessSettings.model_fields}
    _claim(not unknown, f"postprocess_keys must be fields of PostprocessSettings, got {sorted(unknown)}")
    _claim(len({*keys}) == len(keys) > 0, f"postprocess_keys must name some, each once, got {keys}")
    others = sorted(candidates.keys() - {*keys})
    _claim(not others, f"tuning_candidates must be of postprocess_keys, got {others}")
    for key, values in candidates.items():
        for value in values:
            PostprocessSettings.model_validate({key: value})


def check_compiles(subject: Subject) -> None:
    """Check that compiling the model in place changes no name and no loss.

    The model is only traced by Dynamo, so no compiler is needed on the machine.
    """
    torch._dynamo.reset()  # it gives up on a function after a few versions, those of earlier checks included
    batch = subject.batch((32, 48), ((16, 16, 8),))
    plain, compiled = subject.model().eval(), subject.model().eval()
    compiled.compile(backend="eager", fullgraph=True)
    with torch.no_grad():
        expected, found = plain.training_step(batch), compiled.training_step(batch)
    _claim(expected == found, f"a compiled model must have the same losses, got {found} for {expected}")
    _claim(
        compiled.state_dict().keys() == plain.state_dict().keys(), "compiling must change no name of a tensor"
    )


def check_autocast(subject: Subject) -> None:
    """Check that losses and probabilities are float32 under autocast."""
    batch, model = subject.batch((32, 32), ((16, 16, 8),)), subject.model()
    with torch.autocast("cpu", torch.bfloat16):
        _check_trains(model, batch, "under autocast")
        if isinstance(model, DenseModel):
            dtype = model.eval().predict_maps(batch.images).dtype
            _claim(dtype == torch.float32, f"maps must be float32 under autocast, got {dtype}")


def check_channels_last(subject: Subject) -> None:
    """Check that the model computes the same with the channels-last memory format."""
    batch, model = subject.batch((32, 48), ((16, 16, 8),)), subject.model().eval()
    with torch.no_grad():
        expected = model.training_step(batch)
        model.to(memory_format=torch.channels_last)
        found = model.training_step(batch)
    for name, loss in expected.items():
        close = torch.isclose(loss, found[name], rtol=1e-4)
        _claim(bool(close), f"loss {name} must be the same with channels last, got {found[name]} for {loss}")


def check_maps(subject: Subject) -> None:
    """Check that a dense model's maps are in 0 to 1, and that its prediction is made from these maps."""
    model = subject.model().eval()
    if not isinstance(model, DenseModel):
        return
    images = subject.batch((40, 56), ((12, 12, 8),)).images
    maps = model.predict_maps(images)
    _claim(
        maps.shape[0] == 1 and maps.shape[2:] == (40, 56), f"maps must be [1, C, 40, 56], got {[*maps.shape]}"
    )
    _claim(
        bool(((maps >= 0) & (maps <= 1)).all()), f"maps must lie in 0 to 1, got {maps.min()} to {maps.max()}"
    )
    composed = model.instances_from_maps(maps[0].numpy())
    _check_equal(composed, model.predict(images)[0], "the instances of the maps and the prediction")


def check_postprocess_replaced(subject: Subject) -> None:
    """Check that post-processing settings may be replaced at any time."""
    images, model = subject.batch((40, 56), ((12, 12, 8),)).images, subject.model().eval()
    model.postprocess = PostprocessSettings(min_object_area_px=40 * 56 + 1)
    prediction = model.predict(images)[0]
    _claim(
        prediction.labels.max() == 0, "postprocess.min_object_area_px must be obeyed after it was replaced"
    )
    _claim(prediction.scores.shape == (0,), "scores must be as many as instances")


def check_learns(
    subject: Subject, *, lr: float = 0.01, num_steps: int = 150, touching: bool = False, num_images: int = 4
) -> None:
    """Check that the model learns a few small images by heart, so that losses, targets and post-processing agree.

    Args:
        subject: The model.
        lr: Learning rate of Adam.
        num_steps: Largest number of steps.
        touching: Whether two of the objects touch.
        num_images: Number of images, 1 to 4.
    """
    model = subject.model()
    model.postprocess = PostprocessSettings(min_object_area_px=10)
    torch.manual_seed(0)
    batch = few_images(num_images, touching=touching, channels=subject.settings.channels)
    f1 = f1_by_heart(model, batch, lr=lr, num_steps=num_steps)
    _claim(
        f1 == 1.0,
        f"it must find every object of the images that it was trained on, got an object F1 of {f1:.3f}",
    )


def check_classes(subject: Subject) -> None:
    """Check the loss of classes: it exists exactly if the model learns classes, and depends on known objects only.

    It must be 0 where no class is known, and must not change any other loss.
    """
    num, model = subject.settings.num_classes, subject.model().eval()
    batch = subject.batch((48, 56), ((12, 12, 8), (30, 40, 9), (36, 12, 7)))
    _claim(
        model.num_classes == num, f"num_classes must be that of its settings, {num}, got {model.num_classes}"
    )
    with torch.no_grad():
        losses = model.training_step(batch)
        unknown = model.training_step(batch._replace(classes=None))
    _claim(
        ("class" in losses) == bool(num), f"a loss 'class' must be there if classes are, got {sorted(losses)}"
    )
    if num:
        of_class = float(unknown["class"])
        _claim(of_class == 0, f"where no class is known, their loss must be 0, got {of_class}")
        rest = all(torch.equal(losses[name], loss) for name, loss in unknown.items() if name != "class")
        _claim(rest, "what is known of classes must change no other loss")


def _check_trains(model: SegmentationModel, batch: TensorBatch, about: str) -> None:
    """Check that losses are finite scalars whose sum reaches every trainable parameter with a finite gradient."""
    model.zero_grad(set_to_none=True)
    losses = model.training_step(batch)
    _claim(bool(losses), f"{about}: training_step must return losses, got none")
    for name, loss in losses.items():
        _claim(loss.shape == (), f"{about}: loss {name} must be a scalar, got shape {[*loss.shape]}")
        _claim(loss.dtype == torch.float32, f"{about}: loss {name} must be float32, got {loss.dtype}")
        _claim(bool(torch.isfinite(loss)), f"{about}: loss {name} must be finite, got {loss.item()}")
    torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            _claim(parameter.grad is None, f"{about}: {name} is frozen and must have no gradient")
            continue
        _claim(
            parameter.grad is not None,
            f"{about}: {name} must have a gradient, got none; no loss depends on it",
        )
        assert parameter.grad is not None
        _claim(bool(torch.isfinite(parameter.grad).all()), f"{about}: {name} must have a finite gradient")


def _check_predicts(model: SegmentationModel, images: torch.Tensor, about: str) -> None:
    """Check that each image has a label map of its own size, labels 1 to n without gaps, a score for each."""
    predictions = model.predict(images)
    _claim(len(predictions) == len(images), f"{about}: predict must return one prediction per image")
    for prediction in predictions:
        _check_probabilities(model, prediction, about)
        labels, scores = prediction.labels, prediction.scores
        _claim(
            labels.shape == images.shape[1:3],
            f"{about}: labels must have the image's size, got {labels.shape}",
        )
        _claim(labels.dtype == np.int32, f"{about}: labels must be int32, got {labels.dtype}")
        found = np.unique(labels[labels != 0]).tolist()
        _claim(
            found == list(range(1, len(scores) + 1)),
            f"{about}: labels must be 1 to n with n scores, got {found[:9]}",
        )
        _claim(scores.dtype == np.float32, f"{about}: scores must be float32, got {scores.dtype}")
        _claim(bool(((scores > 0) & (scores <= 1)).all()), f"{about}: scores must lie above 0 and up to 1")


def _check_probabilities(model: SegmentationModel, prediction: Prediction, about: str) -> None:
    """Check that each object has a probability of each class, and these add up to 1; nothing without classes."""
    found, num = prediction.class_probabilities, model.num_classes
    if found is None or not num:
        _claim(
            found is None and not num, f"{about}: there must be probabilities of classes if it learns them"
        )
        return
    shape = (len(prediction.scores), num)
    _claim(found.shape == shape, f"{about}: class_probabilities must be {shape}, got {found.shape}")
    _claim(found.dtype == np.float32, f"{about}: class_probabilities must be float32, got {found.dtype}")
    _claim(
        bool((found >= 0).all()) and bool((abs(found.sum(axis=1) - 1) < 1e-3).all()),
        f"{about}: the probabilities of an object's classes must add up to 1",
    )


def _check_equal(one: Prediction, other: Prediction, what: str) -> None:
    _claim(np.array_equal(one.labels, other.labels), f"{what} must have equal labels")
    _claim(np.array_equal(one.scores, other.scores), f"{what} must have equal scores")


def _claim(holds: bool, otherwise: str) -> None:
    """Raise an AssertionError unless something holds, also where Python leaves assert statements out."""
    if not holds:
        raise AssertionError(otherwise)
