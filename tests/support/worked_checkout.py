"""A checkout of this project in which somebody has worked: with secrets, databases, runs and images beside the code."""

import subprocess
from pathlib import Path

__all__ = ["PRIVATE", "committed", "make_checkout"]

PRIVATE = (
    "database_url",
    "demo/study.html",
    "docker/.env",
    "docker/secrets.Xy12ab/database_url",
    "docker/secrets/database_url",
    "docker/secrets/ray_token",
    "glas/train_1.bmp",
    "runs/unet-broad/0/best.pt",
    "searcher.db",
    "searcher.db-shm",
    "searcher.db-wal",
    "studies/database_url",
    "studies/searcher.db",
    "studies/searcher.db-wal",
)
"""What may lie there and is nobody else's business."""


def committed(repository: Path) -> list[str]:
    """Return the paths that git has of the project."""
    command = ["git", "ls-files", "-z"]
    run = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=True)
    return sorted(filter(None, run.stdout.split("\0")))


def make_checkout(repository: Path, root: Path) -> Path:
    """Fill a folder with the committed and the private files; all of them are empty but .gitignore."""
    for name in [*committed(repository), *PRIVATE, ".git/config"]:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600 if name in PRIVATE else 0o644)
    (root / ".gitignore").write_bytes((repository / ".gitignore").read_bytes())
    return root
