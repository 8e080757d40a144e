"""A driver that outlives the terminal: submitted through Ray's job API, and its log from there.

Who reaches a cluster's dashboard can read all of a job: its command, its environment, its metadata and its log. So
nothing secret goes into them; see `searcher.cli.detach` for the database.
"""

import json
import os
import secrets
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
from ray.exceptions import AuthenticationError
from ray.job_submission import JobStatus, JobSubmissionClient

from searcher.exceptions import ClusterAwayError, UserError
from searcher.orchestration.cluster.ray_cluster import TOKEN_REMEDY, check_reachable
from searcher.orchestration.ray_internals import JOB_CONFIG_VARIABLE, dashboard_of, head_address
from searcher.study.job_names import job_name

__all__ = ["Job", "current_job", "find_job", "submit"]

_AGENT_WITHIN_S = 60.0
"""A head that was just started takes jobs only once its agent is up, seconds after its dashboard."""

_SERVER_PROBLEM = "Request failed with status code 5"
"""How Ray's client says that the dashboard itself, or what stands before it, has a problem (2.60)."""


@dataclass
class Job:
    """A Ray job, accessed through its cluster's dashboard."""

    id: str
    """The submission id, which `ray job` takes too."""
    dashboard: str
    """URL of the cluster's dashboard."""
    _client: Any
    _num_read: int = 0

    def read(self) -> str:
        """Return the output of the job's driver since the last call.

        Raises:
            UserError: The cluster does not respond.
        """
        with _Errors(self.dashboard):
            text: str = self._client.get_job_logs(self.id)
        added, self._num_read = text[self._num_read :], len(text)
        return added

    def is_over(self) -> bool:
        """Return whether the job has ended, successfully or not.

        Raises:
            UserError: The cluster does not respond.
        """
        with _Errors(self.dashboard):
            status: JobStatus = self._client.get_job_status(self.id)
        return bool(status.is_terminal())

    def exit_code(self) -> int | None:
        """Return the exit code of the job's driver; None while it runs, or if it never started.

        Raises:
            UserError: The cluster does not respond.
        """
        with _Errors(self.dashboard):
            code: int | None = self._client.get_job_info(self.id).driver_exit_code
        return code


def submit(address: str, study: str, arguments: Sequence[str], environment: Mapping[str, str]) -> Job:
    """Run `searcher` on the head node of a cluster as a Ray job, and return the job.

    The job uses the `searcher` that is first on the PATH with which Ray was started there, otherwise the one next to
    this Python.

    Args:
        address: HOST:PORT of the cluster's head, or the URL of its dashboard.
        study: Name of the study; part of the job's name.
        arguments: Command-line arguments of `searcher`. Everybody who reaches the dashboard can read them.
        environment: Environment variables for the driver, equally readable.

    Raises:
        UserError: The cluster cannot be reached, has no job API, or requires another token.
    """
    client, dashboard = _client(address)
    if "://" not in address:
        # Ray tells a job the address of the machine's newest cluster (2.60), which may be another one.
        arguments = [*arguments, "--address", head_address(address)]
    here = shlex.quote(str(Path(sys.executable).parent))
    variables = [shlex.quote(f"{name}={value}") for name, value in environment.items()]
    # `exec`: no shell stays between Ray and the driver, which is to get Ray's signals.
    entrypoint = " ".join(
        ["exec env", f'"PATH=$PATH":{here}', *variables, shlex.join(["searcher", *arguments])]
    )
    job = job_name(study, secrets.token_hex(4))
    give_up_at = time.monotonic() + _AGENT_WITHIN_S
    with _Errors(dashboard):
        while True:
            try:
                client.submit_job(
                    entrypoint=entrypoint, submission_id=job, metadata={"searcher_study": study}
                )
                return Job(job, dashboard, client)
            except RuntimeError as error:
                if "No available agent" not in str(error) or time.monotonic() > give_up_at:
                    raise
                time.sleep(1.0)


def find_job(address: str, job: str) -> Job:
    """Return the job with an id.

    Raises:
        UserError: The cluster cannot be reached, requires another token, or has no such job.
    """
    client, dashboard = _client(address)
    with _Errors(dashboard):
        client.get_job_status(job)
    return Job(job, dashboard, client)


def current_job() -> str | None:
    """Return the id of the Ray job of which this process is the driver; None if it is no job."""
    config = json.loads(os.environ.get(JOB_CONFIG_VARIABLE) or "{}")
    job = config.get("metadata", {}).get("job_submission_id")
    return None if job is None else str(job)


def _client(address: str) -> tuple[Any, str]:
    dashboard = address if address.startswith(("http://", "https://")) else _dashboard(address)
    with _Errors(dashboard):
        return JobSubmissionClient(dashboard), dashboard


def _dashboard(address: str) -> str:
    """Ask the head at HOST:PORT for its dashboard. Ray's own way to do so retries for 40 s where there is none."""
    check_reachable(address)
    where = dashboard_of(head_address(address))
    if where is None:
        raise UserError(
            f"--address {address}: must have a dashboard, whose job API takes jobs, got none; start the head with "
            "`ray start --head --include-dashboard=true`"
        )
    return f"http://{where}"


class _Errors:
    """What goes wrong with the job API, in one line. Use as a context manager.

    Raises:
        ClusterAwayError: No answer, or one that says that the dashboard itself has a problem.
        UserError: It refuses.
    """

    def __init__(self, dashboard: str) -> None:
        self._where = f"--address {dashboard}"

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, AuthenticationError):
            raise UserError(
                f"{self._where}: the cluster must know this process's token, got another or none; {TOKEN_REMEDY}"
            ) from None
        if isinstance(error, ConnectionError | requests.RequestException):
            raise ClusterAwayError(
                f"{self._where}: must be the dashboard of a running Ray cluster, got no answer; check the address, and "
                "that this machine reaches it"
            ) from error
        if isinstance(error, RuntimeError | ValueError):
            reason = " ".join(str(error).split())[:300]
            kind = ClusterAwayError if reason.startswith(_SERVER_PROBLEM) else UserError
            raise kind(f"{self._where}: must have Ray's job API and the job, got: {reason}") from error
