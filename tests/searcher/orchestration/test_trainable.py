"""What a worker goes on from: only what the database knows, byte for byte."""

import hashlib
from types import SimpleNamespace

import pytest

from searcher.exceptions import CheckpointError
from searcher.ledger.records import CheckpointRecord
from searcher.orchestration.trials.trainable import _begins_from, _claim
from searcher.orchestration.trials.trial_workspace import TrialWorkspace


@pytest.mark.parametrize(
    ("recorded", "expected"),
    [
        (b"epoch 3", "last.pt"),
        (b"epoch 2", "previous.pt"),  # stopped between writing epoch 3 and reporting it
        (b"epoch 3, damaged", None),
    ],
)
def test_the_checkpoint_with_the_recorded_digest_is_taken_or_the_trial_fails(tmp_path, recorded, expected):
    (tmp_path / "trial").mkdir()
    (tmp_path / "trial" / "last.pt").write_bytes(b"epoch 3")
    (tmp_path / "trial" / "previous.pt").write_bytes(b"epoch 2")
    record = CheckpointRecord(
        kind="last",
        epoch=3,
        uri="trial/last.pt",
        sha256=hashlib.sha256(recorded).hexdigest(),
        num_bytes=len(recorded),
        value=0.5,
    )
    workspace = TrialWorkspace(SimpleNamespace(run_dir="trial", resume_from=record), tmp_path)
    if expected is None:
        with pytest.raises(
            CheckpointError, match=r"trial/last\.pt: must be the checkpoint of epoch 3 with sha256"
        ):
            _begins_from(workspace)[0]
    else:
        assert _begins_from(workspace)[0] == tmp_path / "trial" / expected


def test_of_two_studies_of_one_name_that_begin_at_once_the_second_trial_is_refused_the_folder(tmp_path):
    _claim(tmp_path / "tiny" / "trial-0000")
    with pytest.raises(
        CheckpointError, match=r"trial-0000: must be a new folder for this trial alone, got one"
    ):
        _claim(tmp_path / "tiny" / "trial-0000")
