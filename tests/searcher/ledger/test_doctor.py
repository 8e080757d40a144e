"""What the doctor finds, says and fixes: real faults, both databases. A second round finds only what stays broken."""

import json
import multiprocessing
import os
import shlex
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import optuna
import pytest
import sqlalchemy as sa
from optuna.trial import TrialState
from stored_study import TEXT, StoredStudy, content_of

from searcher.data_pipeline import SyntheticGlands, prepare_store
from searcher.exceptions import DatabaseError, UnknownStudyError
from searcher.ledger.database import Database
from searcher.ledger.doctor import Finding, examine, open_database
from searcher.ledger.lease import Lease
from searcher.ledger.retention import collect
from searcher.ledger.tables import CheckpointRow, EpochRow, LaunchRow, StudyRow

ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
"""For what is about files: a second database would show nothing more."""


@pytest.fixture
def study(database, tmp_path) -> StoredStudy:
    return StoredStudy(database, tmp_path)


@pytest.fixture
def look(database, tmp_path):
    """The doctor, with an empty cache folder."""

    def look(*, fix: bool = False, **about) -> list[Finding]:
        return examine(database, cache_dir=tmp_path / "cache", fix=fix, **about)

    return look


def found(findings: list[Finding]) -> list[tuple[str, str, str]]:
    return [(finding.kind, finding.where, finding.state) for finding in findings]


def in_a_process_that_dies(url: str, folder: Path, *, trials: int = 0) -> None:
    """Hold the lease, begin trials, and end without a word."""
    driver = multiprocessing.get_context("forkserver").Process(
        target=_drive_and_die, args=(url, folder, trials)
    )
    driver.start()
    driver.join(timeout=60)
    assert driver.exitcode == 9


def _drive_and_die(url: str, folder: Path, trials: int) -> None:
    with Database.open(url) as database:
        Lease.acquire(database, "s")
        study = StoredStudy(database, folder)
        for _ in range(trials):
            study.save_all(study.begin())
        os._exit(9)


def test_of_a_healthy_study_nothing_is_said(study, look):
    study.complete()
    with Lease.acquire(study.database, "s") as lease:
        lease.ends_as("finished")
    assert look(fix=True) == []
    assert look(study="s") == []


@ON_SQLITE
def test_an_unknown_study_is_refused(study, look):
    with pytest.raises(UnknownStudyError):
        look(study="t")


# ---- drivers ----


def test_what_a_killed_driver_left_is_fixed_as_the_next_launch_would(study, look, database_url, tmp_path):
    in_a_process_that_dies(database_url, tmp_path, trials=2)
    launch, trials = look()
    assert (launch.kind, launch.what, launch.state) == (
        "launch", "has no end, and its driver is gone", "mendable",
    )  # fmt: skip
    assert (trials.kind, trials.where, trials.state) == ("trial", "trial 0, 1", "mendable")
    assert len(study.ledger.trials(TrialState.RUNNING)) == 2, "without --fix nothing changes"
    findings = look(fix=True)
    assert [finding.state for finding in findings] == ["mended", "mended"]
    assert findings[1].remedy == "trial 0, 1 FAIL; queued again as trial 2, 3; launch to go on"
    assert [trial.state for trial in study.ledger.trials()] == [TrialState.FAIL] * 2 + [
        TrialState.WAITING
    ] * 2
    assert [trial.user_attrs.get("retry_of") for trial in study.ledger.trials()] == [None, None, 0, 1]
    with study.database.read() as session:
        outcomes = session.scalars(sa.select(LaunchRow.outcome).order_by(LaunchRow.id)).all()
        assert outcomes == ["lost", "mended"]
        assert None not in session.scalars(sa.select(LaunchRow.ended_at)).all()
    assert look(fix=True) == []
    with study.database.read() as session:
        assert session.scalar(sa.select(sa.func.count(LaunchRow.id))) == 2, "nothing to fix takes no lease"


@ON_SQLITE
def test_a_trial_tried_too_often_is_not_queued_again_and_that_is_said(study, look):
    for _ in range(2):
        study.ledger.fail(study.begin(), "its worker was lost", retry=True)
    study.begin()
    [trial] = look(fix=True)
    assert trial.remedy == "trial 2 FAIL; 1 not queued again, tried too often"


@ON_SQLITE
def test_a_study_whose_text_cannot_be_read_any_more_is_fixed_too(study, look):
    study.begin()
    with study.database.write() as session:
        session.execute(sa.update(StudyRow).values(spec_text="[study]\nname = 's'\n[removed_table]\nx = 1\n"))
    trial, text = look(fix=True)
    assert (trial.kind, trial.state) == ("trial", "mended")
    assert (text.kind, text.state) == ("drift", "left")
    assert "cannot be read by this version of searcher" in text.what
    assert "removed_table" in text.what


def test_a_study_with_a_living_driver_is_left_alone_and_that_is_said(study, look):
    number = study.begin()
    study.save_all(number)
    study.write(number, "best.pt", b"written a moment ago")
    study.write(number, "last.pt.tmp", b"being written")
    done = study.complete()
    (study.folder(done) / "best.pt").unlink()
    (study.folder(done) / "last.pt").unlink()
    with Lease.acquire(study.database, "s") as lease:
        driver, best, last = look(fix=True)
        lease.ends_as("finished")
    assert (driver.kind, driver.where, driver.state) == (
        "driver", f"process {os.getpid()} on {os.uname().nodename}", "noted",
    )  # fmt: skip
    assert (best.where, best.state) == ("s/trial-0001/best.pt", "left")
    assert (last.where, last.state, last.remedy) == (
        "s/trial-0001/last.pt", "left", "when its driver has ended the launch: --fix",
    )  # fmt: skip
    assert study.ledger.trial(number).state == TrialState.RUNNING
    assert (study.folder(number) / "last.pt.tmp").exists()
    assert study.records(done)["best"].problem is None


# ---- checkpoints ----


def damage(path: Path, how: str) -> str:
    """Damage a file and return what will be said of it."""
    content = bytearray(path.read_bytes())
    path.unlink()  # other names of the same file keep the old bytes
    if how == "missing":
        return "missing"
    if how == "truncated":
        path.write_bytes(content[:5000])
        return "5000 bytes, recorded 8192"
    content[4000] ^= 1
    path.write_bytes(content)
    return "sha256 is "


@ON_SQLITE
@pytest.mark.parametrize("how", ["missing", "truncated", "a flipped bit"])
def test_lost_weights_are_written_down_once_and_said_ever_after(study, look, how):
    number = study.complete()
    said = damage(study.folder(number) / "best.pt", how)
    [finding] = look()
    assert (finding.where, finding.state) == ("s/trial-0000/best.pt", "left")
    assert finding.what.startswith(said)
    assert "its values stay true, but its weights are lost" in finding.why
    assert study.records(number)["best"].problem is None
    for _ in range(2):
        [again] = look(fix=True)
        assert again.to_dict() == finding.to_dict()
        assert study.records(number)["best"].problem == finding.what
    with study.database.read() as session:
        assert session.scalar(sa.select(sa.func.count(LaunchRow.id))) == 1, (
            "the second round had nothing to write"
        )


@ON_SQLITE
def test_the_command_that_trains_lost_weights_again_trains_the_same_configuration(database, look, tmp_path):
    from searcher.api.training import only_point
    from searcher.study.catalog import load_study
    from searcher.study.reader import parse_value

    study = StoredStudy(
        database,
        tmp_path,
        text=TEXT.replace('["sgd", "adam"]', '["sgd", "adamw"]'),
        train__epochs=3,
        train__ema_decay=0.0,
        optimizer__lr=1e-05,
        augment__preset="none",
    )
    for _ in range(4):  # sgd and adamw, with and without momentum
        number = study.complete()
        damage(study.folder(number) / "best.pt", "missing")
    commands = [finding.command for finding in look()]
    assert {study.ledger.trial(n).params["optimizer.name"] for n in range(4)} == {"sgd", "adamw"}
    for number, command in enumerate(commands):
        words = shlex.split(command)
        assert words[:6] == ["searcher", "train", "--study", str(study.file), "--storage", str(study.root)]
        assert words[6::2] == ["--set"] * (len(words[6:]) // 2)
        settings = dict(word.split("=", 1) for word in words[7::2])
        spec = load_study(str(study.file), {key: parse_value(text) for key, text in settings.items()})
        params = study.ledger.trial(number).params
        assert spec.trial_config(only_point(spec)) == study.spec.trial_config(params)


def test_a_checkpoint_that_nothing_needs_is_written_off(study, look):
    complete = study.complete()
    failed = study.begin()
    study.save_all(failed)
    study.ledger.fail(failed, "loss became nan", retry=False)
    for number, name in ((complete, "last.pt"), (failed, "last.pt"), (failed, "best.pt")):
        (study.folder(number) / name).unlink()
    assert [finding.state for finding in look()] == ["mendable"] * 3
    assert [finding.remedy for finding in look(fix=True)] == ["written off"] * 3
    assert study.records(complete)["last"].is_removed
    assert not study.records(complete)["best"].is_removed
    assert look(fix=True) == []


def test_damage_to_what_a_queued_retry_goes_on_from_is_written_down_and_then_no_problem(study, look):
    number = study.begin()
    study.save_all(number)
    study.ledger.fail(number, "its worker was lost", retry=True)
    damage(study.folder(number) / "last.pt", "truncated")
    [finding] = look(fix=True)
    assert (finding.where, finding.state, finding.remedy) == (
        "s/trial-0000/last.pt",
        "mended",
        "written down",
    )
    assert study.records(number)["last"].problem == "5000 bytes, recorded 8192"
    [finding] = look(fix=True)
    assert (finding.state, finding.is_open) == ("noted", False)


@ON_SQLITE
def test_bytes_that_the_worker_moved_to_another_name_are_no_damage(study, look):
    number = study.begin()
    study.save_all(number)
    study.ledger.fail(number, "its worker was lost", retry=True)
    for kind in ("last", "best"):
        moved = "previous.pt" if kind == "last" else "previous-best.pt"
        (study.folder(number) / f"{kind}.pt").rename(study.folder(number) / moved)
        study.write(number, f"{kind}.pt", b"written, not reported")
    assert look() == []


@ON_SQLITE
def test_a_worker_that_wrote_once_more_than_it_reported_left_no_damage(study, look):
    number = study.begin()
    for epoch in (1, 2):
        study.record(number, "last", b"epoch %d" % epoch, epoch=epoch)
    study.write(number, "previous.pt", b"epoch 2")
    study.write(number, "last.pt", b"epoch 3")
    study.ledger.fail(number, "interrupted", retry=True)
    assert study.records(number)["previous"].epoch == 1
    assert look() == []
    study.write(number, "last.pt", b"epoch 2")
    study.write(number, "previous.pt", b"epoch ?")
    [finding] = look()
    assert (finding.where, finding.state) == ("s/trial-0000/previous.pt", "mendable"), (
        "nothing was overtaken here"
    )


@pytest.mark.parametrize("how", ["missing", "a flipped bit"])
def test_a_damaged_best_is_put_back_from_another_file_with_its_bytes(study, look, how, monkeypatch):
    number = study.begin()
    best = study.save(number, "best", content_of(number, "best"))
    study.write(number, "last.pt", content_of(number, "best"))
    study.record(number, "last", content_of(number, "best"))
    study.ledger.complete(number, 0.5, best_epoch=1, stop_reason="epochs")
    for has_links in (True, False):
        if not has_links:
            monkeypatch.setattr(os, "link", _no_links)
        damage(best, how)
        [finding] = look()
        assert (finding.where, finding.state) == ("s/trial-0000/best.pt", "mendable")
        assert finding.what == "not the recorded bytes, which lie in last.pt"
        [finding] = look(fix=True)
        assert (finding.state, finding.remedy) == ("mended", "last.pt put in its place")
        assert best.read_bytes() == content_of(number, "best")
        assert study.files(number) == ["best.pt", "last.pt"]
        assert look(fix=True) == []


def _no_links(*_: object) -> None:
    raise PermissionError(1, "Operation not permitted")


def test_a_file_that_a_person_put_back_clears_the_record(study, look):
    number = study.complete()
    best = study.folder(number) / "best.pt"
    best.rename(best.with_name("backup"))
    look(fix=True)
    best.with_name("backup").rename(best)
    [finding] = look()
    assert (finding.what, finding.state) == ("recorded as damaged (missing), but whole", "mendable")
    look(fix=True)
    assert study.records(number)["best"].problem is None
    assert look(fix=True) == []


@ON_SQLITE
def test_what_was_given_up_is_not_missed(study, look):
    study.complete()
    collect(study.database, "s", keep_best=None)
    assert look() == []


def test_a_record_that_points_outside_the_storage_root_is_never_opened(study, look, tmp_path):
    number = study.complete(kinds=("best",))
    with study.database.write() as session:
        session.execute(sa.update(CheckpointRow).values(uri="../s.toml"))
    [finding] = look(fix=True)
    assert (finding.where, finding.state) == ("../s.toml", "left")
    assert "every file must lie below it" in finding.what
    assert study.records(number)["best"].problem is None


@ON_SQLITE
def test_where_the_whole_folder_is_elsewhere_no_record_is_touched(study, look):
    number = study.complete()
    study.root.rename(study.root.with_name("moved"))
    [finding] = look(fix=True)
    assert finding.what == "no such folder on this machine, where 2 checkpoints are recorded"
    assert not any(record.problem or record.is_removed for record in study.records(number).values())


# ---- study files ----


@ON_SQLITE
def test_an_edited_study_file_is_said_with_its_differing_keys(study, look):
    study.file.write_text(TEXT.replace("low = 0.001", "low = 0.01") + "[train]\nepochs = 7\n")
    [finding] = look(fix=True)
    assert (finding.kind, finding.where, finding.state) == ("drift", str(study.file), "left")
    assert finding.what == (
        "was changed: space.optimizer.lr was 0.001 .. 0.1 log, got 0.01 .. 0.1 log; train.epochs was 20, got 7"
    )
    study.file.write_text(TEXT + "[resources]\ncpus = 2\n")
    assert look() == [], "what may change between launches may change"


@ON_SQLITE
@pytest.mark.parametrize(
    ("text", "what"),
    [
        (None, "is gone, or not on this machine"),
        ("[study", "is no valid study any more: "),
        (TEXT.replace('"s"', '"other"'), "now describes another study, other"),
    ],
)
def test_a_study_file_that_does_not_describe_the_study_any_more(study, look, text, what):
    study.file.unlink() if text is None else study.file.write_text(text)
    [finding] = look()
    assert finding.what.startswith(what)
    assert (finding.kind, finding.state) == ("drift", "left")


@ON_SQLITE
def test_a_changed_file_of_a_study_that_is_done_is_only_noted(database, look, tmp_path):
    study = StoredStudy(database, tmp_path, study__trials=1)
    study.complete()
    study.file.unlink()
    [finding] = look()
    assert (finding.state, finding.is_open) == ("noted", False)


@ON_SQLITE
def test_what_the_command_line_set_is_no_drift(database, look, tmp_path):
    StoredStudy(database, tmp_path, train__epochs=3, optimizer__lr=0.01)
    assert look() == []


@ON_SQLITE
def test_a_version_that_reads_the_stored_text_differently_is_said_once(study, look):
    """As if train.epochs had had another default when the study was launched."""
    with study.database.write() as session:
        row = session.scalars(sa.select(StudyRow)).one()
        row.identity = row.identity | {"train.epochs": 50}
    [finding] = look()
    assert finding.where == "its text in the database"
    assert finding.what == "this version of searcher reads it differently: train.epochs was 50, got 20"


def test_a_study_from_before_the_file_was_recorded_has_no_drift(study, look):
    with study.database.write() as session:
        session.execute(sa.update(StudyRow).values(spec_source=None, overrides=sa.null()))
    study.file.unlink()
    assert look() == []


# ---- lineage ----


def make_child(study: StoredStudy, *, sha256: str | None, parent: str = "s") -> None:
    child = {
        column.name: getattr(study.database.study_row("s"), column.name)
        for column in StudyRow.__table__.columns
        if column.name != "id"
    }
    child |= {"name": "child", "spec_text": TEXT.replace('"s"', '"child"'), "spec_source": None}
    child |= {"parent_study": parent, "parent_trial": 0, "parent_sha256": sha256}
    with study.database.write() as session:
        session.add(StudyRow(**child))
    optuna.create_study(study_name="child", storage=study.database.optuna_storage)


def test_a_deleted_parent_is_said_and_the_lineage_stays(study, look):
    make_child(study, sha256=None, parent="deleted")
    [finding] = look(fix=True)
    assert (finding.where, finding.what, finding.state) == (
        "parent deleted, trial 0", "the study was deleted", "noted",
    )  # fmt: skip
    row = study.database.study_row("child")
    assert (row.parent_study, row.parent_trial) == ("deleted", 0)


def test_a_parents_checkpoint_that_trials_still_start_from_is_missed(study, look):
    number = study.complete()
    sha256 = study.records(number)["best"].sha256
    make_child(study, sha256=sha256)
    assert look(study="child") == []
    (study.folder(number) / "best.pt").unlink()
    [finding] = look(study="child", fix=True)
    assert (finding.where, finding.what, finding.state) == (
        "parent s, trial 0", f"its checkpoint {sha256[:12]}… is gone", "left",
    )  # fmt: skip


def test_a_study_deleted_from_optunas_tables_is_said_and_keeps_what_we_have(study, look):
    number = study.complete()
    (study.folder(number) / "best.pt").unlink()
    optuna.delete_study(study_name="s", storage=study.database.optuna_storage)
    for fix in (False, True, True):
        [finding] = look(fix=fix)
        assert (finding.kind, finding.where, finding.state) == ("lineage", "Optuna's tables", "left")
        assert "--set study.name=NAME" in finding.remedy
    with study.database.read() as session:
        assert session.scalar(sa.select(sa.func.count(EpochRow.id))) == 1
        assert session.scalar(sa.select(sa.func.count(CheckpointRow.id))) == 2


def test_trials_that_only_our_tables_know_are_said(study, look):
    study.complete()
    shutil.rmtree(study.folder(0))
    optuna.delete_study(study_name="s", storage=study.database.optuna_storage)
    optuna.create_study(study_name="s", direction="maximize", storage=study.database.optuna_storage)
    [finding] = look(fix=True)
    assert (finding.where, finding.state) == ("trial 0", "left")
    assert finding.what == "has epochs or checkpoints, but is not in Optuna's tables"


# ---- folders and stores ----


@ON_SQLITE
def test_trial_folders_that_the_database_does_not_know(study, look):
    study.complete()
    study.folder(7).mkdir()
    (study.root / "other" / "trial-0000").mkdir(parents=True)
    (study.root / "s" / "train-20250101-000000").mkdir()
    unknown, foreign = look(fix=True)
    assert found([unknown, foreign]) == [
        ("folder", str(study.folder(7)), "left"),
        ("folder", str(study.root / "other"), "noted"),
    ]
    assert study.folder(7).is_dir()
    assert [finding.where for finding in look(study="s")] == [str(study.folder(7))]


@ON_SQLITE
def test_half_written_files_of_writers_that_are_gone_are_removed(study, look):
    number = study.complete()
    for name in ("last.pt.tmp", "config.json.tmp"):
        (study.folder(number) / name).write_bytes(b"cut off")
    [finding] = look()
    assert (finding.where, finding.state) == ("s/trial-0000/config.json.tmp and 1 more", "mendable")
    [finding] = look(fix=True)
    assert (finding.state, finding.remedy) == ("mended", "removed")
    assert study.files(number) == ["best.pt", "last.pt"]
    assert look(fix=True) == []


KILLED_BUILDER = """
import os, sys
from pathlib import Path
from searcher.data_pipeline import SyntheticGlands, prepare_store
prepare_store(SyntheticGlands(num_images=4, size_px=64, seed=3), Path(sys.argv[1]), progress=lambda *_: os._exit(9))
"""


@ON_SQLITE
def test_half_built_stores_are_removed_and_whole_ones_stay(study, look, tmp_path):
    cache = tmp_path / "cache"
    whole = prepare_store(SyntheticGlands(num_images=4, size_px=64, seed=4), cache).path
    assert subprocess.run([sys.executable, "-c", KILLED_BUILDER, str(cache)]).returncode == 9
    [partial] = cache.glob("*.partial")
    [finding] = look()
    assert (finding.kind, finding.where, finding.what, finding.state) == (
        "store", str(partial), "half-built, and its builder is gone", "mendable",
    )  # fmt: skip
    assert look(study="s", fix=True) == [], "it is not this study's"
    [finding] = look(fix=True)
    assert (finding.state, finding.remedy) == ("mended", "removed")
    assert not partial.exists()
    assert whole.is_dir()
    assert look(fix=True) == []


@ON_SQLITE
def test_a_damaged_store_is_found_and_removed(study, look, tmp_path):
    path = prepare_store(SyntheticGlands(num_images=4, size_px=64, seed=4), tmp_path / "cache").path
    labels = bytearray((path / "labels.bin").read_bytes())
    labels[:] = bytes(len(labels))
    (path / "labels.bin").write_bytes(labels)
    [finding] = look()
    assert (finding.kind, finding.where, finding.state) == ("store", str(path), "mendable")
    assert finding.what == (
        "the store must hold the bytes that were written into it, got others for labels of train_1, labels of train_2, "
        "labels of train_3 and 1 more"
    )
    [finding] = look(fix=True)
    assert (finding.state, finding.remedy) == ("mended", "removed")
    assert look(fix=True) == []


# ---- the database itself ----


def test_a_database_of_an_older_revision_is_upgraded(tmp_path):
    url = str(tmp_path / "old.db")
    old = sqlite3.connect(url)
    old.executescript((Path(__file__).parent / "golden" / "0001.sql").read_text())
    old.close()
    database, [finding] = open_database(url, fix=False)
    assert database is None
    assert (finding.kind, finding.state) == ("database", "mendable")
    assert "got 0001" in finding.what
    with pytest.raises(DatabaseError):
        Database.open(url)
    database, [finding] = open_database(url, fix=True)
    with database:
        assert (finding.state, finding.remedy) == ("mended", "upgraded")
        assert database.study_names() != []
    database, findings = open_database(url, fix=True)
    database.close()
    assert findings == []


def test_a_newer_or_missing_or_foreign_database_is_refused(database, database_url, tmp_path):
    with pytest.raises(DatabaseError, match="must exist"):
        open_database(str(tmp_path / "none.db"), fix=True)
    assert not (tmp_path / "none.db").exists()
    with database.write() as session:
        session.execute(sa.text("UPDATE searcher_alembic_version SET version_num = '9999'"))
    with pytest.raises(DatabaseError, match="install a newer searcher"):
        open_database(database_url, fix=True)


@ON_SQLITE
def test_findings_are_plain_values(study, look):
    study.begin()
    [finding] = look()
    assert json.loads(json.dumps(finding.to_dict())) == finding.to_dict()
    assert set(finding.to_dict()) == {"kind", "study", "where", "what", "why", "remedy", "command", "state"}
