"""`searcher logs`: of launches and trials, finished ones and those that another process writes."""

import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from searcher.cli.main import main
from searcher.ledger.lease import Lease


def write_launch_log(study, text: str) -> None:
    path = study.root / "s" / "launch.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())


def test_a_launchs_log_and_its_last_lines(stored_study, capsys):
    write_launch_log(stored_study, "one\ntwo\nthree")
    assert main(["logs", "--study", "s"]) == 0
    assert capsys.readouterr().out == "one\ntwo\nthree\n"
    assert main(["logs", "--study", "s", "--lines", "2"]) == 0
    assert capsys.readouterr().out == "two\nthree\n"


def test_control_characters_of_a_log_are_shown_not_obeyed(stored_study, capsys):
    write_launch_log(stored_study, "\x1b[2Jgone?\n")
    main(["logs", "--study", "s"])
    assert capsys.readouterr().out == "\\x1b[2Jgone?\n"


def test_a_trials_log(stored_study, capsys):
    number = stored_study.complete()
    assert main(["logs", "--study", "s", "--trial", str(number)]) == 0
    assert capsys.readouterr().out == "trial.log\n"


def test_a_trial_that_was_tried_again_ends_with_the_retrys_number(stored_study, capsys):
    number = stored_study.begin()
    stored_study.ledger.fail(number, "its worker was lost", retry=True)
    main(["logs", "--study", "s", "--trial", str(number)])
    assert capsys.readouterr().out.splitlines() == [
        "trial.log",
        "trial 0 FAIL (its worker was lost); tried again as trial 1: searcher logs --study s --trial 1",
    ]


@pytest.mark.parametrize("follow", [[], ["--follow"]])
def test_a_log_that_is_not_there_is_one_line_that_says_why(stored_study, capfd, follow):
    running, failed = stored_study.begin(), stored_study.begin()
    stored_study.ledger.fail(failed, "equal parameters", retry=True)
    for number in (running, failed):
        (stored_study.folder(number) / "trial.log").unlink()
    for arguments, why in (
        ([], "it never began"),
        (["--trial", "0"], "it is RUNNING, and its worker has not begun to write"),
        (["--trial", "1"], "it is FAIL, equal parameters: no worker began it, or the folder was moved"),
        (["--trial", "2"], "it is WAITING, no worker has begun it"),
        (["--trial", "3"], "--trial 3: must be a trial of s"),
    ):
        assert main(["logs", "--study", "s", *arguments, *follow]) == 2
        error = capfd.readouterr().err
        assert why in error
        assert error.count("\n") == 1


@pytest.mark.parametrize("number", ["-1", "one", "²"])
def test_a_trials_number_must_be_one(stored_study, capfd, number):
    with pytest.raises(SystemExit) as end:
        main(["logs", "--study", "s", "--trial", number])
    assert end.value.code == 2
    assert capfd.readouterr().err.count("\n") == 1


def test_a_log_that_is_a_link_out_of_the_storage_root_is_refused(stored_study, tmp_path, capfd):
    (tmp_path / "secret").write_text("secret\n")
    number = stored_study.complete()
    (stored_study.folder(number) / "trial.log").unlink()
    (stored_study.folder(number) / "trial.log").symlink_to(tmp_path / "secret")
    assert main(["logs", "--study", "s", "--trial", "0"]) == 2
    output = capfd.readouterr()
    assert "every file must lie below it" in output.err
    assert output.out == ""
    assert main(["logs", "--study", "../s"]) == 2


# ---- following, in a process of its own ----


@pytest.fixture
def follow(stored_study, monkeypatch) -> Iterator[Callable[..., subprocess.Popen]]:
    followers = []

    def follow(*arguments: str) -> subprocess.Popen:
        command = [sys.executable, "-m", "searcher.cli.main", "logs", "--study", "s", "--follow", *arguments]
        # A shell in the background ignores SIGINT, and so would what is started from there.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        follower = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        signal.signal(signal.SIGINT, before)
        followers.append(follower)
        return follower

    yield follow
    for follower in followers:
        follower.kill()
        follower.wait()
        follower.stdout.close()
        follower.stderr.close()


def append(path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def test_a_trial_is_followed_from_before_its_first_line_to_its_end(stored_study, follow):
    with Lease.acquire(stored_study.database, "s") as lease:
        number = stored_study.begin()
        log = stored_study.folder(number) / "trial.log"
        log.unlink()
        follower = follow("--trial", "0")
        append(log, "epoch 1\n")
        assert follower.stdout.readline() == "epoch 1\n"
        append(log, "epoch 2 of")
        stored_study.ledger.fail(number, "its worker was lost", retry=True)
        output, errors = follower.communicate(timeout=60)
        lease.ends_as("interrupted")
    assert (follower.returncode, errors) == (0, "")
    assert output.splitlines() == [
        "epoch 2 of",
        "trial 0 FAIL (its worker was lost); tried again as trial 1: searcher logs --study s --trial 1",
    ]


def test_a_launch_is_followed_to_its_end_with_its_last_line(stored_study, follow):
    write_launch_log(stored_study, "launched\n")
    with Lease.acquire(stored_study.database, "s") as lease:
        follower = follow()
        assert follower.stdout.readline() == "launched\n"
        append(stored_study.root / "s" / "launch.log", "finished\n")
        lease.ends_as("finished")
    output, _ = follower.communicate(timeout=60)
    assert (follower.returncode, output) == (0, "finished\n")


def test_a_trial_whose_driver_is_gone_is_not_followed_for_ever(stored_study, follow):
    stored_study.begin()
    output, _ = follow("--trial", "0").communicate(timeout=60)
    assert output.splitlines() == [
        "trial.log",
        "trial 0 RUNNING; its driver is gone: launch again to go on, or fix it with searcher doctor --fix",
    ]


def test_ctrl_c_ends_the_following_with_130(stored_study, follow):
    with Lease.acquire(stored_study.database, "s"):
        stored_study.begin()
        follower = follow("--trial", "0")
        assert follower.stdout.readline() == "trial.log\n"
        follower.send_signal(signal.SIGINT)
        output, errors = follower.communicate(timeout=60)
    assert (follower.returncode, output, errors) == (130, "", "interrupted\n")


def test_a_reader_that_has_seen_enough_ends_it_without_a_word(stored_study, follow):
    with Lease.acquire(stored_study.database, "s"):
        number = stored_study.begin()
        follower = follow("--trial", "0")
        assert follower.stdout.readline() == "trial.log\n"
        follower.stdout.close()
        writing = threading.Event()

        def write() -> None:
            while not writing.wait(0.05):
                append(stored_study.folder(number) / "trial.log", "more\n")

        writer = threading.Thread(target=write)
        writer.start()
        try:
            assert follower.wait(60) == 0
        finally:
            writing.set()
            writer.join()
        assert follower.stderr.read() == ""
