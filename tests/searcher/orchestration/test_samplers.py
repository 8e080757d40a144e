"""Every sampler a study can name proposes points of a conditional space, again differently after a relaunch."""

import math
import warnings

import optuna
import pytest
from new_database import new_database
from small_ledger import registration
from tiny_study import tiny

from searcher.ledger.study_ledger import StudyLedger
from searcher.orchestration.trials.samplers import build_sampler


@pytest.mark.parametrize("name", ["random", "qmc", "tpe", "gp", "cmaes", "fast-gp"])
def test_a_sampler_works_through_the_database_and_goes_on_after_a_relaunch(name, tmp_path):
    spec = tiny(search__sampler=name, search__startup_trials=3)
    proposed = []
    with new_database(tmp_path / "s.db") as database, warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        registration(spec, root=tmp_path).register(database)
        for launch in range(2):
            ledger = StudyLedger(database, spec, build_sampler(spec, num_trials=5 * launch))
            for _ in range(5):
                trial = ledger.optuna_study.ask()
                params = spec.space.suggest(trial)
                spec.trial_config(params)
                proposed.append(tuple(sorted(params.items())))
                value = abs(
                    math.log10(params["optimizer.lr"]) + 2.3
                )  # an optimum inside the range, not at its edge
                ledger.report(trial.number, 1, {"loss": value})
                ledger.complete(trial.number, value, best_epoch=1, stop_reason="epochs")
    assert len(set(proposed)) == 10, "nothing is proposed twice, before or after the relaunch"


def test_auto_draws_half_as_many_at_random_as_there_are_parameters():
    """Two samplers see opposite values: they propose the same until they learn."""

    def history(sign: float) -> list:
        spec = tiny(search__sampler="tpe", search__startup_trials="auto")
        study, found = optuna.create_study(sampler=build_sampler(spec, num_trials=0)), []
        for _ in range(6):
            trial = study.ask()
            params = spec.space.suggest(trial)
            study.tell(trial, sign * math.log10(params["optimizer.lr"]))
            found.append(params)
        return found

    equal = [up == down for up, down in zip(history(1.0), history(-1.0), strict=True)]
    assert equal.index(False) == math.ceil(len(tiny().space) / 2)


def test_the_same_seed_proposes_the_same(tmp_path):
    def first_points() -> list:
        study = optuna.create_study(sampler=build_sampler(tiny(), num_trials=0))
        return [tiny().space.suggest(study.ask()) for _ in range(3)]

    assert first_points() == first_points()
