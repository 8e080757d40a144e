"""The command line in this process: help, listings, and every kind of bad input in one line with exit code 2."""

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from searcher.cli.main import main


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch, cache_dir):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SEARCHER_DB", raising=False)


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from searcher.cli.main import main\n"
        "try: main(['--help'])\nexcept SystemExit as end: assert end.code == 0\n"
        "heavy = {'torch', 'ray', 'optuna', 'sqlalchemy', 'numpy', 'pydantic', 'rich'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for verb in (
        *(
            "studies",
            "validate",
            "data",
            "plan",
            "launch",
            "status",
            "trials",
            "best",
            "stop",
            "logs",
            "train",
        ),
        *("evaluate", "doctor", "gc", "probe"),
    ):
        assert verb in done.stdout


def test_studies_and_validate_speak_json(capsys):
    assert main(["studies", "--json"]) == 0
    assert "unet-demo" in [study["name"] for study in json.loads(capsys.readouterr().out)]
    assert main(["validate", "unet-demo", "unet-broad", "--json"]) == 0
    assert [study["name"] for study in json.loads(capsys.readouterr().out)] == ["unet-demo", "unet-broad"]


def glas_like(folder, *, annotation=True, size=(40, 30), annotation_size=(40, 30)):
    folder.mkdir()
    Image.fromarray(np.zeros((size[1], size[0], 3), np.uint8)).save(folder / "train_1.bmp")
    if annotation:
        Image.fromarray(np.zeros((annotation_size[1], annotation_size[0]), np.uint8)).save(
            folder / "train_1_anno.bmp"
        )
    return folder


DEMO = ["launch", "--study", "unet-demo"]


@pytest.mark.parametrize(
    ("arguments", "where", "rule"),
    [
        ([*DEMO, "--data", "nowhere"], "nowhere", "must exist"),
        ([*DEMO, "--data", "empty"], "empty", "must hold images with annotations"),
        ([*DEMO, "--data", "lonely"], "train_1", "annotation"),
        ([*DEMO, "--data", "mismatch"], "train_1_anno.bmp", "20"),
        ([*DEMO, "--data", "broken"], "train_1.bmp", "must"),
        (["data", "prepare", "--data", "broken"], "train_1.bmp", "must"),
        (["launch", "--study", "typo.toml"], "typo.toml: train.epoch", "did you mean epochs?"),
        (["launch", "--study", "range.toml"], "range.toml: space.optimizer.lr", "low must be below high"),
        ([*DEMO, "--set", "model.deep=3"], "--set model.deep", "unknown key"),
        ([*DEMO, "--set", "model"], "--set model", "must be KEY=VALUE"),
        ([*DEMO, "--trials", "-3"], "--trials", "must be at least 1, got -3"),
        ([*DEMO, "--epochs", "many"], "--epochs", "must be a whole number"),
        ([*DEMO, "--db", "postgresql://user@127.0.0.1:1/x"], "--db", "must be reachable"),
        ([*DEMO, "--db", "postgresql://user:hunter2@127.0.0.1:1/x"], "--db", "must not hold a password"),
        (
            [*DEMO, "--db", "postgresql://user@127.0.0.1:1/x?password=hunter2"],
            "--db",
            "must not hold a password",
        ),
        ([*DEMO, "--db", "postgresql://u:hunter2/x@h.invalid/d"], "--db", "must have one @"),
        ([*DEMO, "--db", "postgresql://u:hunter2?x@h.invalid/d"], "--db", "must have one @"),
        ([*DEMO, "--db", "postgresql://u:hunter2#x@h.invalid/d"], "--db", "must not hold a password"),
        ([*DEMO, "--db", "postgresql://[x/d"], "--db", "must be reachable"),
        ([*DEMO, "--db", "postgresql://u:hunter2@h:x/d"], "--db", "must be a path or a URL"),
        ([*DEMO, "--address", "ray://127.0.0.1:1"], "--address", "must be the head's HOST:PORT"),
        ([*DEMO, "--address", "127.0.0.1:1"], "--address", "must be a running Ray cluster"),
        ([*DEMO, "--detach"], "--detach", "must have a cluster to run on"),
        (
            [*DEMO, "--detach", "--address", "http://127.0.0.1:1"],
            "--address",
            "must be the dashboard of a running",
        ),
        ([*DEMO, "--detach", "--address", "127.0.0.1:1"], "--address", "must be a running Ray cluster"),
        (
            ["train", "--study", "unet-demo", "--storage", "typo.toml"],
            "--storage",
            "must be a folder, got the file",
        ),
        (
            ["train", "--study", "unet-narrow"],
            "studies/unet-narrow.toml: parent.study",
            "use searcher launch",
        ),
        (
            ["launch", "--study", "unet-rerank", "--trials", "4"],
            "--trials",
            "must not be given for a rerank",
        ),
        ([*DEMO, "--db", "no/such/folder.db"], "--db", "its folder must exist"),
        ([*DEMO, "--storage", "typo.toml"], "--storage", "must be a folder, got the file"),
        (["launch", "--study", "unet-dmo"], "--study unet-dmo", "did you mean unet-demo?"),
        (["status"], "searcher.db", "the database must exist"),
        (["trials", "--study", "x", "--db", "typo.toml"], "--db", "must be an SQLite database"),
        (["best", "--study", "x"], "searcher.db", "the database must exist"),
        (["train", "--study", "unet-broad", "--set", "nope=1"], "--set nope", "unknown"),
        (["evaluate", "--data", "empty"], "searcher evaluate", "must be given either files or --study"),
        (["evaluate", "a.pt", "--study", "x", "--data", "empty"], "searcher evaluate", "got both"),
        (["evaluate", "--study", "x", "--data", "empty"], "searcher.db", "the database must exist"),
        (
            ["evaluate", "nowhere", "--data", "empty"],
            "nowhere",
            "must be a bundle, a checkpoint or a trial's folder",
        ),
        (
            ["evaluate", "typo.toml", "--data", "empty", "--json", "no/file.json"],
            "--json no/file.json",
            "its folder must exist",
        ),
        (["evaluate", "typo.toml", "--data", "empty", "--json", "empty"], "--json empty", "must be a file"),
        (["evaluate", "typo.toml", "--data", "empty"], "typo.toml", "must be a whole checkpoint"),
        (["fly"], "searcher: VERB", "got 'fly'; see searcher --help"),
        (["lanch"], "searcher: VERB", "did you mean launch?"),
        (["data", "inspct", "empty"], "searcher data: ACTION", "did you mean inspect?"),
        (["launch", "--trial", "3"], "searcher launch: --trial: unknown option", "did you mean --trials?"),
        (["launch", "--stdy=x"], "searcher launch: --stdy: unknown option", "did you mean --study?"),
        (["status", "a", "b"], "searcher status", "got a b"),
    ],
)
def test_bad_input_is_one_line_with_exit_code_2_and_leaves_nothing_behind(
    tmp_path, capfd, arguments, where, rule
):
    (tmp_path / "empty").mkdir()
    glas_like(tmp_path / "lonely", annotation=False)
    glas_like(tmp_path / "mismatch", annotation_size=(20, 30))
    broken = glas_like(tmp_path / "broken")
    (broken / "train_1.bmp").write_bytes((broken / "train_1.bmp").read_bytes()[:200])
    (tmp_path / "typo.toml").write_text('[study]\nname = "t"\n[train]\nepoch = 3\n')
    (tmp_path / "range.toml").write_text(
        '[study]\nname = "t"\n[space.optimizer]\nlr = {low = 1.0, high = 0.1}\n'
    )
    before = sorted(path.name for path in tmp_path.rglob("*"))
    try:
        code = main(arguments)
    except SystemExit as end:
        code = end.code
    output = capfd.readouterr()
    assert code == 2
    assert where in output.err
    assert rule in output.err
    assert output.err.count("\n") == 1
    assert "Traceback" not in output.err
    assert "hunter2" not in output.err + output.out
    assert sorted(path.name for path in tmp_path.rglob("*")) == before


def test_a_study_that_is_not_in_the_database(tmp_path, capfd):
    from searcher.ledger.database import Database

    Database.open("searcher.db", create=True).close()
    for verb in ("trials", "best", "status"):
        assert main([verb, "--study", "unet-dem"]) == 2
        assert "--study unet-dem: must be a study of" in capfd.readouterr().err
    assert main(["status", "--json"]) == 0
    assert json.loads(capfd.readouterr().out) == []


def test_inspect_names_what_is_wrong_with_which_file_and_goes_on(tmp_path, capfd):
    folder = glas_like(tmp_path / "glas")
    Image.fromarray(np.zeros((30, 40, 3), np.uint8)).save(folder / "train_2.bmp")
    assert main(["data", "inspect", "--data", "glas", "--json"]) == 2
    report = json.loads(capfd.readouterr().out)
    assert report["num_images"] == 1
    assert "train_2" in report["problems"][0]
    assert main(["data", "inspect", "--data", "glas"]) == 2
    assert "problem: " in capfd.readouterr().out


def test_train_runs_one_trial_without_cluster_and_database(tmp_path, capsys):
    settings = [
        "data.synthetic_images=12", "data.synthetic_size_px=64", "augment.crop_px=64", "model.base_channels=2",
        "model.depth=2", "optimizer.lr=0.01", "optimizer.name=adamw", "data.samples_per_epoch=16",
    ]  # fmt: skip
    options = [part for setting in settings for part in ("--set", setting)]
    assert main(["train", "--study", "unet-demo", "--epochs", "2", *options, "--storage", "a"]) == 0
    assert "epoch 2/2" in capsys.readouterr().out
    [run] = (tmp_path / "a" / "unet-demo").iterdir()
    assert {"last.pt", "best.pt", "config.json", "metrics.jsonl"} <= {path.name for path in run.iterdir()}

    assert main(["train", "--study", "unet-demo", "--epochs", "2", *options, "--storage", "b", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["stop_reason"] == "epochs"
    history = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [epoch["loss"] for epoch in report["epochs"].values()] == [line["loss"] for line in history], (
        "same seed"
    )
    assert not list(tmp_path.rglob("*.db"))


def test_train_refuses_a_warm_start(tmp_path, capfd):
    (tmp_path / "warm.toml").write_text(f'[study]\nname = "w"\n[warm_start]\nsha256 = "{"0" * 64}"\n')
    assert main(["train", "--study", "warm.toml"]) == 2
    [line] = capfd.readouterr().err.strip().splitlines()
    assert "warm.toml: warm_start.sha256: must not be set for a single trial" in line


def test_train_names_a_parameter_that_is_left_open(tmp_path, capfd):
    (tmp_path / "open.toml").write_text(
        '[study]\nname = "o"\n[space.optimizer]\nlr = { low = 0.1, high = 1.0 }\n'
    )
    assert main(["train", "--study", "open.toml"]) == 2
    assert "must leave no searched parameter open" in capfd.readouterr().err


def test_an_address_longer_than_a_path_may_be_is_one_line(capsys, monkeypatch, tmp_path):
    """The last net looks at it too, for secrets."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEARCHER_DB", "x" * 300)
    assert main(["status"]) == 2
    assert "must be a path that can be read: File name too long" in capsys.readouterr().err


def test_no_verb_shows_the_help(capfd):
    with pytest.raises(SystemExit) as end:
        main([])
    assert end.value.code == 0
    assert capfd.readouterr().out.startswith("usage: searcher ")
