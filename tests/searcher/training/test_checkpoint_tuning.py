"""Tuning several networks together: each is asked about its own validation images, and about no others."""

import pytest
import torch
from toy_models import RedIsProbability

from searcher.inference.tuning import tune_postprocess
from searcher.models.settings import PostprocessSettings
from searcher.training.checkpoint_tuning import tune_together
from searcher.training.dataset import split_store


class Asked(RedIsProbability):
    """Remembers what it was shown."""

    def __init__(self, factor: float = 1.0) -> None:
        super().__init__(factor, PostprocessSettings())
        self.images: list[bytes] = []

    def predict_maps(self, images):
        self.images.append(images.numpy().tobytes())
        return super().predict_maps(images)


@pytest.mark.parametrize("tta", [False, True])
def test_folds_are_tuned_on_all_images_and_none_that_a_network_was_trained_on(store, tiny, tta):
    configs = [tiny(data={"folds": 5, "fold": fold}) for fold in (0, 3)]
    models = [Asked(), Asked()]
    tuned = tune_together(
        list(zip(configs, models, strict=True)), "object_f1", store, device=torch.device("cpu"), tta=tta
    )
    val = [split_store(store, config.data).val for config in configs]
    assert [len(indices) for indices in val] == [2, 2]
    assert (tuned.num_images, tuned.metric) == (4, "object_f1")
    for model, indices in zip(models, val, strict=True):
        assert set(model.images) >= {store.image(index).tobytes() for index in indices}
        others = set(range(10)) - set(indices)
        assert not {store.image(index).tobytes() for index in others} & set(model.images)


def test_networks_of_several_seeds_are_asked_together_about_the_images_of_all(store, tiny):
    """One says half as much again as there is red, the other half of it: their mean says what there is."""

    def tuned(*factors):
        networks = [
            (tiny(data={"folds": 5, "fold": 2}, train={"seed": seed}), Asked(factor))
            for seed, factor in enumerate(factors)
        ]
        return tune_together(networks, "object_f1", store, device=torch.device("cpu"), tta=False)

    together, one, other = tuned(1.5, 0.5), tuned(1.0), tuned(0.5)
    assert together == one
    assert together.value_before != other.value_before
    assert together.num_images == 2, "and not each image twice"


def test_eight_views_are_tuned_from_what_was_configured_as_one_view_is(store, tiny, monkeypatch):
    begun_from = []

    def noting(predictor, *args, **kwargs):
        begun_from.append(predictor.postprocess)
        return tune_postprocess(predictor, *args, **kwargs)

    monkeypatch.setattr("searcher.training.checkpoint_tuning.tune_postprocess", noting)
    config = tiny(data={"folds": 5}, postprocess={"threshold": 0.9})
    tuned = tune_together([(config, Asked())], "object_f1", store, device=torch.device("cpu"), tta=True)
    assert tuned.postprocess != config.postprocess, "or the test says nothing"
    assert begun_from == [config.postprocess, config.postprocess]
