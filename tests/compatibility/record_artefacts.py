"""Writes what a version leaves behind: a database with a finished and a killed study, checkpoints, a store, a bundle.

Run it with the version to record, in its checkout and its environment, from this file's place in a newer one:

    PYTHONPATH=NEWER/tests/support python NEWER/tests/compatibility/record_artefacts.py ARCHIVE.tar.xz

Five kilobytes of network and three images of 32 x 32 pixels, so that an archive takes some 110 KB. All is made in
/tmp/searcher-recorded, whose path the database then holds; the tests put another one in its place.
"""

import os
import shutil
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

from recorded_data import WRITERS

ROOT = Path("/tmp/searcher-recorded")
SEARCHER = Path(sys.executable).with_name("searcher")
STUDY = """
[study]
name = "recorded"
objective = "object_dice"
trials = 2
seed = 1
[search]
sampler = "random"
[pruner]
name = "none"
[data]
val_fraction = 0.34
samples_per_epoch = 8
num_threads = 0
[augment]
crop_px = 32
[model]
base_channels = 2
depth = 1
norm = "batch"
[train]
epochs = 2
batch_size = 2
ema_decay = 0.5
precision = "float32"
[space.optimizer]
lr = { low = 1e-3, high = 1e-1, log = true }
[[enqueue]]
optimizer.lr = 0.02
"""
LATER = {
    "model.head": "contour",
    "model.loss": "ce+dice",
    "tuning.postprocess": "true",
    "tuning.metric": "object_f1+object_dice",
    "resources.pictures": "0",
}
"""Keys that the first versions did not have; each is set where it is known."""


def searcher(*words: str, to: str | None = None) -> int:
    """Run a verb; keep what it prints in a file. Of verbs and options that a version does not have, nothing."""
    done = subprocess.run([SEARCHER, *words], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    print(done.returncode, *words, flush=True)
    if to is not None and done.returncode == 0:
        (ROOT / "said" / to).write_text(done.stdout)
    return done.returncode


def is_known(words: list[str]) -> bool:
    """Return whether this version knows the keys that options set: `train` refuses others before it needs data."""
    command = [SEARCHER, "train", "--study", "study.toml", "--data", "nowhere", *words]
    said = subprocess.run(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, check=False).stderr
    return "nowhere" in said


def settings() -> list[str]:
    """Return the options that set the later keys."""
    known: list[str] = []
    for key, value in LATER.items():
        word = ["--set", f"{key}={value}"]
        known += word if is_known([*known, *word]) else []
    return known


def half_a_study(words: list[str]) -> None:
    """Do what driver and worker do, without Ray, until both are killed: after an epoch that the database lacks."""
    from searcher.ledger.database import Database
    from searcher.ledger.lease import Lease
    from searcher.ledger.records import CheckpointRecord
    from searcher.ledger.registration import Registration
    from searcher.ledger.study_ledger import StudyLedger
    from searcher.orchestration.trials.samplers import build_sampler
    from searcher.study.catalog import load_study
    from searcher.study.layout import trial_folder
    from searcher.study.reader import parse_value
    from searcher.training.dataset import DataRequest
    from searcher.training.reporter import Decision
    from searcher.training.trainer import Trainer

    class Reporter:
        def report(self, epoch: int, metrics: dict[str, float]) -> Decision:
            self.epoch, self.metrics = epoch, dict(metrics)
            return Decision.CONTINUE

    settings = (word.partition("=") for word in words)
    spec = load_study("study.toml", {key: parse_value(value) for key, _, value in settings})
    data = DataRequest("data", os.environ["SEARCHER_CACHE"], spec.trial_config({}).data)
    store, root, folder = data.prepare(), ROOT / "runs", trial_folder(spec.name, 0)
    study = Registration(
        spec=spec, data_source=str(ROOT / "data"), data_fingerprint=store.fingerprint, storage_root=root
    )
    database = Database.open("searcher.db", create=True)
    study.register(database)
    Lease.acquire(database, spec.name)
    study.begin_launch(database)
    ledger = StudyLedger(database, spec, build_sampler(spec, num_trials=0))
    ledger.enqueue(spec.enqueue)
    number, params = ledger.begin_trial(running=())
    config = spec.trial_config(params)
    ledger.note(number, config_digest=config.digest())
    trainer, reporter = Trainer(config, spec.objective, store=store, run_dir=root / folder), Reporter()
    for epoch in range(1, 4):
        trainer.step(reporter)
        if epoch == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        ledger.report(number, epoch, reporter.metrics)
        for kind, file in (("last", trainer.last_checkpoint), ("best", trainer.best_checkpoint)):
            facts = {key: getattr(file, key) for key in ("epoch", "sha256", "num_bytes", "value")}
            ledger.checkpoint(number, CheckpointRecord(kind=kind, uri=f"{folder}/{file.path.name}", **facts))


def leave_half_a_study(options: list[str]) -> None:
    """Run `half_a_study` in a process of its own."""
    words = [*options[3::2], "study.name=killed", "train.epochs=4"]
    command = [sys.executable, __file__, "half", *words]
    print(subprocess.run(command, cwd=ROOT, check=False).returncode, "the half of a study")


def main(archive: Path) -> None:
    """Make everything and pack it."""
    shutil.rmtree(ROOT, ignore_errors=True)
    (ROOT / "said").mkdir(parents=True)
    os.environ["SEARCHER_CACHE"] = str(ROOT / "cache")
    WRITERS["folder"](ROOT / "data")
    (ROOT / "study.toml").write_text(STUDY)
    options = ["--data", "data", *settings()]
    searcher("launch", "--study", "study.toml", *options)
    searcher("trials", "--study", "recorded", "--json", to="trials.json")
    searcher("best", "--study", "recorded", "--json", to="best.json")
    searcher(
        "evaluate",
        "--study",
        "recorded",
        "--data",
        "data",
        "--splits",
        "train",
        "--json",
        "said/evaluate.json",
    )
    if searcher("export", "--study", "recorded", "--to", "bundle") == 0:
        searcher("predict", "bundle", "data/images", "--to", "predictions", "--outputs", "labels,csv,geojson")
    leave_half_a_study(options)
    searcher("trials", "--study", "killed", "--json", to="killed.json")
    pack(archive)


def pack(archive: Path) -> None:
    """Pack what the tests need."""
    for path in [*ROOT.rglob("*.lock"), *ROOT.rglob("events.out.*"), *(ROOT / "data").rglob("*.bmp")]:
        path.unlink()
    with tarfile.open(archive, "w:xz") as packed:
        for path in sorted(ROOT.iterdir()):
            packed.add(path, path.name)
    print(archive, archive.stat().st_size)


if __name__ == "__main__":
    if sys.argv[1] == "half":
        half_a_study(sys.argv[2:])
    main(Path(sys.argv[1]).absolute())
