"""The event files, read as TensorBoard reads them: records of a length, a checksum and an event."""

import json
import struct

import pytest
from tensorboardX.proto.event_pb2 import Event

from searcher.study.objectives import Objective
from searcher.training.event_file import EventFile
from searcher.training.trainer import Trainer


def points(folder) -> list[tuple[str, int, float]]:
    """Return tag, step and value of everything in the folder's event files, in their order."""
    found = []
    for path in sorted(folder.glob("*tfevents*")):
        content = path.read_bytes()
        while content:
            (length,) = struct.unpack("<Q", content[:8])
            event = Event.FromString(content[12 : 12 + length])
            found += [(value.tag, event.step, value.simple_value) for value in event.summary.value]
            content = content[16 + length :]
    return found


def test_every_metric_of_every_epoch_is_there(tmp_path, store, tiny, recorder):
    heard = recorder()
    config = tiny(train={"epochs": 2})
    with Trainer(config, Objective("object_dice"), store=store, run_dir=tmp_path) as trainer:
        trainer.fit(heard)
    found = points(tmp_path)
    assert len(found) == sum(len(report) for report in heard.reports)
    by_name = {(tag.rpartition("/")[2], step): value for tag, step, value in found}
    for epoch, report in zip(heard.epochs, heard.reports, strict=True):
        for name, value in report.items():
            assert by_name[name, epoch] == pytest.approx(value, rel=1e-6)


def test_a_run_that_goes_on_has_each_epoch_once_and_none_that_it_lost(tmp_path, store, tiny, recorder):
    config = tiny(train={"epochs": 3})
    objective = Objective("object_dice")
    with Trainer(config, objective, store=store, run_dir=tmp_path / "first") as trainer:
        trainer.fit(recorder(stop_after=2))
    line = json.loads((tmp_path / "first" / "metrics.jsonl").read_text().splitlines()[-1])
    with (tmp_path / "first" / "metrics.jsonl").open(
        "a"
    ) as history:  # an epoch whose checkpoint was never written
        history.write(json.dumps({**line, "epoch": 3, "loss": 99.0}) + "\n")
    for folder in ("second", "first"):  # in another folder, as a retry; and in its own
        with Trainer(
            config,
            objective,
            store=store,
            run_dir=tmp_path / folder,
            resume_from=tmp_path / "first" / "last.pt",
        ) as trainer:
            trainer.fit(recorder())
        losses = [(step, value) for tag, step, value in points(tmp_path / folder) if tag == "validation/loss"]
        assert [step for step, _ in losses] == [1, 2, 3]
        assert 99.0 not in [value for _, value in losses]


def test_a_file_that_cannot_be_written_is_said_and_nothing_else(tmp_path, caplog):
    (tmp_path / "folder").write_text("a file where the run's folder should be")
    events = EventFile(tmp_path / "folder", [])
    events.add(1, {"loss": 0.5})
    events.close()
    assert caplog.text.count("no event file for TensorBoard") == 1
