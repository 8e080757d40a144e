"""The cluster files: Ray's own validator, Kubernetes' own schemas, and who gets the token and the database."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import ray.autoscaler
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

_RAY_FILES = ["ray-aws.yaml", "ray-on-premises.yaml"]
_KUBERNETES = "1.37.0"


@pytest.fixture(scope="module", params=_RAY_FILES)
def launcher(folder: Path, request: pytest.FixtureRequest) -> dict[str, Any]:
    return dict(yaml.safe_load((folder / request.param).read_text()))


def test_ray_accepts_it(launcher: dict[str, Any]) -> None:
    """What `ray up` does before it touches anything: the schema, the provider's defaults, the rules across keys."""
    schema = json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text())
    jsonschema.validate(launcher, schema)
    validate_config(prepare_config(launcher))


def test_ray_would_refuse_a_misspelt_key(launcher: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError, match="setup_comands"):
        validate_config(prepare_config(launcher) | {"setup_comands": []})


def test_nodes_start_with_the_token_and_the_head_takes_no_trials(launcher: dict[str, Any]) -> None:
    for role in ("head", "worker"):
        (start,) = [command for command in launcher[f"{role}_start_ray_commands"] if "ray start" in command]
        assert "RAY_AUTH_MODE=token" in start
    (head,) = [command for command in launcher["head_start_ray_commands"] if "--head" in command]
    assert "--num-cpus=0" in head
    assert "--dashboard-host=127.0.0.1" in head


def test_every_machine_gets_the_token_and_none_the_databases_address(launcher: dict[str, Any]) -> None:
    assert launcher["file_mounts"] == {"~/searcher": ".", "~/.ray/auth_token": "docker/secrets/ray_token"}
    assert {"docker/secrets", "docker/.env", ".git", ".venv"} <= set(launcher["rsync_exclude"])


def test_the_cloud_opens_nothing_to_the_internet(folder: Path) -> None:
    """Without a security group of one's own Ray makes one with port 22 open to 0.0.0.0/0 (2.60)."""
    config = yaml.safe_load((folder / "ray-aws.yaml").read_text())
    assert config["provider"]["use_internal_ips"] is True
    for node in config["available_node_types"].values():
        assert node["node_config"]["SecurityGroupIds"]


def test_kuberay_knows_every_field(kubernetes: dict[str, Any]) -> None:
    schema = json.loads((Path(__file__).parent / "kuberay_fields.json").read_text())
    jsonschema.validate(kubernetes["RayJob/searcher"], schema)


def _templates(kubernetes: dict[str, Any]) -> dict[str, dict[str, Any]]:
    cluster = kubernetes["RayJob/searcher"]["spec"]["rayClusterSpec"]
    workers = {group["groupName"]: group["template"] for group in cluster["workerGroupSpecs"]}
    return {"head": cluster["headGroupSpec"]["template"], **workers}


def _pods(kubernetes: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return _templates(kubernetes) | {"copy": {"spec": kubernetes["Pod/searcher-copy"]["spec"]}}


def test_kubernetes_accepts_the_pods_and_everything_else(kubernetes: dict[str, Any]) -> None:
    for template in _templates(kubernetes).values():
        kubernetes_validate.validate(
            {"apiVersion": "v1", "kind": "Pod", **template}, _KUBERNETES, strict=True
        )
    others = [document for name, document in kubernetes.items() if not name.startswith("RayJob/")]
    assert {document["kind"] for document in others} == {"NetworkPolicy", "PersistentVolumeClaim", "Pod"}
    for document in others:
        kubernetes_validate.validate(document, _KUBERNETES, strict=True)


def test_kubernetes_would_refuse_a_misspelt_field(kubernetes: dict[str, Any]) -> None:
    template = _templates(kubernetes)["head"]
    pod = {"apiVersion": "v1", "kind": "Pod", **template, "spec": template["spec"] | {"runAsUser": 10001}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(pod, _KUBERNETES, strict=True)


def test_pods_are_as_hardened_as_the_services_of_compose(kubernetes: dict[str, Any]) -> None:
    for name, template in _pods(kubernetes).items():
        spec = template["spec"]
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] == 10001
        (container,) = spec["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {"cpu", "memory"} <= container["resources"]["limits"].keys()
        if name != "copy":  # it listens to nobody
            assert container["readinessProbe"]["exec"]["command"][:2] == ["entrypoint.sh", "health"]
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in spec["volumes"]}


def test_kubernetes_gives_the_database_to_the_head_alone_and_the_token_to_all(
    kubernetes: dict[str, Any],
) -> None:
    cluster = kubernetes["RayJob/searcher"]["spec"]["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert cluster["headGroupSpec"]["serviceType"] == "ClusterIP"
    holders = [
        name
        for name, template in _pods(kubernetes).items()
        if any("secret" in volume for volume in template["spec"]["volumes"])
    ]
    assert holders == ["head"]


def test_the_network_policy_covers_every_pod_of_the_cluster(kubernetes: dict[str, Any]) -> None:
    policy = kubernetes["NetworkPolicy/searcher"]["spec"]
    for template in _templates(kubernetes).values():
        assert policy["podSelector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
    assert policy["policyTypes"] == ["Ingress"]
    assert all(rule["from"] for rule in policy["ingress"])


def test_claims_are_the_volumes_that_pods_mount(kubernetes: dict[str, Any]) -> None:
    claimed = {
        volume["persistentVolumeClaim"]["claimName"]
        for template in _templates(kubernetes).values()
        for volume in template["spec"]["volumes"]
        if "persistentVolumeClaim" in volume
    }
    assert {f"PersistentVolumeClaim/{name}" for name in claimed} <= kubernetes.keys()


def test_a_job_makes_no_volumes_so_that_it_cannot_begin_on_empty_ones(folder: Path) -> None:
    documents = list(yaml.safe_load_all((folder / "kuberay.yaml").read_text()))
    assert [document["kind"] for document in documents] == ["RayJob", "NetworkPolicy"]


def _kubectl(text: str) -> list[list[str]]:
    """Return the commands for kubectl in a text, in their order."""
    return [shlex.split(line) for line in re.findall(r"^[# ]+ (kubectl .+)$", text, re.M)]


def test_what_is_copied_is_what_the_job_reads(kubernetes: dict[str, Any], folder: Path) -> None:
    """`kubectl cp` of a folder into one that is there makes one of the same name in it."""
    (copy,) = [words for words in _kubectl((folder / "kuberay.yaml").read_text()) if words[1] == "cp"]
    source, target = copy[2:]
    pod, _, path = target.partition(":")
    spec = kubernetes[f"Pod/{pod}"]["spec"]
    (mount,) = spec["containers"][0]["volumeMounts"]
    (volume,) = spec["volumes"]
    assert (mount["mountPath"], mount.get("readOnly", False)) == (path, False)
    assert volume["persistentVolumeClaim"] == {"claimName": "searcher-data"}
    words = kubernetes["RayJob/searcher"]["spec"]["entrypoint"].split()
    assert words[words.index("--data") + 1] == f"{path}/{source}"
    for template in _templates(kubernetes).values():
        claims = {v["name"]: v.get("persistentVolumeClaim") for v in template["spec"]["volumes"]}
        mounts = {m["name"]: m["mountPath"] for m in template["spec"]["containers"][0]["volumeMounts"]}
        assert claims["data"] == {"claimName": "searcher-data", "readOnly": True}
        assert mounts["data"] == path


def test_volumes_are_filled_before_the_job_and_it_is_deleted_before_it_is_applied_again(
    folder: Path, repository: Path
) -> None:
    header = _kubectl((folder / "kuberay.yaml").read_text())
    assert [words[1] for words in header] == [
        *("create", "apply", "wait", "cp", "delete", "apply", "logs"),
        *("delete", "apply"),
    ]
    applied = [words[3] for words in header if words[1] == "apply"]
    assert applied == ["docker/kuberay-volumes.yaml", "docker/kuberay.yaml", "docker/kuberay.yaml"]
    assert header[-2] == ["kubectl", "delete", "rayjob", "searcher"]
    assert _kubectl((repository / "docs" / "containers.md").read_text()) == header
