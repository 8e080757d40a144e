"""What a worker goes on from: only what the database knows, byte for byte."""

import hashlib
from types import SimpleNamespace

import pytest

from searcher.orchestration.trainable import TrialTrainable


@pytest.mark.parametrize(
    ("recorded", "expected"),
    [
        (b"epoch 3", "last.pt"),
        (b"epoch 2", "previous.pt"),  # stopped between writing epoch 3 and reporting it
        (b"epoch 3, damaged", None),
    ],
)
def test_the_checkpoint_with_the_recorded_digest_is_taken_or_none(tmp_path, recorded, expected):
    (tmp_path / "trial").mkdir()
    (tmp_path / "trial" / "last.pt").write_bytes(b"epoch 3")
    (tmp_path / "trial" / "previous.pt").write_bytes(b"epoch 2")
    job = SimpleNamespace(
        storage_root=str(tmp_path),
        resume_from="trial/last.pt",
        resume_sha256=hashlib.sha256(recorded).hexdigest(),
    )
    found = TrialTrainable._resume_from(SimpleNamespace(_job=job))
    assert found == (None if expected is None else tmp_path / "trial" / expected)
