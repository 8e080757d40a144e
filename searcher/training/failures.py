"""Why a trial failed: one line for a person, and a cause from which the driver decides what to do."""

import errno
import sysconfig
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Literal

from searcher.data_pipeline.exceptions import DamagedStoreError, DataError
from searcher.exceptions import NodeError, SearcherError, StorageError

__all__ = ["Cause", "TrialFailure", "diagnose"]

Cause = Literal["trial", "memory", "disk", "store", "node"]
"""Causes of a failure. `memory`: too little on the device or the host. `disk`: full, or the quota is used up. `store`:
the decoded images are not the bytes that were written. `node`: a fault of this node; another may work. `trial`: the
trial itself, its parameters, its data or the code."""

_MAX_TEXT = 500

_MEMORY_MESSAGES = (
    "DefaultCPUAllocator: can't allocate memory",
    "DefaultCPUAllocator: not enough memory",  # the same on Windows
    "CUDA error: out of memory",
    "CUDA ran out of memory",
    "MPS backend out of memory",
    "HIP out of memory",
    "_ALLOC_FAILED",  # CUBLAS_STATUS_, CUSOLVER_STATUS_, CUFFT_; CUDNN_STATUS_ up to cuDNN 8
    "_ALLOCATION_FAILED",  # CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ and _HOST_ since cuDNN 9
    "could not create a memory object",  # oneDNN
    "could not create a memory storage",
    "could not execute a primitive",  # oneDNN allocates its scratchpad then
    "can't start new thread",  # whose stack finds no room
    "Cannot allocate memory",  # errno's text, in an error that has lost the number
    "std::bad_alloc",
    "(-4:Insufficient memory)",  # OpenCV
)
"""What torch 2.11 to 2.15 and the libraries below it say when an allocation failed."""
_MEMORY_ENDINGS = ("could not create a primitive",)
"""oneDNN's when its code finds no room; with more words after it, the operation is one that it cannot do."""

_LIBRARIES = tuple(
    {Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
)
_PACKAGES = frozenset({"site-packages", "dist-packages"})
"""Folders of libraries, also of an installation that this one builds on."""
_OURS = "searcher"


@dataclass(frozen=True)
class TrialFailure:
    """The reason why a trial failed, for the user, and its cause, from which the driver decides what to do."""

    reason: str
    """One line, with the place in the code unless the error is one of ours, which says where itself."""
    cause: Cause
    """What it is about."""


def diagnose(error: BaseException) -> TrialFailure:
    """Return the reason and the cause of a trial's failure.

    The cause is searched along the chain of `__cause__` and `__context__`. For example, a checkpoint that could not be
    written raises `CheckpointError`; the system's error in its chain gives the cause.

    Args:
        error: The exception that ended the trial.
    """
    causes = (_cause(each) for each in _chain(error))
    cause: Cause = next((cause for cause in causes if cause is not None), "trial")
    return TrialFailure(reason=_reason(error, cause), cause=cause)


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        each = waiting.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        # Also a context that `raise ... from None` hides from the reader: it is what happened first.
        waiting += [below for below in (each.__context__, each.__cause__) if below is not None]


def _cause(error: BaseException) -> Cause | None:
    """Return the cause that this error alone stands for."""
    import torch  # seconds; the driver imports this module too

    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "disk"
    if isinstance(error, DamagedStoreError):
        return "store"
    if isinstance(error, NodeError | StorageError):
        return "node"
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return "memory"
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return "memory"
    return "memory" if _says_memory(error) else None


def _says_memory(error: BaseException) -> bool:
    """Return whether an error of a class that says nothing has the text of an allocation that failed."""
    is_opencvs = type(error).__module__.partition(".")[0] == "cv2"
    if not isinstance(error, RuntimeError) and not is_opencvs:
        return False
    text = str(error)
    return text.strip().endswith(_MEMORY_ENDINGS) or any(said in text for said in _MEMORY_MESSAGES)


def _reason(error: BaseException, cause: Cause) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, SearcherError | DataError):
        return text
    if len(text) > _MAX_TEXT:
        text = f"{text[:_MAX_TEXT]}…"
    what = "out of memory" if cause == "memory" else type(error).__name__
    place = _place(error)
    return f"{what}: {text or 'no message'}" + (f" at {place}" if place else "")


def _place(error: BaseException) -> str:
    """Return the innermost line of the project's or the model's code, and the line that raised the error if it is
    another."""
    frames = [*traceback.walk_tb(error.__traceback__)]
    if not frames:
        return ""
    raised = _line(*frames[-1])
    mine = next((_line(*frame) for frame in reversed(frames) if not _is_library(frame[0])), raised)
    return mine if mine == raised else f"{mine} (raised at {raised})"


def _is_library(frame: FrameType) -> bool:
    """Return whether the code is neither the project's nor the user's."""
    if _module(frame).partition(".")[0] == _OURS:
        return False
    filename = frame.f_code.co_filename
    path = Path(filename)
    return (
        filename.startswith("<frozen ")
        or bool(_PACKAGES.intersection(path.parts))
        or any(path.is_relative_to(library) for library in _LIBRARIES)
    )


def _line(frame: FrameType, line: int) -> str:
    """Return `models/unet.py:97`: the file as its module's name places it, without the way to this installation."""
    path = Path(frame.f_code.co_filename)
    num_parts = _module(frame).count(".") + (2 if path.name == "__init__.py" else 1)
    return f"{'/'.join(path.parts[-num_parts:])}:{line}"


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))
