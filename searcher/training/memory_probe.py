"""Measures the GPU memory of a study's largest trials by a few steps, and how many of them can share a GPU."""

import json
import math
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from searcher.child_environment import child_environment
from searcher.exceptions import SearcherError, StudyFileError
from searcher.plugins import plugin_sources
from searcher.study.config import TrialConfig
from searcher.study.rerank import CANDIDATE
from searcher.study.space import Choice, Domain, Value
from searcher.study.spec import StudySpec

__all__ = ["MARGIN", "MeasuredTrial", "MemoryMeter", "MemoryUse", "largest_trial", "params_and_use"]

MARGIN = 0.1
"""What a trial is given beyond what was measured: batches and images differ, and so do the allocator's pieces."""
_ANSWER_WITHIN_S = 3600.0
"""For four steps, the first of which may compile the network."""
_FINEST = 10_000
"""Parts of a GPU that Ray (2.60) counts in."""
_DECIDING = (
    "model.",
    "optimizer.name",
    "optimizer.options.",
    "train.precision",
    "train.compile",
    "warm_start.freeze",
    CANDIDATE,
)
"""How the names begin of what can change a trial's memory without being a number."""
_NAMED = (*_DECIDING, "train.batch_size", "train.ema_decay", "augment.crop_px")
"""How the names begin of what decides most about it."""


@dataclass(frozen=True, kw_only=True)
class MemoryUse:
    """The memory that training and validation with one configuration need on a device."""

    device_name: str
    """Of the GPU, or `CPU`."""
    is_gpu: bool
    total_bytes: int
    """What the device has: the GPU's memory, or the machine's main memory."""
    peak_bytes: int
    """The most that the process had of it, its CUDA context included; where it did not fit, what it had until then."""
    host_bytes: int
    """The most that the process had of main memory."""
    others_bytes: int = 0
    """What other processes had of the GPU meanwhile; the figures are only as good as this is constant."""
    fits: bool = True
    """Whether the device had enough for it."""

    @property
    def share(self) -> float:
        """The share of the device's memory that a trial needs, with a margin; above 1 if the whole is not enough."""
        return (1.0 + MARGIN) * self.peak_bytes / self.total_bytes

    @property
    def num_trials(self) -> int:
        """Number of trials of this configuration that fit on the device together; 0 if not even one does."""
        if not self.fits:
            return 0
        num = max(1, int(1.0 / self.share))
        while num > 1 and _rounded_down(1.0 / num) < self.share:
            num -= 1
        return num

    @property
    def gpus(self) -> float:
        """The value for `resources.gpus` with which `num_trials` trials share a GPU; 1 if they cannot share."""
        return _rounded_down(1.0 / max(1, self.num_trials))

    @property
    def memory_gib(self) -> float:
        """The value for `resources.memory_gib`: main memory with a margin, in steps of half a GiB."""
        return math.ceil((1.0 + MARGIN) * self.host_bytes / 2**29) / 2


def _rounded_down(fraction: float) -> float:
    return math.floor(fraction * _FINEST + 1e-6) / _FINEST


@dataclass(frozen=True)
class MeasuredTrial:
    """A configuration of a study, and the memory that it needs."""

    params: Mapping[str, Value]
    """What is searched."""
    use: MemoryUse

    @property
    def deciding(self) -> dict[str, Value]:
        """The parameters that affect the memory most, by name."""
        return {name: value for name, value in self.params.items() if name.startswith(_NAMED)}


class MemoryMeter:
    """Measures the memory of configurations one after the other, in a separate process.

    The process imports the same plug-ins as this one. A GPU's memory is emptied between measurements. Use it as a
    context manager.

    Args:
        store: Folder of the data set's store.
        device: Device to measure on; None for CUDA if there is a GPU, otherwise the CPU.
        within_s: Seconds after which a measurement is taken to hang.
    """

    def __init__(self, store: Path, *, device: str | None = None, within_s: float = _ANSWER_WITHIN_S) -> None:
        self._within_s = within_s
        self._command = [sys.executable, "-m", "searcher.training.memory_use", str(store), device or ""]
        self._command += plugin_sources()
        self._process: subprocess.Popen[str] | None = None
        self._about: dict[str, Any] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._said = self._stack.enter_context(tempfile.TemporaryFile("w+", errors="replace"))
        self._stack.callback(self._end)
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

    def measure(self, config: TrialConfig) -> MemoryUse:
        """Return the memory that a configuration needs. If the device has too little, `fits` is false.

        Raises:
            SearcherError: The measurement failed for another reason.
        """
        process = self._process or self._begin()
        assert process.stdin is not None
        with suppress(BrokenPipeError):  # why it ended is said below
            process.stdin.write(json.dumps(config.to_dict()) + "\n")
            process.stdin.flush()
        answer = self._answer(process)
        problem = answer.pop("problem")
        if problem is not None and problem["cause"] != "memory":
            raise SearcherError(f"the memory of a trial could not be measured: {problem['reason']}")
        return MemoryUse(**self._about, **answer, fits=problem is None)

    def _begin(self) -> "subprocess.Popen[str]":
        self._process = process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
            start_new_session=True,
            env=child_environment(),
        )
        self._about = self._answer(process)
        return process

    def _answer(self, process: "subprocess.Popen[str]") -> dict[str, Any]:
        assert process.stdout is not None
        if not select.select([process.stdout], [], [], self._within_s)[0]:
            self._end()
            raise SearcherError(
                f"the memory of a trial could not be measured: no answer within {self._within_s:.0f} s; look "
                "whether the GPU or the data's disk hangs"
            )
        line = process.stdout.readline()
        if line:
            answer: dict[str, Any] = json.loads(line)
            return answer
        code = process.wait()
        self._end()
        self._said.seek(0)
        last = next(
            (line for line in reversed(self._said.read().splitlines()) if line.strip()), f"exit code {code}"
        )
        raise SearcherError(f"the memory of a trial could not be measured: {last[:300]}")

    def _end(self) -> None:
        if self._process is not None:
            with self._process as process, suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # with what it may have started to measure in
            self._process = None


def largest_trial(
    spec: StudySpec,
    store: Path,
    *,
    device: str | None = None,
    heard: Callable[[MeasuredTrial], None] = lambda _: None,
) -> MeasuredTrial:
    """Return the trial of a study's search space that needs most memory, found by a few training steps of each.

    All numbers of the space are set to their largest values. Non-numeric parameters, such as the normalisation, are
    changed one after the other, and so are numbers where 0 leaves the choice to the model. A change is kept if it needs
    more memory.

    Args:
        spec: The study.
        store: Folder of the data set's store.
        device: Device to measure on; None for CUDA if there is a GPU, otherwise the CPU.
        heard: Called with each measurement as soon as it is done.

    Returns:
        The largest trial, or the first one that does not fit on the whole device.

    Raises:
        SearcherError: A measurement failed.
        StudyFileError: The largest values of the space contradict each other.
    """
    chosen: dict[str, Value] = {}
    largest: MeasuredTrial | None = None
    problem: StudyFileError | None = None
    with MemoryMeter(store, device=device) as meter:
        for change in ({}, *_changes(spec)):
            params = _params(spec, {**chosen, **change})
            if change and params == _params(spec, chosen):  # not searched beside what was chosen
                continue
            try:
                config = spec.trial_config(params)
            except StudyFileError as error:  # a combination that contradicts itself
                problem = error
                continue
            measured = MeasuredTrial(params, meter.measure(config))
            heard(measured)
            if largest is None or not measured.use.fits or measured.use.peak_bytes > largest.use.peak_bytes:
                host_bytes = max(measured.use.host_bytes, 0 if largest is None else largest.use.host_bytes)
                largest = replace(measured, use=replace(measured.use, host_bytes=host_bytes))
                chosen.update(change)
            if not measured.use.fits:
                break
    if largest is None:
        assert problem is not None
        raise problem
    return largest


def params_and_use(measured: MeasuredTrial) -> str:
    """Return a line with the parameters of a measured trial and the memory that it needs."""
    use = measured.use
    named = (
        f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in measured.deciding.items()
    )
    took = f"{use.peak_bytes / 2**30:.2f} GiB" if use.fits else "more than there is"
    where = f"the {use.total_bytes / 2**30:.1f} GiB of {use.device_name}"
    return f"{' '.join(named) or 'the largest trial'} takes {took} of {where}"


def _changes(spec: StudySpec) -> Iterator[Mapping[str, Value]]:
    """Yield what to change of the space's largest numbers and first choices, one parameter at a time."""
    for parameter in spec.space.parameters:
        domain = parameter.domain.widened()
        if not isinstance(domain, Choice) or not parameter.name.startswith(_DECIDING):
            continue
        first = _largest(parameter.name, domain)
        others = [value for value in domain.choices if value != first]
        if _is_number(parameter.name, domain):
            others = [value for value in others if value == 0]
        yield from ({parameter.name: value} for value in others)


def _params(spec: StudySpec, chosen: Mapping[str, Value]) -> dict[str, Value]:
    """Return the parameters of a trial: what was chosen, and the largest of everything else."""
    params: dict[str, Value] = {}
    for parameter in spec.space.parameters:
        if parameter.active(params):
            largest = _largest(parameter.name, parameter.domain.widened())
            params[parameter.name] = chosen.get(parameter.name, largest)
    return params


def _largest(name: str, domain: Domain) -> Value:
    edges = domain.edges()
    if not isinstance(domain, Choice):
        return edges[-1]
    return max(edges, key=float) if _is_number(name, domain) else edges[0]


def _is_number(name: str, domain: Choice) -> bool:
    """Return whether more of it is larger; of the number of a parent's trial it is not."""
    return name != CANDIDATE and not any(isinstance(value, bool | str) for value in domain.choices)
