"""Registering a study: made once, and never mistaken for another."""

from dataclasses import replace

import pytest
import sqlalchemy as sa
from small_ledger import ask, checkpoint, register, registration, spec

from searcher.exceptions import StudyConflictError, UserError
from searcher.ledger.lease import Lease
from searcher.ledger.shipped import as_it_began
from searcher.ledger.tables import CheckpointRow, LaunchRow, StudyRow
from searcher.study.catalog import load_study
from searcher.study.reader import parse_study


@pytest.mark.parametrize(
    ("overrides", "difference"),
    [
        ({"study__objective": "loss"}, "study.objective was 'object_dice', got 'loss'"),
        ({"train__epochs": 7}, "train.epochs was 20, got 7"),
        ({"optimizer__lr": 0.01}, "space.optimizer.lr was 0.001 .. 0.1 log, got not set"),
    ],
)
def test_another_study_under_the_same_name_is_refused_with_the_difference(database, overrides, difference):
    register(database)
    with pytest.raises(StudyConflictError) as caught:
        register(database, spec(**overrides))
    assert difference in str(caught.value)
    assert "--set study.name=NAME" in str(caught.value)


def test_other_data_under_the_same_name_is_refused(database):
    register(database)
    with pytest.raises(
        StudyConflictError, match=r"data was glas \(ffffffffffff\), got other data \(eeeeeeeeeeee\)"
    ):
        register(database, fingerprint="e" * 64)


def test_budget_and_resources_may_change(database):
    register(database)
    again = spec(study__trials=9, resources__cpus=2, search__sampler="gp")
    register(database, again)
    assert database.study("s").budget == 4, "not before the lease is held"
    registration(again).begin_launch(database)
    assert database.study("s").budget == 9


def test_a_new_study_refuses_a_folder_with_trials_it_does_not_know(database, tmp_path):
    (tmp_path / "s" / "trial-0000").mkdir(parents=True)
    with pytest.raises(
        StudyConflictError, match="must hold no trials of a study that the database does not know"
    ):
        register(database, root=tmp_path)


def test_another_storage_root_needs_the_checkpoints_there(database, tmp_path):
    ledger = register(database)
    ledger.checkpoint(ask(ledger), checkpoint("last", epoch=1))
    with pytest.raises(
        StudyConflictError, match=r"must hold the study's checkpoints.*--storage /nowhere/runs"
    ):
        register(database, root=tmp_path)
    (tmp_path / "s" / "trial-0000").mkdir(parents=True)
    (tmp_path / "s" / "trial-0000" / "last.pt").touch()
    register(database, root=tmp_path)


def test_a_checkpoint_that_is_known_to_be_lost_need_not_be_moved(database, tmp_path):
    ledger = register(database)
    ledger.checkpoint(ask(ledger), checkpoint("last", epoch=1))
    with database.write() as session:  # as doctor --fix and a retry do
        session.execute(sa.update(CheckpointRow).values(problem="missing"))
    register(database, root=tmp_path)


def test_a_study_folder_that_leads_elsewhere_is_refused_before_anything_is_written(database, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "s").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="every file must lie below it, got s; a link leads elsewhere"):
        register(database, root=tmp_path / "runs")
    assert database.study_names() == []


def test_a_key_that_a_newer_version_brought_is_no_difference_while_it_has_its_default(database):
    register(database)
    with database.write() as session:  # as a version wrote it that knew no moving average
        row = session.scalars(sa.select(StudyRow)).one()
        row.identity = {key: value for key, value in row.identity.items() if key != "train.ema_decay"}
    register(database)
    with pytest.raises(StudyConflictError, match=r"train\.ema_decay was 0\.0, got 0\.5"):
        register(database, spec(train__ema_decay=0.5))


def test_a_study_whose_images_are_normalised_does_not_go_on_with_images_as_they_are(database):
    """The digests of both are the same, so that older studies can go on."""
    register(database)
    Lease.acquire(database, "s").release()
    with pytest.raises(
        StudyConflictError, match=r"data\.normalisation was 'auto', got 'fixed'; launch as before"
    ):
        registration(spec(data__normalisation="fixed")).check(database)


def test_a_study_from_before_normalisation_is_not_mixed_with_normalised_images(database):
    register(database)
    study = replace(registration(), normalised_since="images are 8 bit fluorescence")
    study.check(database)  # nothing was launched yet
    Lease.acquire(database, "s").release()
    study.check(database)
    with database.write() as session:  # as an older version recorded it
        session.execute(sa.update(LaunchRow).values(versions={"python": "3.11", "meaning": "2"}))
    with pytest.raises(StudyConflictError, match=r"began before images .* --set data\.normalisation=fixed"):
        study.check(database)
    registration(spec(data__normalisation="fixed")).check(database)
    with pytest.raises(StudyConflictError, match=r"data\.normalisation was 'auto', got 'percentile'|not set"):
        registration(spec(data__normalisation="percentile")).check(database)


def test_a_shipped_study_goes_on_as_it_began_when_the_package_has_another_file(database):
    now = load_study("unet-demo")
    text = now.text.replace('min_object_area_px = "auto"', "min_object_area_px = 40")
    assert text != now.text
    began = parse_study(text, source=now.source, origin=now.origin)
    register(database, began)
    registration(began).begin_launch(database)
    row = database.study_row("unet-demo")
    with pytest.raises(StudyConflictError, match="min_object_area_px was 40, got 'auto'"):
        registration(now).check(database)
    goes_on = as_it_began(load_study("unet-demo", {"study.trials": 30}), row)
    registration(goes_on).check(database)
    assert (goes_on.fixed["postprocess.min_object_area_px"], goes_on.study.trials) == (40, 30)
    # A file of one's own, and a study that is as it was, are taken as they are.
    own = replace(now, origin="/home/me/unet-demo.toml")
    assert as_it_began(own, row) is own
    assert as_it_began(began, row) is began


def test_other_classes_on_the_same_images_are_refused(database):
    learned = {"data__learn_classes": True}
    register(database, spec(**learned, data__class_digest="a" * 64))
    register(database, spec(**learned, data__class_digest="a" * 64))
    with pytest.raises(
        StudyConflictError,
        match=r"the classes of the objects were aaaaaaaaaaaa, got others on the same images \(bbbbbbbbbbbb\)",
    ):
        register(database, spec(**learned, data__class_digest="b" * 64))
