"""The package's public names are what `__all__` says, and importing it is light."""

import subprocess
import sys
from types import ModuleType

from searcher import data_pipeline


def test_all_names_exist_and_nothing_else_is_public() -> None:
    assert all(hasattr(data_pipeline, name) for name in data_pipeline.__all__)
    assert set(data_pipeline._HOMES) == set(data_pipeline.__all__)
    found = {name for name, value in vars(data_pipeline).items() if not isinstance(value, ModuleType)}
    public = {name for name in found if not name.startswith("_")} - {"TYPE_CHECKING", "Any"}
    assert public <= set(data_pipeline.__all__)


def test_importing_imports_no_torch() -> None:
    heavy = "{'torch', 'albumentations', 'cv2', 'numpy', 'ray', 'optuna', 'sqlalchemy', 'scipy', 'skimage'}"
    code = f"import sys, searcher.data_pipeline; print(*(set(sys.modules) & {heavy}))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ""
