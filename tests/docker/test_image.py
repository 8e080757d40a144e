"""The Dockerfile and the shell scripts: linted by the field's own linters, and what no linter knows."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from worked_checkout import PRIVATE

_BIN = Path(sys.executable).parent
_SCRIPTS = ["entrypoint.sh", "install.sh", "secrets.sh", "slurm.sh"]


@pytest.fixture(scope="module")
def dockerfile(folder: Path) -> str:
    """The instructions, without comments, each on one line."""
    lines = [line for line in (folder / "Dockerfile").read_text().splitlines() if not line.startswith("#")]
    return "\n".join(lines).replace("\\\n", " ")


def test_hadolint_finds_nothing(folder: Path) -> None:
    run = subprocess.run(
        [_BIN / "hadolint", "--no-fail", "--failure-threshold", "style", folder / "Dockerfile"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout == ""


def test_hadolint_would_find_something(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM python:latest\nRUN cd /tmp\nUSER root\n")
    run = subprocess.run([_BIN / "hadolint", tmp_path / "Dockerfile"], capture_output=True, text=True)
    assert run.returncode == 1
    assert all(rule in run.stdout for rule in ("DL3007", "DL3003", "DL3002"))


@pytest.mark.parametrize("script", _SCRIPTS)
def test_shellcheck_finds_nothing(folder: Path, script: str) -> None:
    run = subprocess.run([_BIN / "shellcheck", folder / script], capture_output=True, text=True)
    assert (run.returncode, run.stdout) == (0, "")
    assert (folder / script).stat().st_mode & 0o111


def test_every_script_is_checked(folder: Path) -> None:
    assert sorted(path.name for path in folder.glob("*.sh")) == _SCRIPTS


def test_every_base_is_pinned_by_tag_and_digest(dockerfile: str) -> None:
    arguments = dict(re.findall(r"^ARG (\w+)=(\S+)$", dockerfile, re.M))
    bases = re.findall(r"^FROM (\S+)", dockerfile, re.M)
    assert bases == ["${PYTHON_IMAGE}"] * 2
    assert re.fullmatch(r"python:3\.11\.\d+-slim-bookworm@sha256:[0-9a-f]{64}", arguments["PYTHON_IMAGE"])


def test_it_runs_as_a_user_by_number(dockerfile: str) -> None:
    """By number, so that Kubernetes can see that it is not root."""
    final = dockerfile.rpartition("\nFROM ")[2]
    assert re.findall(r"^USER (\S+)", final, re.M) == ["10001:10001"]


def test_it_fetches_nothing_but_packages(dockerfile: str) -> None:
    assert not re.search(r"^ADD |https?://(?!127\.0\.0\.1)|\bcurl\b|\bwget\b|apt-get", dockerfile, re.M)
    assert len(re.findall("^HEALTHCHECK ", dockerfile, re.M)) == 1


def test_nothing_reaches_the_build_but_what_the_image_is_made_of(folder: Path, dockerfile: str) -> None:
    """The list admits by name; so no data, no database and no secret can be sent to the builder by accident."""
    lines = [
        line for line in (folder / "Dockerfile.dockerignore").read_text().splitlines() if line[:1] not in "#"
    ]
    assert lines[0] == "*"
    admitted = {line[1:] for line in lines if line.startswith("!")}
    copied = [words.split() for words in re.findall(r"^COPY (?!--from)(.+)$", dockerfile, re.M)]
    assert admitted == {source for *sources, _ in copied for source in sources}


def _is_sent(path: str, lines: list[str]) -> bool:
    """Say whether the builder gets a file, as Docker's reference has it: the last line that matches it decides."""
    sent = True
    for line in lines:
        pattern = re.escape(line.removeprefix("!")).replace(r"\*\*/", "(.*/)?").replace(r"\*", "[^/]*")
        if re.fullmatch(f"{pattern}(/.*)?", path):
            sent = line.startswith("!")
    return sent


def test_nothing_private_reaches_the_build_from_between_the_code(folder: Path, checkout: Path) -> None:
    lines = (folder / "Dockerfile.dockerignore").read_text().splitlines()[1:]
    paths = sorted(str(path.relative_to(checkout)) for path in checkout.rglob("*") if path.is_file())
    sent = [path for path in paths if _is_sent(path, lines)]
    assert [path for path in sent if path in PRIVATE] == []
    assert {path.split("/")[0] for path in sent} == {
        *("LICENSE", "README.md", "pyproject.toml", "requirements.lock"),
        *("data_pipeline", "docker", "models", "searcher", "studies"),
    }
    assert [path for path in sent if path.startswith("docker/")] == [
        "docker/entrypoint.sh",
        "docker/install.sh",
    ]


def test_versions_are_the_projects(folder: Path, repository: Path, dockerfile: str) -> None:
    version = re.search('"(.+)"', (repository / "searcher/_version.py").read_text().split("=")[1])
    uv = re.search(r"^UV_VERSION := (\S+)$", (repository / "Makefile").read_text(), re.M)
    ray = re.search(r"^ray==(\S+)", (repository / "requirements.lock").read_text(), re.M)
    assert version is not None
    assert uv is not None
    assert ray is not None
    assert f"ARG VERSION={version[1]}\n" in dockerfile
    assert f"ARG UV_VERSION={uv[1]}\n" in dockerfile
    for path in folder.iterdir():
        text = path.read_text() if path.is_file() else ""
        assert set(re.findall(r"gland-searcher:([\d.]+\d)", text)) <= {version[1]}, path
        assert set(re.findall(r"uv==([\d.]+)", text)) <= {uv[1]}, path
        assert set(re.findall(r'rayVersion: "(.+)"', text)) <= {ray[1]}, path


def test_the_cpu_image_leaves_out_what_cuda_brings(folder: Path, repository: Path) -> None:
    """`install.sh` sorts the lock's names by a pattern; whatever looks like CUDA has to match it."""
    pattern = re.search(r"grep -oE '(.+?)' requirements", (folder / "install.sh").read_text())
    assert pattern
    names = re.findall(r"^([a-z0-9.-]+)==", (repository / "requirements.lock").read_text(), re.M)
    left_out = {name for name in names if re.match(pattern[1], f"{name}==")}
    assert left_out == {
        n for n in names if "nvidia" in n or "cuda" in n or n in {"torch", "torchvision", "triton"}
    }


def test_the_image_has_every_extra_and_no_developers_tools(folder: Path, repository: Path) -> None:
    project = tomllib.loads((repository / "pyproject.toml").read_text())
    assert "--all-extras" in (folder / "install.sh").read_text()
    assert "--group" not in (folder / "install.sh").read_text()
    assert {"dashboard", "onnx", "slides"} <= set(project["project"]["optional-dependencies"])


def test_install_refuses_an_unknown_kind_of_torch(folder: Path) -> None:
    run = subprocess.run([folder / "install.sh", "rocm", "/nowhere"], capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (2, "docker/install.sh: must be cuda or cpu, got rocm\n")
