"""What is given up and what stays, with real files, on both databases."""

import hashlib
import os
import threading
from pathlib import Path

import pytest
import sqlalchemy as sa
from stored_study import StoredStudy, content_of

from searcher.exceptions import UserError
from searcher.ledger import disposal
from searcher.ledger.disposal import Freed
from searcher.ledger.retention import collect
from searcher.ledger.tables import CheckpointRow, ExportRow, StudyRow

ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
"""For what is about files: a second database would show nothing more."""


@pytest.fixture
def study(database, tmp_path) -> StoredStudy:
    return StoredStudy(database, tmp_path)


def gc(study: StoredStudy, keep_best: int | None = None, **options) -> Freed:
    return collect(study.database, "s", keep_best=keep_best, **options)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_over_the_whole_study_best_of_the_best_trials_stays_and_of_equals_the_earlier(study):
    for value in (0.5, 0.9, 0.7, 0.7, 0.1):
        study.complete(value)
    freed = gc(study, keep_best=2)
    assert [study.files(n) for n in range(5)] == [[], ["best.pt"], ["best.pt"], [], []]
    assert len(freed.removed) == 8
    assert freed.freed_bytes == 8 * 8192
    assert (freed.num_kept, freed.kept_bytes, freed.problems) == (2, 2 * 8192, ())
    assert [study.records(n)["best"].is_removed for n in range(5)] == [True, False, False, True, True]
    assert all(study.records(n)["last"].is_removed for n in range(5))


@ON_SQLITE
def test_smaller_is_better_where_the_objective_says_so(database, tmp_path):
    study = StoredStudy(database, tmp_path, study__objective="loss")
    for value in (0.5, 0.1):
        number = study.begin()
        study.save(number, "best", content_of(number, "best"))
        study.ledger.complete(number, value, best_epoch=1, stop_reason="epochs")
    gc(study, keep_best=1)
    assert [study.files(n) for n in range(2)] == [[], ["best.pt"]]


@ON_SQLITE
def test_pruned_and_failed_trials_do_not_compete(study):
    pruned = study.begin()
    study.save_all(pruned)
    study.ledger.report(pruned, 1, {"object_dice": 0.99})
    study.ledger.prune(pruned, 1)
    failed = study.begin()
    study.save_all(failed)
    study.ledger.fail(failed, "loss became nan", retry=False)
    complete = study.complete(0.1)
    gc(study, keep_best=1)
    assert [study.files(n) for n in (pruned, failed, complete)] == [[], [], ["best.pt"]]


@ON_SQLITE
def test_without_a_number_best_of_every_trial_stays(study):
    complete = study.complete()
    failed = study.begin()
    study.save_all(failed, ("previous", "last", "best"))
    study.write(failed, "previous-best.pt", b"an earlier best")
    study.ledger.fail(failed, "loss became nan", retry=False)
    gc(study)
    assert [study.files(n) for n in (complete, failed)] == [["best.pt"], ["best.pt"]]


def test_what_a_running_trial_and_its_ancestors_have_stays(study):
    first = study.begin()
    study.save_all(first)
    study.write(first, "previous.pt", b"before")
    study.ledger.fail(first, "its worker was lost", retry=True)
    second = study.begin()
    study.save_all(second)
    study.write(second, "last.pt.tmp", b"cut off")
    study.ledger.fail(second, "its worker was lost", retry=True)
    third = study.begin()
    study.save_all(third)
    study.write(third, "best.pt.tmp", b"being written")
    for _ in range(2):
        gc(study, keep_best=1)
        assert study.files(first) == ["best.pt", "last.pt", "previous.pt"]
        assert study.files(second) == ["best.pt", "last.pt"], "a writer that is gone left a file"
        assert study.files(third) == ["best.pt", "best.pt.tmp", "last.pt"], "this one is being written"
    study.ledger.complete(third, 0.5, best_epoch=1, stop_reason="epochs")
    gc(study, keep_best=1)
    assert [study.files(n) for n in (first, second, third)] == [[], [], ["best.pt"]]


def test_what_a_queued_retry_will_go_on_from_stays(study):
    number = study.begin()
    study.save_all(number)
    study.ledger.fail(number, "its worker was lost", retry=True)
    assert gc(study, keep_best=1).removed == ()
    assert study.files(number) == ["best.pt", "last.pt"]


def test_only_the_trials_asked_for_are_looked_at(study):
    for _ in range(3):
        study.complete()
    freed = gc(study, trials=[1])
    assert freed.removed == ("s/trial-0001/last.pt",)
    assert [study.files(n) for n in range(3)] == [["best.pt", "last.pt"], ["best.pt"], ["best.pt", "last.pt"]]


def test_a_dry_run_says_the_same_and_changes_nothing(study):
    for value in (0.1, 0.2):
        study.complete(value)
    said = gc(study, keep_best=1, dry_run=True)
    assert [study.files(n) for n in range(2)] == [["best.pt", "last.pt"]] * 2
    assert not any(record.is_removed for n in range(2) for record in study.records(n).values())
    assert gc(study, keep_best=1) == said
    assert said.removed == ("s/trial-0000/best.pt", "s/trial-0000/last.pt", "s/trial-0001/last.pt")


@ON_SQLITE
def test_names_of_one_file_free_its_room_once_and_only_with_the_last_of_them(study):
    number = study.begin()
    best = study.save(number, "best", content_of(number, "best"))
    study.link(number, "last.pt", best)
    study.record(number, "last", content_of(number, "best"))
    study.ledger.complete(number, 0.2, best_epoch=1, stop_reason="epochs")
    freed = gc(study)
    assert (freed.removed, freed.freed_bytes) == (("s/trial-0000/last.pt",), 0)
    study.link(number, "last.pt", best)
    study.complete(0.9)
    freed = gc(study, keep_best=1)
    assert freed.removed == ("s/trial-0000/best.pt", "s/trial-0000/last.pt", "s/trial-0001/last.pt")
    assert freed.freed_bytes == 2 * 8192


@ON_SQLITE
def test_a_file_with_another_name_elsewhere_frees_nothing(study, tmp_path):
    number = study.complete(kinds=("last",))
    os.link(study.folder(number) / "last.pt", tmp_path / "a copy of mine.pt")
    assert gc(study).freed_bytes == 0
    assert (tmp_path / "a copy of mine.pt").read_bytes() == content_of(number, "last")


def export(study: StoredStudy, trial: int, content: bytes) -> None:
    with study.database.write() as session:
        session.add(
            ExportRow(
                study_id=study.ledger.study_id,
                trial=trial,
                epoch=1,
                checkpoint_sha256=sha256(content),
                path="/bundles/s",
                sha256="b" * 64,
            )
        )


def test_the_bytes_of_an_export_stay_under_whatever_name(study):
    for value in (0.1, 0.2, 0.9):
        study.complete(value)
    export(study, 0, content_of(0, "best"))
    export(study, 1, b"a best that a later one replaced")
    study.write(1, "previous-best.pt", b"a best that a later one replaced")
    for _ in range(2):
        gc(study, keep_best=1)
        assert [study.files(n) for n in range(3)] == [["best.pt"], ["previous-best.pt"], ["best.pt"]]
    assert not study.records(0)["best"].is_removed
    assert study.records(1)["best"].is_removed


def test_what_a_child_study_began_from_stays(study):
    for value in (0.1, 0.9):
        study.complete(value)
    with study.database.write() as session:
        child = {
            column.name: getattr(session.get(StudyRow, study.ledger.study_id), column.name)
            for column in StudyRow.__table__.columns
            if column.name != "id"
        }
        child |= {"name": "child", "parent_study": "s", "parent_trial": 0}
        session.add(StudyRow(**child | {"parent_sha256": sha256(content_of(0, "best"))}))
    gc(study, keep_best=1)
    assert [study.files(n) for n in range(2)] == [["best.pt"], ["best.pt"]]


@ON_SQLITE
def test_a_file_that_may_be_an_export_but_cannot_be_read_stays(study, monkeypatch):
    number = study.complete(kinds=("last",))
    export(study, number, b"whatever")
    monkeypatch.setattr(disposal, "_sha256", lambda path: None)  # root reads everything
    freed = gc(study)
    assert study.files(number) == ["last.pt"]
    assert "must be readable to know whether it is needed; kept" in freed.problems[0]


@ON_SQLITE
def test_of_a_failed_trial_the_recorded_best_stays_even_where_a_later_one_took_its_name(study):
    number = study.begin()
    study.record(number, "best", b"recorded")
    study.write(number, "previous-best.pt", b"recorded")
    study.write(number, "best.pt", b"unheard-")
    study.ledger.fail(number, "loss became nan", retry=False)
    gc(study)
    assert study.files(number) == ["best.pt", "previous-best.pt"]


@ON_SQLITE
def test_the_recorded_best_stays_where_best_pt_was_cut_short(study):
    number = study.begin()
    study.record(number, "best", b"recorded")
    study.write(number, "last.pt", b"recorded")
    study.write(number, "best.pt", b"rec")
    study.ledger.complete(number, 0.5, best_epoch=1, stop_reason="epochs")
    gc(study)
    assert study.files(number) == ["best.pt", "last.pt"]


@ON_SQLITE
def test_a_file_is_read_only_where_that_decides_something(study, monkeypatch):
    study.complete()
    monkeypatch.setattr(disposal, "_sha256", lambda path: pytest.fail(f"{path} was read"))
    assert gc(study).removed == ("s/trial-0000/last.pt",)


@ON_SQLITE
def test_what_searcher_did_not_write_stays(study):
    number = study.complete()
    for name in ("mine.pt", "notes.txt", "best.safetensors"):
        study.write(number, name, b"mine")
    (study.folder(number) / "previous.pt").mkdir()
    gc(study, keep_best=1)
    assert study.files(number) == ["best.pt", "best.safetensors", "mine.pt", "notes.txt", "previous.pt"]


@ON_SQLITE
def test_trials_that_the_database_does_not_know_are_left_alone(study):
    study.complete()
    unknown = study.folder(7)
    unknown.mkdir()
    (unknown / "last.pt").write_bytes(b"of another database")
    gc(study, keep_best=1)
    assert (unknown / "last.pt").exists()


def test_a_crash_between_the_record_and_the_file_is_made_good_by_the_next_call(study, monkeypatch):
    number = study.complete()

    def die(self: Path, missing_ok: bool = False) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as dying:
        dying.setattr(Path, "unlink", die)
        with pytest.raises(KeyboardInterrupt):
            gc(study)
    assert study.records(number)["last"].is_removed, "first the record"
    assert study.files(number) == ["best.pt", "last.pt"]
    assert gc(study).removed == ("s/trial-0000/last.pt",)
    assert study.files(number) == ["best.pt"]


@ON_SQLITE
def test_a_file_that_cannot_be_removed_is_said_and_the_others_go(study, monkeypatch):
    for value in (0.1, 0.2):
        study.complete(value, kinds=("last",))
    unlink = Path.unlink

    def refuse(self: Path, missing_ok: bool = False) -> None:
        if self.parent.name == "trial-0000":
            raise PermissionError(13, "Permission denied")
        unlink(self, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", refuse)
    freed = gc(study)
    assert freed.removed == ("s/trial-0001/last.pt",)
    assert freed.freed_bytes == 8192
    [problem] = freed.problems
    assert "trial-0000/last.pt: could not be removed: Permission denied" in problem


@ON_SQLITE
def test_nothing_is_removed_through_a_link(study, tmp_path):
    for value in (0.1, 0.9):
        study.complete(value)
    outside = tmp_path / "elsewhere"
    study.folder(0).rename(outside)
    study.folder(0).symlink_to(outside)
    freed = gc(study, keep_best=1)
    assert {path.name for path in outside.iterdir()} >= {"best.pt", "last.pt"}
    assert "every file must lie below it, got s/trial-0000" in freed.problems[0]
    study.folder(0).unlink()
    study.folder(0).symlink_to(study.folder(1))
    freed = gc(study, keep_best=1)
    assert study.files(1) == ["best.pt"]
    assert "must be a folder, got a link" in freed.problems[0]


def test_a_study_whose_checkpoints_are_not_here_is_refused(study):
    study.complete()
    study.root.rename(study.root.with_name("moved"))
    with pytest.raises(UserError, match="its checkpoints must lie on this machine"):
        gc(study)
    assert not study.records(0)["best"].is_removed


def test_a_study_that_was_deleted_from_optunas_tables_keeps_everything(study):
    import optuna

    study.complete()
    optuna.delete_study(study_name="s", storage=study.database.optuna_storage)
    with pytest.raises(UserError, match="was deleted from them"):
        gc(study, keep_best=1)
    assert study.files(0) == ["best.pt", "last.pt"]


def test_beside_a_driver_that_retries_trials_nothing_that_is_needed_goes(study):
    """A trial becomes FAIL only after its retry is queued: whenever it is looked at, the chain is whole."""
    done = threading.Event()
    lost: list[str] = []

    def collect_again_and_again() -> None:
        while not done.is_set():
            lost.extend(gc(study, keep_best=1).removed)

    collector = threading.Thread(target=collect_again_and_again)
    collector.start()
    try:
        for _ in range(8):
            number = study.begin()
            study.save_all(number)
            study.ledger.fail(number, "interrupted", retry=True, counts=False)
    finally:
        done.set()
        collector.join()
    assert lost == []
    with study.database.read() as session:
        marked = sa.select(CheckpointRow).where(CheckpointRow.removed_at.is_not(None))
        assert session.scalars(marked).all() == []
