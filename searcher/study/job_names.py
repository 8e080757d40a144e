"""What the Ray job of a detached launch is called, and which study a job is for."""

__all__ = ["job_name", "study_of_job_name"]

_PREFIX = "searcher-"


def job_name(study: str, unique: str) -> str:
    """Return the name of a job.

    Args:
        study: The study to launch.
        unique: Without a hyphen; one study is launched again and again.
    """
    return f"{_PREFIX}{study}-{unique}"


def study_of_job_name(job: str) -> str | None:
    """Return the study that a job was submitted for; None for a job that somebody else named."""
    study = job.removeprefix(_PREFIX).rpartition("-")[0] if job.startswith(_PREFIX) else ""
    return study or None
