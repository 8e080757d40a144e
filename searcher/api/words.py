"""Errors in the words of Python: `data` instead of `--data`."""

import functools
import re
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from searcher.exceptions import SearcherError

__all__ = ["in_python"]

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")

_SETTING = re.compile(r"--set ([A-Za-z_][\w.]*)=([^\s;,]+)")
_OPTION = re.compile(
    r"(?<![\w-])--(data|db|storage|study|trials|epochs|set|address|labels-are|patient-from|resample-um|not-annotated|"
    r"skip-glass|region|pixel-size-um|"
    r"splits|tta|normalisation|trial|ensemble|to|force|name|onnx|onnx-size|example|tune|data-licence|plot|"
    r"with-parents|write|outputs|skip-existing|keep|lines|report)(?![\w-])"
)


def in_python(call: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """Decorator for the Python API: error messages name arguments (`data`) instead of options (`--data`)."""

    @functools.wraps(call)
    def called(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
        from searcher.data_pipeline.exceptions import DataError  # imports NumPy

        try:
            return call(*args, **kwargs)
        except (SearcherError, DataError) as error:
            error.args = tuple(_reworded(each) if isinstance(each, str) else each for each in error.args)
            if hasattr(error, "problems"):
                error.problems = [_reworded(each) for each in error.problems]
            raise

    return called


def _reworded(text: str) -> str:
    text = _SETTING.sub(r"set={'\1': \2}", text)
    return _OPTION.sub(lambda found: found[1].replace("-", "_"), text)
