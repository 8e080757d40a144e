"""docker/secrets.sh, run for real, and no secret in any file that is committed."""

import os
import re
import stat
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import pytest

_NAMES = ["dashboard_token", "database_url", "postgres_password", "ray_token"]


def _make(folder: Path, target: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([folder / "secrets.sh", target], capture_output=True, text=True)


@pytest.fixture(scope="module")
def made(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("here") / "secrets"
    run = _make(folder, target)
    assert run.returncode == 0, run.stderr
    for name in _NAMES:
        assert (target / name).read_text().strip() not in run.stdout + run.stderr
    return target


def test_only_the_owner_reads_them(made: Path) -> None:
    assert sorted(path.name for path in made.iterdir()) == _NAMES
    assert stat.S_IMODE(made.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in made.iterdir()} == {0o600}
    assert [path.name for path in made.parent.iterdir() if path.name not in (".env", "secrets")] == []


def test_compose_runs_as_their_owner(made: Path) -> None:
    settings = dict(re.findall("^(SEARCHER_[UG]ID)=(.+)$", (made.parent / ".env").read_text(), re.M))
    owner = (made / "ray_token").stat()
    assert settings == {"SEARCHER_UID": str(owner.st_uid), "SEARCHER_GID": str(owner.st_gid)}
    assert owner.st_uid == (os.getuid() or 10001)  # never root


def test_each_is_long_and_of_its_own(made: Path) -> None:
    secrets = {(made / name).read_text().strip() for name in _NAMES if name != "database_url"}
    assert len(secrets) == 3
    assert all(re.fullmatch("[0-9a-f]{64}", secret) for secret in secrets)


def test_the_database_url_is_the_services_of_compose(made: Path, compose: dict[str, dict[str, dict]]) -> None:
    url = urlsplit((made / "database_url").read_text().strip())
    postgres = compose["services"]["postgres"]["environment"]
    assert (url.scheme, url.hostname) == ("postgresql", "postgres")
    assert (url.username, url.path) == (postgres["POSTGRES_USER"], f"/{postgres['POSTGRES_DB']}")
    assert url.password == (made / "postgres_password").read_text().strip()


def test_nothing_is_overwritten(folder: Path, made: Path) -> None:
    before = {path: path.read_bytes() for path in [*made.iterdir(), made.parent / ".env"]}
    run = _make(folder, made)
    assert run.returncode == 2
    assert run.stderr.startswith(f"{made}/postgres_password: exists already and is kept")
    assert {path: path.read_bytes() for path in before} == before


def test_what_else_is_in_the_folder_is_kept(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "mine").write_text("mine")
    run = _make(folder, tmp_path / "secrets")
    assert run.returncode != 0
    assert [path.name for path in tmp_path.rglob("*")] == ["secrets", "mine"]


def test_git_would_not_commit_them(repository: Path) -> None:
    paths = [f"docker/secrets/{name}" for name in _NAMES] + ["docker/.env"]
    run = subprocess.run(["git", "check-ignore", *paths], cwd=repository, capture_output=True, text=True)
    assert run.stdout.split() == paths


def test_no_committed_file_of_the_folder_holds_a_secret(folder: Path) -> None:
    """No address with a password in it, no long random string that is not an image's digest."""
    for path in folder.iterdir():
        if not path.is_file() or path.name == ".env":
            continue
        text = path.read_text()
        assert not re.search(r"://[^\s/:@]+:(?!%s@)[^\s@]+@", text), path
        assert not re.findall(r"(?<!@sha256:)\b[0-9a-f]{32,}\b", text), path
