"""What the Ray job of a detached launch is called, and which study a job is for."""

__all__ = ["job_name", "study_of_job_name"]

_PREFIX = "searcher-"


def job_name(study: str, unique: str) -> str:
    """Return the name of the Ray job for a detached launch.

    Args:
        study: Name of the study.
        unique: Text that distinguishes launches of the same study; without a hyphen.
    """
    return f"{_PREFIX}{study}-{unique}"


def study_of_job_name(job: str) -> str | None:
    """Return the name of the study for which a Ray job was submitted; None for a job of others."""
    study = job.removeprefix(_PREFIX).rpartition("-")[0] if job.startswith(_PREFIX) else ""
    return study or None
