"""compose.yaml against the compose specification's own schema, and what it promises about ports, users and secrets."""

import json
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema.validators import validator_for

_OURS = ["dashboard", "head", "worker", "worker-gpu"]


def _errors(text: str) -> list[str]:
    """Return what the specification's schema, as check-jsonschema ships it, has against a compose file."""
    path = files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json"
    schema = json.loads(path.read_text())
    return [error.message for error in validator_for(schema)(schema).iter_errors(yaml.safe_load(text))]


def test_it_is_what_the_compose_specification_allows(folder: Path) -> None:
    assert _errors((folder / "compose.yaml").read_text()) == []


def test_the_schema_would_find_a_misspelt_key(folder: Path) -> None:
    wrong = (folder / "compose.yaml").read_text().replace("    profiles: [gpu]", "    profile: [gpu]")
    (error,) = _errors(wrong)
    assert "'profile' was unexpected" in error or "'profile' does not match" in error


def test_services_and_profiles(compose: dict[str, Any]) -> None:
    profiles = {name: service.get("profiles", []) for name, service in compose["services"].items()}
    assert profiles == {"postgres": [], "head": [], "dashboard": [], "worker": ["cpu"], "worker-gpu": ["gpu"]}


def test_ports_are_published_on_loopback_only(compose: dict[str, Any]) -> None:
    published = {name: service.get("ports", []) for name, service in compose["services"].items()}
    assert {name for name, ports in published.items() if ports} == {"head", "dashboard"}
    for ports in published.values():
        for port in ports:
            assert re.fullmatch(r"127\.0\.0\.1:\$\{\w+:-\d+\}:\d+", port)


@pytest.mark.parametrize("name", ["postgres", *_OURS])
def test_every_service_is_hardened_healthy_and_bounded(compose: dict[str, Any], name: str) -> None:
    service = compose["services"][name]
    assert service["user"] == "${SEARCHER_UID:-10001}:${SEARCHER_GID:-10001}"
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["init"] is True
    assert service["restart"] == "unless-stopped"
    assert not {"privileged", "cap_add", "network_mode", "pid", "ipc", "container_name"} & service.keys()
    assert service["healthcheck"]["test"][0] == "CMD"
    assert {"cpus", "memory"} <= service["deploy"]["resources"]["limits"].keys()


@pytest.mark.parametrize("name", _OURS)
def test_one_image_for_every_role(compose: dict[str, Any], name: str) -> None:
    service = compose["services"][name]
    assert service["image"] == "${SEARCHER_IMAGE:-gland-searcher:0.2.0}"
    assert service["build"]["dockerfile"] == "docker/Dockerfile"


def test_postgres_is_pinned_by_tag_and_digest(compose: dict[str, Any]) -> None:
    image = compose["services"]["postgres"]["image"]
    assert re.fullmatch(r"postgres:\d+\.\d+-bookworm@sha256:[0-9a-f]{64}", image)


def test_a_worker_scales_and_cannot_reach_the_database(compose: dict[str, Any]) -> None:
    services = compose["services"]
    assert compose["networks"]["database"] == {"internal": True}
    assert {name for name, service in services.items() if "database" in service["networks"]} == {
        "postgres",
        "head",
        "dashboard",
    }
    for name in ("worker", "worker-gpu"):
        worker = services[name]
        assert worker["networks"] == ["ray"]
        assert worker["secrets"] == ["ray_token"]
        assert "SEARCHER_DB" not in worker["environment"]
        assert "ports" not in worker  # a published port would keep a second worker from starting


def test_the_head_runs_no_trials(compose: dict[str, Any]) -> None:
    """A trial there could read the database's address."""
    assert {"--num-cpus=0", "--num-gpus=0"} <= set(compose["services"]["head"]["command"])


def test_ray_demands_its_token_everywhere(compose: dict[str, Any]) -> None:
    for name in ("head", "worker", "worker-gpu"):
        service = compose["services"][name]
        assert service["environment"]["RAY_AUTH_MODE"] == "token"
        assert service["environment"]["RAY_AUTH_TOKEN_PATH"] == "/run/secrets/ray_token"
        assert "ray_token" in service["secrets"]


def test_the_dashboard_demands_its_token(compose: dict[str, Any]) -> None:
    dashboard = compose["services"]["dashboard"]
    assert "--token-file=/run/secrets/dashboard_token" in dashboard["command"]
    assert "--writable" not in dashboard["command"]


def test_secrets_are_files_and_nothing_else(compose: dict[str, Any]) -> None:
    assert compose["secrets"] == {
        name: {"file": f"./secrets/{name}"}
        for name in ("postgres_password", "database_url", "ray_token", "dashboard_token")
    }
    for service in compose["services"].values():
        for name, value in service.get("environment", {}).items():
            if re.search("PASSWORD|TOKEN|SEARCHER_DB", name):
                assert re.fullmatch("@?/run/secrets/[a-z_]+", value), name


def test_data_is_read_only_and_the_trials_share_what_they_write(compose: dict[str, Any]) -> None:
    for name in ("head", "worker", "worker-gpu"):
        assert compose["services"][name]["volumes"] == [
            "${SEARCHER_DATA:-data}:/data:ro",
            "${SEARCHER_RUNS:-runs}:/work/runs",
            "cache:/cache",
        ]


def test_the_dashboard_reads_the_pictures_that_the_trials_write(
    folder: Path, compose: dict[str, Any]
) -> None:
    dashboard = compose["services"]["dashboard"]
    assert dashboard["volumes"] == ["${SEARCHER_RUNS:-runs}:/work/runs:ro"]
    cache = re.search(r"SEARCHER_CACHE=(\S+)", (folder / "Dockerfile").read_text())
    assert cache is not None
    writable = [mount.partition(":")[0] for mount in dashboard["tmpfs"]]
    assert cache[1] in writable, "where pictures are fetched to from an object store"


def test_the_gpu_worker_asks_for_all_of_them(compose: dict[str, Any]) -> None:
    reservations = compose["services"]["worker-gpu"]["deploy"]["resources"]["reservations"]
    assert reservations == {"devices": [{"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}]}


def test_every_setting_has_the_default_that_the_example_says(folder: Path) -> None:
    used = re.findall(r"\$\{(\w+)(?::-([^}]*))?\}", (folder / "compose.yaml").read_text())
    example = dict(
        line.split("=", 1)
        for line in (folder / ".env.example").read_text().splitlines()
        if line and not line.startswith("#")
    )
    assert dict(used) == example
    assert len(set(used)) == len(example)  # one default for each, wherever it is used


def test_yaml_merges_hide_no_repeated_key(folder: Path) -> None:
    """PyYAML takes the last of two equal keys without a word; compose refuses them."""

    class Strict(yaml.SafeLoader):
        pass

    def mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        assert len(keys) == len(set(keys)), keys
        loader.flatten_mapping(node)
        return {
            loader.construct_object(k, deep=True): loader.construct_object(v, deep=True)
            for k, v in node.value
        }

    Strict.add_constructor("tag:yaml.org,2002:map", mapping)
    for path in folder.glob("*.yaml"):
        list(yaml.load_all(path.read_text(), Strict))
