"""What keeps a launch from its cluster is said in one line: a proxy, certificates or a token that are not there."""

import os
import signal
import tempfile
import time
from pathlib import Path

import pytest
import ray
from tiny_study import TINY

from searcher.cli.interrupts import signals_interrupt
from searcher.exceptions import UserError
from searcher.orchestration.cluster.ray_cluster import check_reachable, ray_cluster


def test_a_clusters_head_is_not_looked_for_behind_the_machines_proxy(ray_nodes, monkeypatch):
    for name in ("no_proxy", "no_grpc_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    check_reachable(ray_nodes.address)


def test_a_sigterm_between_rays_start_and_the_first_trial_ends_a_launch_as_ctrl_c_does(ray_nodes, capfd):
    """Ray's own handler would write a stack trace and end the process where it stands."""

    def prepare() -> None:
        with signals_interrupt(), ray_cluster(ray_nodes.address):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(10)

    with pytest.raises(KeyboardInterrupt):
        prepare()
    assert "SIGTERM" not in capfd.readouterr().err


@pytest.mark.parametrize("joins", [False, True])
def test_ray_begins_with_what_trials_need_and_without_the_drivers_secrets(ray_nodes, monkeypatch, joins):
    """Its raylet's environment is every worker's. With a real one it is in the chaos suite."""
    secrets = dict.fromkeys(
        ("MLFLOW_TRACKING_PASSWORD", "PGPASSWORD", "SEARCHER_DASHBOARD_TOKEN", "SOME_API_KEY"), "s3cret-pw"
    )
    for name, value in {**secrets, "NCCL_DEBUG": "INFO"}.items():
        monkeypatch.setenv(name, value)
    begun_with: dict[str, str] = {}
    monkeypatch.setattr(ray, "init", lambda **_: begun_with.update(os.environ))
    with ray_cluster(ray_nodes.address if joins else None):
        assert secrets.items() <= os.environ.items(), "the driver keeps them"
    assert begun_with["NCCL_DEBUG"] == "INFO"
    assert not secrets.keys() & begun_with.keys()


def test_a_cluster_that_does_not_come_up_is_tried_once_more_and_leaves_no_folder(monkeypatch, tmp_path):
    """What Ray raises is a plain Exception; the second try has a folder of its own."""
    monkeypatch.setattr(tempfile, "tempdir", "/tmp")
    folders: list[Path] = []

    def init(*, _temp_dir: str, **_: object) -> None:
        folders.append(Path(_temp_dir))
        (folders[-1] / "session_2026" / "logs").mkdir(parents=True)
        (folders[-1] / "session_2026" / "logs" / "gcs_server.err").write_text(
            "[2026-11-28 03:59:05 C 1] (raylet) x.cc:3: Check failed: Timed out waiting for the agent\n"
            "*** StackTrace Information ***\nraylet(+0xff770a) [0x555a7c0ba70a]\n"
        )
        if len(folders) < num_tries:
            raise Exception("The current node timed out during startup.")

    monkeypatch.setattr(ray, "init", init)
    num_tries = 2
    with ray_cluster():
        assert [folder.exists() for folder in folders] == [False, True]
    folders.clear()
    num_tries = 3
    with pytest.raises(UserError) as error, ray_cluster():
        pass
    assert str(error.value) == (
        "a cluster on this machine: must come up, got twice: The current node timed out during startup. "
        "(gcs_server.err: Timed out waiting for the agent); look for free memory, room in /tmp and in /dev/shm, and "
        "free ports, then launch again"
    )
    assert not any(folder.parent.exists() for folder in folders)


def test_tls_without_its_certificates(monkeypatch):
    monkeypatch.setenv("RAY_USE_TLS", "1")
    for name in ("RAY_TLS_SERVER_CERT", "RAY_TLS_SERVER_KEY", "RAY_TLS_CA_CERT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(
        UserError, match=r"--address 127\.0\.0\.1:1: must have .* RAY_TLS_SERVER_CERT, "
    ) as error:
        check_reachable("127.0.0.1:1")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("variables", "options", "said"),
    [
        (
            {"HOME": "file"},
            [],
            "a cluster on this machine: must be able to find or write Ray's token, and to write its files, got ",
        ),
        (
            {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": "none"},
            ["--address", "127.0.0.1:1"],
            "--address 127.0.0.1:1: must have the token and the certificates that Ray's variables name, got ",
        ),
    ],
)
def test_a_token_that_cannot_be_had(tmp_path_factory, tmp_path, cache_dir, forks, variables, options, said):
    (tmp_path / "tiny.toml").write_text(TINY)
    (tmp_path / "file").touch()
    log = tmp_path_factory.mktemp("said") / "log"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}
    environment |= {name: value.replace("file", str(tmp_path / "file")) for name, value in variables.items()}
    with log.open("wb") as output:
        words = ["launch", "--study", "tiny.toml", *options]
        process = forks.searcher(words, cwd=tmp_path, environment=environment, output=output.fileno())
    found, line = process.wait(200), log.read_text()
    assert (found, line.count("\n")) == (2, 1), line
    assert line.startswith(said)
    assert "RAY_AUTH_TOKEN_PATH" in line
    assert ("HOME" in line) == ("HOME" in variables)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "tiny.toml"], "nothing is left behind"
