"""Writes what names studies, trials and data sets in databases, checkpoints and caches, as this version has it.

Run it with the version to record:
    PYTHONPATH=tests/support python tests/compatibility/record_hashes.py > tests/compatibility/recorded/hashes.json

The recorded file is of the release before 28 November 2026; layouts that it did not have are of the first with them.
"""

import json
import tempfile
from pathlib import Path

from recorded_data import WRITERS

from searcher.data_pipeline import open_dataset
from searcher.data_pipeline.exceptions import DataError
from searcher.study.catalog import load_study, shipped_studies
from searcher.study.config import TrialConfig


def studies() -> dict[str, dict[str, object]]:
    """Return of every shipped study its digest, and those of the configurations that it tries first."""
    specs = [load_study(name) for name in shipped_studies()]
    return {
        spec.name: {
            "study": spec.digest(),
            "first_trials": [spec.trial_config(point).digest() for point in spec.enqueue],
        }
        for spec in specs
    }


def configurations() -> dict[str, str]:
    """Return the digest of the configuration that says nothing but the model's name."""
    models = ("unet", "mask_rcnn")
    return {name: TrialConfig.model_validate({"model": {"name": name}}).digest() for name in models}


def fingerprints() -> dict[str, str]:
    """Return the fingerprint of a small data set of each layout that this version reads."""
    found = {}
    for name, write in WRITERS.items():
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder))
            try:
                found[name] = open_dataset(Path(folder)).fingerprint()
            except DataError:
                continue
    return found


if __name__ == "__main__":
    recorded = {"studies": studies(), "configurations": configurations(), "fingerprints": fingerprints()}
    print(json.dumps(recorded, indent=1))
