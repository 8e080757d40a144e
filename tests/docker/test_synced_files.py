"""What Ray's cluster launcher copies of a checkout: the command that Ray builds for rsync, run with ssh replaced.

Where rsync is missing, its rules as far as our patterns need them decide alone.
"""

import fnmatch
import itertools
import os
import re
import shlex
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.command_runner import SSHCommandRunner
from worked_checkout import PRIVATE, committed

_MACHINE = "192.0.2.11"
_SSH = f"""#!/bin/sh
# "Logs in" on this machine: what comes after the other's name is run here.
until [ "$1" = {_MACHINE} ]; do shift; done
shift
exec sh -c "$*"
"""


class _Command(SSHCommandRunner):  # type: ignore[misc]
    """Ray's runner, which keeps the command that it would run."""

    def _get_ssh_target(self) -> str:
        return _MACHINE

    def _run_helper(self, final_cmd: list[str], **_: object) -> None:
        self.command = final_cmd


@pytest.fixture(scope="module", params=["ray-aws.yaml", "ray-on-premises.yaml"])
def cluster_file(folder: Path, request: pytest.FixtureRequest) -> Path:
    return Path(folder / request.param)


@pytest.fixture(scope="module")
def launcher(cluster_file: Path) -> dict[str, Any]:
    return dict(yaml.safe_load(cluster_file.read_text()))


def _command(launcher: dict[str, Any], source: str, target: str) -> list[str]:
    """Return the command with which Ray brings a path to a machine."""
    runner = _Command("", "node", None, launcher["auth"], "searcher", subprocess, use_internal_ip=True)
    runner.run_rsync_up(source, target, {key: launcher.get(key) for key in ("rsync_exclude", "rsync_filter")})
    return list(runner.command)


def _bring(launcher: dict[str, Any], checkout: Path, source: str, target: str, home: Path) -> None:
    """Run that command in a checkout; the machine's home is a folder here."""
    rsync = shutil.which("rsync")
    if rsync is None:
        pytest.skip("needs rsync, which `ray up` runs too")
    programs = home.parent / "programs"
    programs.mkdir()
    (programs / "ssh").write_text(_SSH)
    (programs / "ssh").chmod(0o755)
    environment = os.environ | {"HOME": str(home), "PATH": f"{programs}:{os.environ['PATH']}"}
    command = _command(launcher, source, target)
    subprocess.run(command, cwd=checkout, env=environment, capture_output=True, check=True)


def _delivery(cluster_file: Path) -> tuple[str, str]:
    """Return what the file's own commands bring to the head, and where to."""
    (line,) = re.findall(r"^#   (ray rsync-up .+)$", cluster_file.read_text(), re.M)
    *_, name, source, target = shlex.split(line)
    assert name == f"docker/{cluster_file.name}"
    return source, target


def test_rsync_takes_what_git_has_and_nothing_private(
    launcher: dict[str, Any], repository: Path, checkout: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    (home / "searcher").mkdir(parents=True)
    (source,) = [source for target, source in launcher["file_mounts"].items() if target == "~/searcher"]
    _bring(launcher, checkout, f"{source}/", "~/searcher/", home)
    assert _files(home / "searcher") == committed(repository)


def test_the_files_own_command_brings_the_databases_address_to_the_head(
    cluster_file: Path, launcher: dict[str, Any], checkout: Path, tmp_path: Path
) -> None:
    """Ray has rsync leave out of this one file too what the patterns name; it then says nothing (2.60)."""
    (tmp_path / "home").mkdir()
    _bring(launcher, checkout, *_delivery(cluster_file), tmp_path / "home")
    assert _files(tmp_path / "home") == ["database_url"]
    assert stat.S_IMODE((tmp_path / "home" / "database_url").stat().st_mode) == 0o600


def _files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def _is_left_out(path: str, patterns: list[str]) -> bool:
    """Say whether rsync leaves out a file, as its manual has it under "PATTERN MATCHING RULES".

    A pattern with a slash inside is matched against the end of the path from the folder that is copied, one that begins
    with a slash against all of it, any other against each name on the way; one that ends with a slash against folders.
    """
    names = path.split("/")
    for length in range(1, len(names) + 1):
        for pattern in patterns:
            if pattern.endswith("/") and length == len(names):
                continue
            wanted = pattern.strip("/").split("/")
            found = (
                names[:length] if pattern.startswith("/") else names[max(0, length - len(wanted)) : length]
            )
            if len(found) == len(wanted) and all(map(fnmatch.fnmatchcase, found, wanted)):
                return True
    return False


def _patterns(launcher: dict[str, Any], checkout: Path) -> list[str]:
    """Return the patterns of the command that Ray builds, with those of the files that it names."""
    command = _command(launcher, "./", "~/searcher/")
    patterns = []
    for option, value in itertools.pairwise(command):
        if option == "--exclude":
            patterns.append(value)
        elif option == "--filter":
            patterns += (checkout / value.removeprefix("dir-merge,- ")).read_text().split()
    return patterns


def test_by_rsyncs_rules_it_is_the_same(launcher: dict[str, Any], repository: Path, checkout: Path) -> None:
    patterns = _patterns(launcher, checkout)
    assert [path for path in _files(checkout) if not _is_left_out(path, patterns)] == committed(repository)
    named = [pattern for pattern in launcher["rsync_exclude"] if _is_left_out("database_url", [pattern])]
    assert named == []  # it would not reach the head


def test_git_would_commit_nothing_private(repository: Path) -> None:
    run = subprocess.run(["git", "check-ignore", *PRIVATE], cwd=repository, capture_output=True, text=True)
    assert run.stdout.split() == list(PRIVATE)
