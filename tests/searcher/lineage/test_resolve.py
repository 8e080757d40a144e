"""What a study takes from its parent, on a database with made-up trials."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from new_database import new_database
from stored_study import StoredStudy, content_of

from searcher.exceptions import UserError
from searcher.ledger.database import Database
from searcher.ledger.registration import Registration
from searcher.lineage.chain import chain
from searcher.lineage.imports import parents_trials
from searcher.lineage.resolve import check_beginning, is_enough, resolve
from searcher.study.reader import parse_study
from searcher.study.spec import StudySpec

BROAD = """
[study]
name = "s"
objective = "object_dice"
trials = 40
[data]
folds = 5
[train]
epochs = 3
[space.optimizer]
name = { choices = ["sgd", "adam"] }
lr = { low = 0.001, high = 0.1, log = true }
momentum = { low = 0.0, high = 0.9, when = { "optimizer.name" = ["sgd"] } }
"""
NARROW = '[study]\nname = "n"\ntrials = 6\n[parent]\nstudy = "s"\nhow = "refine"\n'
RERANK = '[study]\nname = "r"\n[parent]\nstudy = "s"\nhow = "rerank"\nbest = 2\nreplicates = 3\n'
FINETUNE = """
[study]
name = "f"
trials = 2
[parent]
study = "s"
how = "finetune"
[optimizer]
name = "adamw"
[space.optimizer]
lr = { low = 1e-6, high = 1e-4, log = true }
"""


def study(text: str, **overrides: object) -> StudySpec:
    return parse_study(
        text, source="child.toml", overrides={k.replace("__", "."): v for k, v in overrides.items()}
    )


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with new_database(tmp_path / "s.db") as opened:
        yield opened


@pytest.fixture(scope="module")
def twelve_trials(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a study of twelve COMPLETE trials: adam at rates near 0.01 is good, sgd is not."""
    folder = tmp_path_factory.mktemp("parent")
    with new_database(folder / "s.db") as database:
        stored = StoredStudy(database, folder, text=BROAD)
        for n in range(12):
            good = n % 2 == 0
            name = "adam" if good else "sgd"
            point = {"optimizer.name": name, "optimizer.lr": 0.01 * (1 + n / 100)}
            stored.ledger.enqueue([point if good else point | {"optimizer.momentum": 0.5}])
            stored.complete((0.8 if good else 0.4) + n / 1000)
    return folder


@pytest.fixture
def parent(twelve_trials: Path, tmp_path: Path) -> Iterator[StoredStudy]:
    shutil.copytree(twelve_trials, tmp_path, dirs_exist_ok=True)
    with Database.open(str(tmp_path / "s.db")) as database:
        yield StoredStudy(database, tmp_path, text=BROAD)


def put(spec: StudySpec, database: Database, root: Path) -> None:
    """Register a study as a launch does."""
    registration = Registration(
        spec=spec, data_source="synthetic glands", data_fingerprint="f" * 64, storage_root=root
    )
    registration.register(database)
    registration.begin_launch(database)


def resolved(text: str, parent: StoredStudy, **overrides: object) -> StudySpec:
    return resolve(study(text, **overrides), parent.database, storage_root=parent.root)


def test_refine_narrows_and_begins_with_the_incumbent(parent: StoredStudy):
    spec = resolved(NARROW, parent)
    assert not spec.is_open
    assert spec.parent is not None
    assert spec.parent.trials == [10, 8, 6, 4, 2]
    assert spec.fixed["train.epochs"] == 3, "what the child does not say is the parent's"
    lr = spec.space["optimizer.lr"].domain
    assert (lr.low, lr.high, lr.original_range) == (
        pytest.approx(0.00643),
        pytest.approx(0.0175),
        (0.001, 0.1),
    )
    assert spec.space["optimizer.name"].domain.choices == ("adam",)
    assert spec.enqueue == ({"optimizer.name": "adam", "optimizer.lr": 0.01 * 1.1},)
    assert "dropped 'sgd'" in spec.text
    assert "Importance" in spec.text


def test_a_study_that_began_keeps_what_it_took_whatever_its_parent_does(parent: StoredStudy):
    spec = resolved(NARROW, parent)
    put(spec, parent.database, parent.root)
    row = parent.database.study_row("n")
    assert (row.parent_study, row.parent_trials) == ("s", [10, 8, 6, 4, 2])
    for _ in range(3):
        parent.ledger.enqueue(
            [{"optimizer.name": "sgd", "optimizer.lr": 0.05 + _ / 100, "optimizer.momentum": 0.1}]
        )
        parent.complete(0.99 + _ / 1000)
    again = resolved(NARROW, parent, study__trials=9)
    assert again.identity() == spec.identity()
    assert again.study.trials == 9
    assert again.parent == spec.parent
    assert again.enqueue == spec.enqueue


def test_a_key_that_the_child_fixes_is_not_searched(parent: StoredStudy):
    spec = resolved(NARROW, parent, optimizer__lr=0.02)
    assert "optimizer.lr" not in spec.space
    assert spec.fixed["optimizer.lr"] == 0.02
    assert spec.enqueue == ({"optimizer.name": "adam"},)


def test_rerank_takes_the_best_on_other_folds_than_the_search(parent: StoredStudy):
    spec = resolved(RERANK, parent)
    assert [(each.trial, each.value) for each in spec.parent.candidates] == [(10, 0.81), (8, 0.808)]
    assert spec.study.trials == 6
    configs = [spec.trial_config(point) for point in spec.enqueue]
    assert [config.data.fold for config in configs] == [0, 0, 1, 1, 2, 2]
    assert {config.data.split_seed for config in configs} == {1}
    assert configs[0].optimizer.name == "adam"
    assert configs[0].optimizer.lr == pytest.approx(0.011)


def test_finetune_begins_from_the_best_checkpoint_with_an_optimiser_of_its_own(parent: StoredStudy):
    spec = resolved(FINETUNE, parent)
    record = parent.records(10)["best"]
    config = spec.trial_config({"optimizer.lr": 1e-5})
    assert config.warm_start.sha256 == record.sha256
    assert (config.optimizer.name, config.optimizer.momentum) == ("adamw", 0.9)
    assert (config.data.folds, config.train.epochs) == (5, 3)
    put(spec, parent.database, parent.root)
    row = parent.database.study_row("f")
    assert (row.parent_trial, row.parent_sha256, row.parent_trials) == (10, record.sha256, [10])


def test_the_winner_of_a_rerank_is_fine_tuned_not_its_luckiest_run(parent: StoredStudy, tmp_path: Path):
    spec = resolved(RERANK, parent)
    (tmp_path / "again").mkdir()
    again = StoredStudy(parent.database, tmp_path / "again", text=spec.text)
    again.ledger.enqueue(spec.enqueue)
    for value in (0.9, 0.80, 0.5, 0.82, 0.6, 0.81):  # trial 10 has .9 once, and the worse mean
        again.complete(value)
    text = FINETUNE.replace('study = "s"', 'study = "r"')
    tuned = resolve(study(text), parent.database, storage_root=again.root)
    assert tuned.parent.trials == [3]  # trial 8 of the search on fold 1, .82
    assert tuned.trial_config({"optimizer.lr": 1e-5}).data.fold == 1


@pytest.mark.parametrize(
    ("text", "overrides", "message"),
    [
        (NARROW.replace('"s"', '"t"'), {}, "parent.study must have been launched, got t"),
        (
            NARROW,
            {"parent.min_complete": 15},
            "must have 15 COMPLETE trials, got 12 (12 of 40 trials done), 3 are missing",
        ),
        (
            NARROW,
            {"study.objective": "loss"},
            "study.objective must be what the parent's trials are ranked by",
        ),
        (
            NARROW + '[model]\nname = "mask_rcnn"\n',
            {},
            "model.name must be the parent's, unet of s, got mask_rcnn",
        ),
        (FINETUNE, {"data.split_seed": 3}, "data.split_seed must be the parent's, 0, got 3"),
        (FINETUNE, {"data.folds": 5, "data.fold": 1}, "data.fold must be the parent's, 0, got 1"),
    ],
)
def test_a_parent_that_will_not_do_is_refused_in_one_line(parent, text, overrides, message):
    with pytest.raises(UserError) as caught:
        resolve(
            parse_study(text, source="child.toml", overrides=overrides),
            parent.database,
            storage_root=parent.root,
        )
    assert message in str(caught.value)
    assert str(caught.value).count("\n") == 0
    assert str(caught.value).startswith("child.toml: ")


def test_a_parent_without_anything_complete(database: Database, tmp_path: Path):
    stored = StoredStudy(database, tmp_path, text=BROAD)
    for text in (NARROW, RERANK, FINETUNE):
        with pytest.raises(UserError, match=r"got 0 \(0 of 40 trials done\)"):
            resolved(text, stored)


@pytest.mark.parametrize("damage", ["missing", "changed", "collected"])
def test_a_checkpoint_that_is_not_whole_is_not_begun_from(parent: StoredStudy, damage: str):
    path = parent.root / parent.records(10)["best"].uri
    if damage == "missing":
        path.unlink()
    elif damage == "changed":
        path.write_bytes(content_of(10, "tseb"))
    else:
        from searcher.ledger.retention import collect

        parent.ledger.enqueue([{"optimizer.name": "adam", "optimizer.lr": 0.09}])
        other = parent.complete(0.2)
        assert other
        collect(parent.database, "s", keep_best=1, trials=None)
        path = None
        parent.ledger.enqueue([{"optimizer.name": "adam", "optimizer.lr": 0.08}])
        best = parent.complete(0.95, kinds=("last",))
        assert best
    with pytest.raises(UserError, match="best checkpoint"):
        resolved(FINETUNE, parent)


def test_checkpoints_must_lie_in_the_same_storage(parent: StoredStudy, tmp_path: Path):
    with pytest.raises(UserError, match="launch with --storage"):
        resolve(study(FINETUNE), parent.database, storage_root=tmp_path / "elsewhere")


def check(spec: StudySpec, parent: StoredStudy, data: str = "f" * 64) -> None:
    check_beginning(spec, parent.database, storage_root=parent.root, data_fingerprint=data)


def test_other_data_than_the_parents_are_refused(parent: StoredStudy):
    spec = resolved(NARROW, parent)
    check(spec, parent)
    with pytest.raises(UserError, match="the data must be those of the parent s"):
        check(spec, parent, "e" * 64)


# ---- chains ----


def write(folder: Path, name: str, parent: str | None, *, how: str = "refine") -> Path:
    path = folder / f"{name}.toml"
    section = "" if parent is None else f'[parent]\nstudy = "{parent}"\nhow = "{how}"\n'
    path.write_text(f'[study]\nname = "{name}"\n{section}')
    return path


def test_a_chain_begins_with_the_oldest_and_files_are_found_beside_each_other(tmp_path: Path):
    from searcher.study.catalog import load_study

    write(tmp_path, "a", None)
    write(tmp_path, "b", "a.toml")
    spec = load_study(str(write(tmp_path, "c", "b.toml")))
    assert [each.name for each in chain(spec, None)] == ["a", "b", "c"]
    shipped = chain(load_study("unet-finetune"), None)
    assert [each.name for each in shipped] == ["unet-broad", "unet-narrow", "unet-rerank", "unet-finetune"]


def test_parents_in_a_circle_are_refused(tmp_path: Path):
    from searcher.study.catalog import load_study

    write(tmp_path, "a", "c.toml")
    write(tmp_path, "b", "a.toml")
    spec = load_study(str(write(tmp_path, "c", "b.toml")))
    with pytest.raises(UserError, match="must not lead back to where it began, got c <- a <- b <- c"):
        chain(spec, None)
    with pytest.raises(UserError, match="must not lead back"):
        chain(load_study(str(write(tmp_path, "self", "self.toml"))), None)


def test_a_parent_is_launched_again_as_it_was(parent: StoredStudy):
    changed = StoredStudy(
        parent.database, parent.file.parent, text=BROAD.replace('"s"', '"q"'), study__trials=3
    )
    [spec, _] = chain(study(NARROW.replace('"s"', '"q"')), parent.database)
    assert (spec.name, spec.study.trials) == ("q", 3)
    assert spec.identity() == changed.spec.identity()


# ---- imports ----


def imports(parent: StoredStudy, text: str = NARROW, *, data: str = "f" * 64, **overrides: object):
    spec = resolved(text, parent, **overrides)
    return parents_trials(spec, parent.database, data_fingerprint=data)


@pytest.fixture
def launched(parent: StoredStudy) -> StoredStudy:
    """The parent with a launch on record, which says by what code it was trained."""
    from searcher.ledger.lease import Lease

    with Lease.acquire(parent.database, "s"):
        pass
    return parent


def test_the_parents_trials_in_the_box_but_the_incumbent(launched: StoredStudy):
    found = imports(launched)
    assert sorted(trial.number for trial in found.trials) == [0, 2, 4, 6, 8]  # adam; 10 is tried anew
    assert found.message == "5 of s's trials are inside the narrowed space and imported"


def test_nothing_is_imported_when_values_mean_something_else(launched: StoredStudy, monkeypatch):
    assert not imports(launched, train__epochs=9).trials
    assert not imports(launched, data__folds=5, data__fold=1).trials
    assert "other data" in (imports(launched, data="e" * 64).message or "")
    assert imports(launched, parent__import_trials=False).message is None
    monkeypatch.setattr("searcher.lineage.imports.MEANING", 99)
    assert "another version" in (imports(launched).message or "")


def test_a_key_that_the_childs_file_fixes_takes_what_hangs_on_it_along(parent: StoredStudy):
    """The incumbent is sgd's, with a momentum; the child's file says adam, which has none."""
    parent.ledger.enqueue([{"optimizer.name": "sgd", "optimizer.lr": 0.05, "optimizer.momentum": 0.1}])
    parent.complete(0.99)
    spec = resolved(NARROW + '[optimizer]\nname = "adam"\n', parent)
    assert spec.enqueue == ({"optimizer.lr": 0.05},)


def test_a_rerank_of_fewer_than_its_best_has_as_many_trials_as_there_are(database: Database, tmp_path: Path):
    stored = StoredStudy(database, tmp_path, text=BROAD)
    stored.ledger.enqueue([{"optimizer.name": "adam", "optimizer.lr": 0.01}])
    stored.complete(0.5)
    spec = resolved(RERANK + "min_complete = 1\n", stored)
    assert spec.study.trials == 3
    assert spec.pruner.name == "none"
    put(spec, stored.database, stored.root)
    assert resolved(RERANK + "min_complete = 1\n", stored).identity() == spec.identity()


def test_a_study_keeps_the_parent_that_it_began_from(parent: StoredStudy):
    put(resolved(NARROW, parent), parent.database, parent.root)
    other = NARROW.replace('study = "s"', 'study = "t"')
    with pytest.raises(UserError, match="must stay the one that n began from, s, got t"):
        resolved(other, parent)


def test_a_checkpoint_to_begin_from_is_there_and_whole_or_nothing_starts(parent: StoredStudy):
    spec = resolved(FINETUNE, parent)
    check(spec, parent)
    (parent.root / parent.records(10)["best"].uri).write_bytes(b"other bytes")
    with pytest.raises(UserError, match="must be that of a whole checkpoint"):
        check(spec, parent)
    unknown = resolved(NARROW, parent, warm_start__sha256="0" * 64)
    with pytest.raises(UserError, match="none in the database"):
        check(unknown, parent)


def test_collecting_a_rerank_keeps_all_runs_of_the_winner(parent: StoredStudy, tmp_path: Path):
    from searcher.ledger.retention import collect

    spec = resolved(RERANK, parent)
    (tmp_path / "again").mkdir()
    again = StoredStudy(parent.database, tmp_path / "again", text=spec.text)
    again.ledger.enqueue(spec.enqueue)
    for value in (
        0.9,
        0.80,
        0.5,
        0.82,
        0.6,
        0.81,
    ):  # trial 10 of the search has .9 once; 8 has the better mean
        again.complete(value)
    collect(again.database, "r", keep_best=1)
    assert [number for number in range(6) if again.files(number)] == [1, 3, 5]


def test_a_relaunch_needs_no_file_of_its_parent(parent: StoredStudy, tmp_path: Path):
    """Named by file when it began, and then by what the database calls it, whatever becomes of the file."""
    (tmp_path / "child.toml").write_text(NARROW.replace('study = "s"', 'study = "s.toml"'))
    from searcher.study.catalog import load_study

    template = load_study(str(tmp_path / "child.toml"))
    spec = resolve(template, parent.database, storage_root=parent.root)
    assert spec.parent.study == "s"
    put(spec, parent.database, parent.root)
    assert parent.database.study_row("n").parent_study == "s"
    parent.file.unlink()
    assert resolve(template, parent.database, storage_root=parent.root).identity() == spec.identity()


OWN_SPACE = NARROW + "[space.optimizer]\nlr = { low = 1e-3, high = 1e-2, log = true }\n"


def test_a_child_with_a_space_of_its_own_inherits_the_rest(parent: StoredStudy):
    spec = resolved(OWN_SPACE, parent, optimizer__name="sgd")
    assert (spec.fixed["train.epochs"], spec.fixed["data.folds"]) == (3, 5)
    assert [each.name for each in spec.space.parameters] == ["optimizer.lr"]
    put(spec, parent.database, parent.root)
    assert resolved(OWN_SPACE, parent, optimizer__name="sgd").identity() == spec.identity()


def test_a_fine_tuned_study_is_reranked_by_seeds_alone(parent: StoredStudy, tmp_path: Path):
    spec = resolved(FINETUNE, parent)
    (tmp_path / "f").mkdir()
    fine = StoredStudy(parent.database, tmp_path / "f", text=spec.text)
    for value in (0.9, 0.8):
        fine.complete(value)
    text = RERANK.replace('study = "s"', 'study = "f"')
    with pytest.raises(UserError, match=r"parent\.replicate must be seed"):
        resolve(study(text), parent.database, storage_root=fine.root)
    again = resolve(study(text + 'replicate = "seed"\n'), parent.database, storage_root=fine.root)
    put(again, parent.database, fine.root)
    row = parent.database.study_row("r")
    assert row.parent_sha256 == parent.records(10)["best"].sha256, "its trials begin where fine-tuning began"
    assert (row.parent_study, row.parent_trial) == ("f", None)


def test_how_many_are_enough(parent: StoredStudy):
    assert is_enough(study(NARROW), parent.database)
    assert not is_enough(study(NARROW, parent__min_complete=13), parent.database)
    assert not is_enough(study(NARROW), None)
    assert is_enough(parent.spec, None)
