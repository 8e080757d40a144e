"""What the driver writes for Optuna dashboard: artifacts of trials, the note of a study."""

import shutil
import sqlite3
import threading

import optuna
import pytest
from new_database import new_database
from optuna.artifacts import _upload
from optuna_dashboard._note import get_note
from small_ledger import register
from stored_study import StoredStudy

from searcher.ledger.database import Database
from searcher.ledger.lease import Lease
from searcher.ledger.retry_policy import RetryPolicy
from searcher.ledger.study_note import read_note, write_note
from searcher.ledger.trial_artifacts import ATTRIBUTE_PREFIX, OTHER_MIMETYPE
from searcher.study.layout import ARTIFACTS


@pytest.fixture
def study(tmp_path):
    with new_database(tmp_path / "s.db") as database:
        yield StoredStudy(database, tmp_path)


def artifacts(study: StoredStudy, number: int) -> dict[str, bytes]:
    """Return a trial's artifacts as Optuna's own reader finds them."""
    storage = study.database.optuna_storage
    trial = study.ledger.trial(number)
    store = optuna.artifacts.FileSystemArtifactStore(study.root / ARTIFACTS)
    found = {}
    for meta in optuna.artifacts.get_all_artifact_meta(study_or_trial=trial, storage=storage):
        with store.open_reader(meta.artifact_id) as file:
            found[meta.filename] = file.read()
        assert meta.mimetype == {"jpg": "image/jpeg", "png": "image/png"}[meta.filename[-3:]]
    return found


def test_a_trials_files_become_artifacts_that_optuna_reads(study):
    number, other = study.begin(), study.begin()
    for trial in (number, other):
        study.write(trial, "a.jpg", b"a of %d" % trial)
        study.write(trial, "b.png", b"b of %d" % trial)
        study.ledger.attach(trial, ["a.jpg", "b.png"], study.root)
    assert artifacts(study, number) == {"a.jpg": b"a of 0", "b.png": b"b of 0"}
    assert artifacts(study, other) == {"a.jpg": b"a of 1", "b.png": b"b of 1"}
    (study.folder(number) / "a.jpg").unlink()  # the trial's folder may be tidied up
    assert artifacts(study, number)["a.jpg"] == b"a of 0"


def test_attaching_again_after_a_break_anywhere_ends_with_each_once(study, monkeypatch):
    number = study.begin()
    for name in ("a.jpg", "b.png"):
        study.write(number, name, name.encode())
    storage = study.database.optuna_storage
    set_attr, calls = storage.set_trial_system_attr, []

    def goes_away(*args):
        """Write down, and lose the confirmation; then refuse; then work."""
        calls.append(args)
        if len(calls) == 1:
            set_attr(*args)
        if len(calls) <= 2:
            locked = sqlite3.OperationalError("database is locked")
            locked.sqlite_errorcode = sqlite3.SQLITE_BUSY
            raise optuna.exceptions.StorageInternalError from locked
        set_attr(*args)

    monkeypatch.setattr(storage, "set_trial_system_attr", goes_away)
    said: list[str] = []
    study.ledger.retry_policy = RetryPolicy(said.append, threading.Event())
    study.ledger.attach(number, ["a.jpg", "b.png"], study.root)
    monkeypatch.undo()
    assert artifacts(study, number) == {"a.jpg": b"a.jpg", "b.png": b"b.png"}
    assert len(calls) == 4
    assert "waiting" in said[0]
    study.ledger.complete(number, 0.5, best_epoch=1, stop_reason="epochs")
    study.ledger.attach(number, ["a.jpg"], study.root)  # Optuna lets nobody write on an ended trial


def test_another_database_with_a_study_of_that_name_in_the_same_root_takes_no_picture_away(tmp_path):
    with (
        new_database(tmp_path / "old.db") as old,
        new_database(tmp_path / "new.db") as new,
    ):
        studies = []
        for database in (old, new):
            shutil.rmtree(tmp_path / "runs" / "s", ignore_errors=True)
            studies.append(study := StoredStudy(database, tmp_path))
            study.write(study.begin(), "a.jpg", f"of {database.address}".encode())
            study.ledger.attach(0, ["a.jpg"], study.root)
        for study, name in zip(studies, ("old.db", "new.db"), strict=True):
            assert artifacts(study, 0) == {"a.jpg": f"of {tmp_path / name}".encode()}


def test_what_an_artifact_is_called_is_as_the_installed_optuna_has_it():
    assert ATTRIBUTE_PREFIX == _upload.ARTIFACTS_ATTR_PREFIX
    assert OTHER_MIMETYPE == _upload.DEFAULT_MIME_TYPE


def test_a_file_that_is_not_there_names_nothing_in_the_database(study):
    number = study.begin()
    with pytest.raises(FileNotFoundError):
        study.ledger.attach(number, ["none.jpg"], study.root)
    assert artifacts(study, number) == {}


def test_the_note_says_what_was_launched_on_what_data(study):
    with Lease.acquire(study.database, "s"):
        study.ledger.note_launch(
            "searcher launch --study s --data `a|b`", num_images=165, num_training_images=85
        )
    note = get_note(study.ledger.optuna_study)  # as Optuna dashboard reads it
    [launch] = [line for line in note.splitlines() if line.startswith("- ")]
    for text in ("`searcher launch --study s --data 'a\\|b'`", "process ", "optuna ", "gland-searcher "):
        assert text in launch
    for text in (
        "object_dice, maximize",
        "`synthetic glands`: 165 images, 85 to train",
        "`" + "f" * 64 + "`",
    ):
        assert text in note
    assert f"`{study.root}/s`" in note
    assert study.ledger.optuna_study.metric_names == ["object_dice"]


def test_a_second_launch_is_added_and_a_persons_words_stay(study):
    with Lease.acquire(study.database, "s"):
        study.ledger.note_launch("first", num_images=1, num_training_images=1)
        study.ledger.note_launch("first", num_images=1, num_training_images=1)  # repeated after an outage
    storage, study_id = study.database.optuna_storage, study.ledger.optuna_study._study_id
    write_note(storage, study_id, read_note(storage, study_id) + "\nLooks good. Anna\n")
    with Lease.acquire(study.database, "s"):
        study.ledger.note_launch("second", num_images=1, num_training_images=1)
    note = get_note(study.ledger.optuna_study)
    assert [note.count(text) for text in ("`first`", "Looks good. Anna", "`second`", "# s\n")] == [1, 1, 1, 1]
    assert note.index("`first`") < note.index("Anna") < note.index("`second`")


def test_long_notes_are_cut_as_the_dashboard_cuts_them_and_may_shrink(study):
    storage, study_id = study.database.optuna_storage, study.ledger.optuna_study._study_id
    for text in ("x" * 2045, "y" * 9000, "short", "z" * 4091, ""):
        write_note(storage, study_id, text)
        assert get_note(study.ledger.optuna_study) == read_note(storage, study_id) == text


def test_no_password_gets_into_the_note(migrated_postgres_url):
    with Database.open(migrated_postgres_url) as database:
        ledger = register(database)
        with Lease.acquire(database, "s"):
            ledger.note_launch(
                "searcher launch --study s --db @secret.txt", num_images=1, num_training_images=1
            )
        note = get_note(ledger.optuna_study)
    assert "@secret.txt" in note
    assert "s3cret-pw" not in note
