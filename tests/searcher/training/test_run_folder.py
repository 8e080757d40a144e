"""A run's folder keeps what a killed or unlucky epoch replaced, and takes nothing over that is not what it seems."""

import functools
import json
import shutil
from pathlib import Path

import pytest

from searcher.exceptions import CheckpointError
from searcher.study.objectives import Objective
from searcher.training import run_folder
from searcher.training.checkpoints import load_checkpoint
from searcher.training.history import read_history
from searcher.training.reporter import NullReporter
from searcher.training.trainer import Trainer
from searcher.training.validation import Validator

DICE = Objective("object_dice")
VALIDATE = Validator.validate


class Killed(BaseException):
    """What stops a process that reports an epoch."""


class Driver(NullReporter):
    """Keeps books of a trial's folder like a driver: digests by kind, of the epochs that it heard of."""

    def __init__(self, run_dir, *, deaf_from=99):
        self._run_dir, self._deaf_from = run_dir, deaf_from
        self.recorded = {}

    def report(self, epoch, metrics):
        if epoch >= self._deaf_from:
            raise Killed
        for kind in ("last", "best"):
            self.recorded[kind] = load_checkpoint(self._run_dir / f"{kind}.pt")[1]
        return super().report(epoch, metrics)


@pytest.fixture
def values(monkeypatch):
    """Return a function that sets the objective's value of every epoch, from the first."""
    return functools.partial(script, monkeypatch)


def script(monkeypatch, *values):
    def scripted(self, model, *, epoch, **more):
        return {**VALIDATE(self, model, epoch=epoch, **more), "object_dice": values[epoch - 1]}

    monkeypatch.setattr(Validator, "validate", scripted)


@pytest.fixture
def config(tiny):
    return configured(tiny)


def configured(tiny, **train):
    """Return five epochs of one step."""
    return tiny(data={"samples_per_epoch": 2}, train={"epochs": 5, "batch_size": 2, **train})


def train(config, store, run_dir, reporter, num_epochs=5, **arguments):
    with Trainer(config, DICE, store=store, run_dir=run_dir, **arguments) as trainer:
        for _ in range(num_epochs):
            if trainer.step(reporter):
                break
        return trainer.best_checkpoint


def names(folder):
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".jsonl")


def epochs(folder):
    return {path.stem: load_checkpoint(path)[0].epoch for path in folder.glob("*.pt")}


def test_the_best_before_the_best_stays_for_an_epoch(config, store, tmp_path, values):
    values(0.5, 0.4, 0.6, 0.7, 0.1)
    driver = NullReporter()
    with Trainer(config, DICE, store=store, run_dir=tmp_path) as trainer:
        seen = []
        while trainer.step(driver) is None:
            seen.append(epochs(tmp_path))
        seen.append(epochs(tmp_path))
    assert seen == [
        {"last": 1, "best": 1},
        {"last": 2, "best": 1, "previous": 1},
        {"last": 3, "best": 3, "previous": 2, "previous-best": 1},
        {"last": 4, "best": 4, "previous": 3, "previous-best": 3},
        {"last": 5, "best": 4, "previous": 4},
    ]


@pytest.mark.parametrize("in_place", [True, False], ids=["the same folder", "another folder"])
def test_killed_before_it_reported_a_new_best_the_recorded_best_stays(
    config, store, tmp_path, values, in_place
):
    values(0.5, 0.4, 0.6, 0.0, 0.0)
    first = tmp_path / "first"
    driver = Driver(first, deaf_from=3)
    with pytest.raises(Killed):
        train(config, store, first, driver)
    recorded = driver.recorded["best"]
    original = (first / "previous-best.pt").read_bytes()
    assert load_checkpoint(first / "best.pt")[0].epoch == 3  # written, never reported
    # Another device computes another value for epoch 3: no new best.
    values(0.5, 0.4, 0.3, 0.2, 0.1)
    folder = first if in_place else tmp_path / "second"
    best = train(
        config,
        store,
        folder,
        NullReporter(),
        resume_from=first / "previous.pt",
        resume_sha256=driver.recorded["last"].sha256,
    )
    assert (best.epoch, best.value, best.sha256) == (1, 0.5, recorded.sha256)
    assert (folder / "best.pt").read_bytes() == original
    assert load_checkpoint(folder / "best.pt", sha256=recorded.sha256)[0].epoch == 1
    assert [line["epoch"] for line in read_history(folder / "metrics.jsonl")] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("in_place", [True, False], ids=["the same folder", "another folder"])
@pytest.mark.parametrize("last", [0.6, 0.3], ids=["the last epoch is the best", "an earlier one is"])
def test_killed_when_it_had_tuned_the_recorded_best_stays(tiny, store, tmp_path, values, in_place, last):
    """The last epoch's message leaves after tuning: until then, the driver knows the best of the epochs before."""
    config = tiny(
        data={"samples_per_epoch": 2}, train={"epochs": 3, "batch_size": 2}, tuning={"postprocess": True}
    )
    values(0.5, 0.4, last)
    first = tmp_path / "first"
    driver = Driver(first)
    with Trainer(config, DICE, store=store, run_dir=first) as trainer:
        assert [trainer.step(driver), trainer.step(driver)] == [None, None]
        recorded = dict(driver.recorded)
        assert trainer.step(driver).tuned is not None  # and nobody hears of it
    kept = {load_checkpoint(path)[1].sha256: path.name for path in first.glob("*.pt")}
    assert {recorded["best"].sha256, recorded["last"].sha256} <= kept.keys()

    values(0.5, 0.4, 0.2)  # another device computes another value for epoch 3
    folder = first if in_place else tmp_path / "second"
    resumed = {
        "resume_from": first / kept[recorded["last"].sha256],
        "resume_sha256": recorded["last"].sha256,
    }
    best = train(config, store, folder, NullReporter(), **resumed)
    assert (best.epoch, best.value) == (1, 0.5)
    found, _ = load_checkpoint(folder / "best.pt", sha256=best.sha256)
    assert (found.epoch, found.tuned is None) == (1, False)


def test_a_best_of_the_right_epoch_from_another_training_is_not_taken(
    config, store, tmp_path, values, caplog
):
    values(0.5, 0.6, 0.4, 0.3, 0.2)
    train(config, store, tmp_path / "one", NullReporter(), num_epochs=3)
    values(0.5, 0.7, 0.4, 0.3, 0.2)  # trained again, not bit by bit: epoch 2 with another value
    train(config, store, tmp_path / "two", NullReporter(), num_epochs=3)
    (tmp_path / "one" / "previous.pt").unlink()
    shutil.copy(tmp_path / "two" / "best.pt", tmp_path / "one" / "best.pt")
    best = train(
        config,
        store,
        tmp_path / "three",
        NullReporter(),
        resume_from=tmp_path / "one" / "last.pt",
    )
    assert best is None
    assert "the best checkpoint so far, of epoch 2, is not beside it" in caplog.text


def damage(path):
    """Flip a bit in the middle, and leave other names of the file alone."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.unlink()
    path.write_bytes(content)


def test_a_damaged_best_is_said_and_not_passed_off_as_whole(config, store, tmp_path, values, caplog):
    values(0.5, 0.4, 0.3, 0.2, 0.1)
    train(config, store, tmp_path, NullReporter(), num_epochs=3)
    damage(tmp_path / "best.pt")
    damaged = (tmp_path / "best.pt").read_bytes()
    best = train(config, store, tmp_path, NullReporter(), resume_from=tmp_path / "last.pt")
    assert best is None
    assert f"{tmp_path / 'best.pt'}: must be as it was written, got changed bytes" in caplog.text
    assert (tmp_path / "best.pt").read_bytes() == damaged  # for whoever looks for the damage


def test_a_damaged_best_is_found_again_under_another_name(config, store, tmp_path, values):
    values(0.5, 0.4, 0.3, 0.2, 0.1)
    train(config, store, tmp_path, NullReporter(), num_epochs=2)
    recorded = load_checkpoint(tmp_path / "best.pt")[1]
    damage(tmp_path / "best.pt")
    best = train(config, store, tmp_path, NullReporter(), resume_from=tmp_path / "last.pt")
    assert best.sha256 == recorded.sha256
    assert load_checkpoint(tmp_path / "best.pt", sha256=recorded.sha256)[0].epoch == 1


def test_a_checkpoint_that_changed_since_it_was_verified_is_refused(config, store, tmp_path):
    train(config, store, tmp_path / "one", NullReporter(), num_epochs=1)
    last = tmp_path / "one" / "last.pt"
    sha256 = load_checkpoint(last)[1].sha256
    train(config, store, tmp_path / "one", NullReporter(), num_epochs=1, resume_from=last)
    with pytest.raises(CheckpointError, match=f"sha256 must be {sha256}"):
        Trainer(
            config,
            DICE,
            store=store,
            run_dir=tmp_path / "two",
            resume_from=last,
            resume_sha256=sha256,
        )
    assert names(tmp_path / "two") == []


def test_a_checkpoint_replaced_while_it_is_taken_over_is_refused(config, store, tmp_path, monkeypatch):
    # The worker of a driver that was killed lives a little longer, and finishes its epoch.
    train(config, store, tmp_path / "one", NullReporter(), num_epochs=2)
    last = tmp_path / "one" / "last.pt"
    publish = run_folder.publish_checkpoint

    def finish_an_epoch_first(file, path):
        if path == tmp_path / "two" / "last.pt":
            shutil.copy(tmp_path / "one" / "previous.pt", tmp_path / "one" / "next.pt")
            (tmp_path / "one" / "next.pt").replace(last)
        return publish(file, path)

    monkeypatch.setattr(run_folder, "publish_checkpoint", finish_an_epoch_first)
    with pytest.raises(CheckpointError, match="another process is writing to its folder"):
        Trainer(config, DICE, store=store, run_dir=tmp_path / "two", resume_from=last)


@pytest.mark.parametrize("name", ["last.pt", "best.pt", "previous.pt", "previous-best.pt"])
def test_a_new_run_does_not_overwrite_what_is_left_of_an_earlier_one(config, store, tmp_path, name):
    # Of a finished trial the best checkpoint stays, the last is given up.
    (tmp_path / name).write_bytes(b"weights")
    with pytest.raises(CheckpointError, match=f"{name}: a new run must not overwrite"):
        Trainer(config, DICE, store=store, run_dir=tmp_path)
    assert names(tmp_path) == [name]


def test_a_run_of_another_configuration_is_not_overwritten_by_going_on(tiny, config, store, tmp_path):
    train(configured(tiny, seed=1), store, tmp_path / "other", NullReporter(), num_epochs=2)
    train(config, store, tmp_path / "one", NullReporter(), num_epochs=1)
    before = {path.name: path.read_bytes() for path in (tmp_path / "other").iterdir()}
    with pytest.raises(CheckpointError, match="must not overwrite"):
        Trainer(
            config,
            DICE,
            store=store,
            run_dir=tmp_path / "other",
            resume_from=tmp_path / "one" / "last.pt",
        )
    assert {path.name: path.read_bytes() for path in (tmp_path / "other").iterdir()} == before


def test_going_on_into_a_folder_where_it_was_tried_before(config, store, tmp_path, values):
    values(0.5, 0.4, 0.6, 0.3, 0.2)
    train(config, store, tmp_path / "one", NullReporter(), num_epochs=2)
    for _ in range(2):  # the first attempt is lost after two more epochs
        train(
            config,
            store,
            tmp_path / "two",
            NullReporter(),
            num_epochs=2,
            resume_from=tmp_path / "one" / "last.pt",
        )
        assert [line["epoch"] for line in read_history(tmp_path / "two" / "metrics.jsonl")] == [1, 2, 3, 4]
        assert epochs(tmp_path / "two") == {"last": 4, "previous": 3, "best": 3}
    assert epochs(tmp_path / "one") == {"last": 2, "previous": 1, "best": 1}


class Step:
    """Counts what changes the folder, and kills before the n-th change."""

    def __init__(self, monkeypatch, kill_at):
        self._left = kill_at
        for module, name in ((run_folder, "publish_checkpoint"), (run_folder, "truncate_history")):
            self._wrap(monkeypatch, module, name)

    def _wrap(self, monkeypatch, module, name):
        function = getattr(module, name)

        def counted(*arguments, **options):
            self._left -= 1
            if self._left == 0:
                raise Killed
            return function(*arguments, **options)

        monkeypatch.setattr(module, name, counted)


@pytest.fixture(scope="module")
def killed(tiny, store, tmp_path_factory):
    """Return the folder of a run that was killed before it could report epoch 3, its new best."""
    folder = tmp_path_factory.mktemp("killed")
    with pytest.MonkeyPatch.context() as patch:
        script(patch, 0.5, 0.4, 0.6)
        with pytest.raises(Killed):
            train(configured(tiny), store, folder, Driver(folder, deaf_from=3))
    return folder


@pytest.mark.parametrize("kill_at", [1, 2, 3, 4])
@pytest.mark.parametrize(
    ("in_place", "again_from"),
    [(True, "the recorded one"), (False, "the recorded one"), (False, "the folder's own")],
    ids=["the same folder", "another folder", "another folder, from its own"],
)
def test_killed_while_it_prepares_to_go_on_it_goes_on_all_the_same(
    killed, config, store, tmp_path, values, monkeypatch, kill_at, in_place, again_from
):
    values(0.5, 0.4, 0.6, 0.2, 0.1)
    one = tmp_path / "one"
    shutil.copytree(killed, one)
    folder = one if in_place else tmp_path / "two"
    with monkeypatch.context() as patch:
        Step(patch, kill_at)
        with pytest.raises(Killed):
            train(config, store, folder, NullReporter(), resume_from=one / "previous.pt")
    own = folder / "last.pt"
    source = own if again_from == "the folder's own" and own.exists() else one / "previous.pt"
    best = train(config, store, folder, NullReporter(), resume_from=source)
    assert (best.epoch, best.value) == (3, 0.6)
    assert [line["epoch"] for line in read_history(folder / "metrics.jsonl")] == [1, 2, 3, 4, 5]


def test_what_a_killed_process_left_half_written_is_swept_away(config, store, tmp_path):
    leftovers = [
        f"{name}.tmp" for name in ("last.pt", "previous.pt", "best.pt", "previous-best.pt", "config.json")
    ]
    for begin in (True, False):
        for name in [*leftovers, "metrics.jsonl.tmp"]:
            (tmp_path / name).write_bytes(b"half")
        resume_from = None if begin else tmp_path / "last.pt"
        Trainer(config, DICE, store=store, run_dir=tmp_path, resume_from=resume_from).close()
        assert not list(tmp_path.glob("*.tmp"))
        if begin:
            train(config, store, tmp_path / "run", NullReporter(), num_epochs=1)
            shutil.copytree(tmp_path / "run", tmp_path, dirs_exist_ok=True)


def test_a_configuration_that_is_gone_or_damaged_is_written_again(config, store, tmp_path):
    train(config, store, tmp_path, NullReporter(), num_epochs=1)
    whole = (tmp_path / "config.json").read_bytes()
    for content in (None, b'{"data": {"val_', b"\xff\xfe"):
        if content is None:
            (tmp_path / "config.json").unlink()
        else:
            (tmp_path / "config.json").write_bytes(content)
        Trainer(config, DICE, store=store, run_dir=tmp_path, resume_from=tmp_path / "last.pt").close()
        assert (tmp_path / "config.json").read_bytes() == whole
    assert json.loads(whole) == config.to_dict()


def test_epochs_that_a_damaged_history_lacks_are_said(config, store, tmp_path, caplog):
    train(config, store, tmp_path, NullReporter(), num_epochs=3)
    path = tmp_path / "metrics.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1][:20] + b"\xff" + lines[1][21:] + lines[2])
    train(config, store, tmp_path, NullReporter(), resume_from=tmp_path / "last.pt")
    assert f"{path}: lacks the epochs [2]" in caplog.text
    assert [line["epoch"] for line in read_history(path)] == [1, 3, 4, 5]


@pytest.mark.parametrize("name", ["last.pt", "best.pt"])
def test_a_checkpoint_removed_by_somebody_costs_no_new_one(config, store, tmp_path, values, caplog, name):
    values(0.1, 0.2, 0.3, 0.4, 0.5)
    with Trainer(config, DICE, store=store, run_dir=tmp_path) as trainer:
        trainer.step(NullReporter())
        (tmp_path / name).unlink()
        trainer.step(NullReporter())
    assert f"{tmp_path / name} was removed by somebody else" in caplog.text
    assert epochs(tmp_path)["last"] == epochs(tmp_path)["best"] == 2


def test_a_folder_that_cannot_be_made_is_one_line(config, store, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="could not be written") as caught:
        Trainer(config, DICE, store=store, run_dir=tmp_path / "file" / "run")
    assert "\n" not in str(caught.value)


def test_at_most_three_files_have_the_size_of_a_checkpoint(config, store, tmp_path, values, monkeypatch):
    values(0.5, 0.6, 0.4, 0.3, 0.7)
    save = run_folder.save_checkpoint
    counts = []

    def count(checkpoint, path):
        inodes = {file.stat().st_ino for file in Path(tmp_path).glob("*.pt")}
        counts.append(len(inodes) + 1)  # and the one to be written
        return save(checkpoint, path)

    monkeypatch.setattr(run_folder, "save_checkpoint", count)
    train(config, store, tmp_path, NullReporter())
    # Epoch 1; 2 beside 1; 3 beside 2; 4 beside 3 and the best, 2; 5 beside 4 and 2: the one before the last goes first.
    assert counts == [1, 2, 2, 3, 3]
