"""Every command and option that the files of docker/ name is one that the installed searcher and Ray have."""

import argparse
import re
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from searcher.cli import main as cli

_WORD = r"\[[^\]]*\]|'[^']*'|\"[^\"]*\"|[^\s`;'|)\]]+"
_MENTION = re.compile(rf"\b(searcher|ray) ((?:job )?[a-z][a-z-]+)((?: +(?:{_WORD}))*)")


def _options_of_searcher() -> dict[str, set[str]]:
    (verbs,) = [a for a in cli._parser()._actions if isinstance(a, argparse._SubParsersAction)]
    return {
        name: {o for a in parser._actions for o in a.option_strings} for name, parser in verbs.choices.items()
    }


def _options_of_ray() -> dict[str, set[str]]:
    import ray.scripts.scripts  # with all of Ray Serve: seconds, which not every process that collects tests need take

    options: dict[str, set[str]] = {}

    def collect(group: click.Group, prefix: str) -> None:
        for name, command in group.commands.items():
            if isinstance(command, click.Group):
                collect(command, f"{prefix}{name} ")
            opts = {
                o for p in command.params if isinstance(p, click.Option) for o in p.opts + p.secondary_opts
            }
            options[prefix + name] = opts | {"--help"}

    collect(ray.scripts.scripts.cli, "")
    return options


@pytest.fixture(scope="module")
def known() -> dict[str, dict[str, set[str]]]:
    return {"searcher": _options_of_searcher(), "ray": _options_of_ray()}


def _commands(text: str) -> list[tuple[str, str, list[str]]]:
    """Return program, verb and long options of every command line in a text."""
    joined = re.sub(r"\\\n\s*", " ", text)
    joined = re.sub(r"\n(?:#\s+)?\s+(?=--)", " ", joined)
    found = []
    for line in joined.splitlines():
        for program, verb, rest in _MENTION.findall(line):
            found.append((program, verb, re.findall(r"(?<!\S)\[?(--[a-z-]+)", rest)))
    return found


def _sources(folder: Path, repository: Path) -> dict[str, str]:
    files = [path for path in folder.iterdir() if path.suffix in {".sh", ".yaml"}]
    return {path.name: path.read_text() for path in [*files, repository / "docs" / "containers.md"]}


def test_every_command_line_is_one_that_exists(
    folder: Path, repository: Path, known: dict[str, dict[str, set[str]]]
) -> None:
    num_checked = 0
    for name, text in _sources(folder, repository).items():
        code = text if not name.endswith(".md") else _code_of(text)
        for program, verb, options in _commands(code):
            assert verb in known[program], f"{name}: {program} {verb}"
            assert set(options) <= known[program][verb], f"{name}: {program} {verb} {options}"
            num_checked += 1
    assert num_checked > 20


def _code_of(markdown: str) -> str:
    blocks = re.findall(r"(?:^ {4}.+\n)+", markdown, re.M)
    return "\n".join([*blocks, *re.findall("`([^`\n]+)`", markdown)])


def test_what_services_run_is_what_the_entrypoint_and_its_programs_take(
    compose: dict[str, Any], known: dict[str, dict[str, set[str]]]
) -> None:
    programs = {
        "head": known["ray"]["start"],
        "worker": known["ray"]["start"],
        "dashboard": known["searcher"].get("dashboard"),
    }
    for name, service in compose["services"].items():
        if name == "postgres":
            continue
        role, *arguments = service["command"]
        options = {argument.partition("=")[0] for argument in arguments}
        assert programs[role] is not None, f"searcher has no verb {role}"
        assert options <= programs[role], name


def test_what_kuberay_passes_to_ray_start_exists(
    kubernetes: dict[str, Any], known: dict[str, dict[str, set[str]]]
) -> None:
    cluster = kubernetes["RayJob/searcher"]["spec"]["rayClusterSpec"]
    for group in [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]:
        assert {f"--{name}" for name in group["rayStartParams"]} <= known["ray"]["start"]


def test_it_would_find_what_does_not_exist() -> None:
    text = "x: ray start --head \\\n    --no-such=1; searcher launch --study a\n"
    assert _commands(text) == [("ray", "start", ["--head", "--no-such"]), ("searcher", "launch", ["--study"])]


def test_yaml_files_are_all_checked_somewhere(folder: Path) -> None:
    files = {path.name for path in folder.glob("*.yaml")}
    assert files == {
        *("compose.yaml", "kuberay.yaml", "kuberay-volumes.yaml"),
        *("ray-aws.yaml", "ray-on-premises.yaml"),
    }
    for path in folder.glob("*.yaml"):
        assert list(yaml.safe_load_all(path.read_text()))
