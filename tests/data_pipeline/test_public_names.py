"""The package's public names are what `__all__` says, and importing it is light."""

import subprocess
import sys

from searcher import data_pipeline


def test_all_names_exist_and_nothing_else_is_public() -> None:
    modules = {
        "annotations",
        "augment",
        "augmentation",
        "batch",
        "datasets",
        "exceptions",
        "exposure",
        "images",
        "inspect",
        "intensity",
        "label_evidence",
        "normalisation",
        "pipeline",
        "pipeline_file",
        "scratch",
        "splits",
        "stain",
        "store",
        "stream",
        "tiling",
        "unannotated",
        "warp",
    }
    public = {name for name in vars(data_pipeline) if not name.startswith("_")}
    assert public - modules == set(data_pipeline.__all__)


def test_importing_imports_no_torch() -> None:
    heavy = "{'torch', 'albumentations', 'ray', 'optuna', 'sqlalchemy', 'scipy', 'skimage'}"
    code = f"import sys, searcher.data_pipeline; print(*(set(sys.modules) & {heavy}))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ""
