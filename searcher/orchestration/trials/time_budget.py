"""Whether another trial can still end within the hours that a launch has (`study.hours`, `study.gpu_hours`)."""

import time
from collections.abc import Callable
from datetime import timedelta

from searcher.exceptions import UserError
from searcher.ledger.forecast import Forecast
from searcher.study.spec import StudySpec

__all__ = ["TimeBudget", "check_gpu_hours"]


def check_gpu_hours(spec: StudySpec, gpus: float) -> None:
    """Raise an error if a study has a limit of GPU hours but its trials use no GPU.

    Args:
        spec: The study.
        gpus: Number of GPUs of a trial.

    Raises:
        UserError: The trials use no GPU, so the limit would never be reached.
    """
    if spec.study.gpu_hours and not gpus:
        raise UserError(
            f"study.gpu_hours: must have trials on GPUs, got {spec.study.gpu_hours:g} for trials on CPUs alone; "
            "give study.hours (--hours) instead"
        )


class TimeBudget:
    """Decides whether another trial is expected to end within a study's time limits, from the times of its epochs.

    Before the first epoch has ended, only as many trials may start as can run at the same time.

    Args:
        spec: The study.
        gpus: Number of GPUs of a trial.
        forecast: The estimate of times, in which the caller records trials, in seconds of `clock`.
        began: The time at which the launch began, in seconds of `clock`.
        clock: Returns the time in seconds; it must not run backwards.
    """

    def __init__(
        self,
        spec: StudySpec,
        *,
        gpus: float,
        forecast: Forecast,
        began: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._hours, self._gpu_hours = spec.study.hours, spec.study.gpu_hours
        self._num_epochs = spec.max_epochs
        self._gpus = gpus
        self._forecast = forecast
        self._began = began
        self._clock = clock

    def refusal(self, num_places: int) -> str | None:
        """Return why no other trial may start now; None if one may.

        Args:
            num_places: Number of trials that can run at the same time.
        """
        if not self._hours and not self._gpu_hours:
            return None
        now, forecast = self._clock(), self._forecast
        trial_s, running = forecast.trial_s(self._num_epochs), sorted(forecast.running_left_s(now))
        if trial_s is None and forecast.num_running >= num_places:
            return "no epoch has been measured yet"
        waits_s = running[forecast.num_running - num_places] if forecast.num_running >= num_places else 0.0
        needed_s = trial_s or 0.0
        if self._hours:
            left_s = self._began + self._hours * 3600 - now
            if left_s <= 0 or waits_s + needed_s > left_s:
                return _text("hours", self._hours, needed_s, left_s)
        if self._gpu_hours:
            left_s = self._gpu_hours * 3600 / self._gpus - forecast.spent_s(now) - sum(running)
            if left_s <= 0 or needed_s > left_s:
                return _text("gpu_hours", self._gpu_hours, needed_s, left_s)
        return None

    def outlook(self, num_to_do: int, num_places: int) -> str | None:
        """Return a line with the study's expected time and the number of trials that fit in its limits.

        Args:
            num_to_do: Number of the study's trials that are not done.
            num_places: Number of trials that can run at the same time.

        Returns:
            The line; None before the first epoch, or if no trial is left.
        """
        now, forecast = self._clock(), self._forecast
        trial_s, epoch_s = forecast.trial_s(self._num_epochs), forecast.epoch_s
        if trial_s is None or epoch_s is None or not num_to_do:
            return None
        busy_s, running = sum(forecast.running_left_s(now)), forecast.num_running
        places = max(1, min(num_places, num_to_do))
        whole_s = (busy_s + max(0, num_to_do - running) * trial_s) / places
        limits = []
        if self._hours:
            limits.append((self._began + self._hours * 3600 - now) * places)
        if self._gpu_hours:
            limits.append(self._gpu_hours * 3600 / self._gpus - forecast.spent_s(now))
        text = (
            f"forecast: an epoch takes {epoch_s:.3g} s, a trial {trial_s / epoch_s:.3g} epochs on average; "
            f"{num_to_do} trials at {places} a time take about {_shown(whole_s)}"
        )
        if limits:
            within = running + max(0, int((min(limits) - busy_s) / trial_s))
            given = " and ".join(
                f"{amount:g} {unit}"
                for amount, unit in ((self._hours, "h"), (self._gpu_hours, "GPU hours"))
                if amount
            )
            text += f"; {given} are enough for about {min(within, num_to_do)} of them"
        return text


def _text(key: str, amount: float, needed_s: float, left_s: float) -> str:
    left = f"{_shown(left_s)} are left" if left_s > 0 else "none is left"
    takes = f"another trial takes about {_shown(needed_s)}, " if needed_s else ""
    return f"study.{key}={amount:g}: {takes}{left}"


def _shown(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
