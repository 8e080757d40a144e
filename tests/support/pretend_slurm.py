"""Slurm's commands, and those that its steps run, as programs that write down what they were asked for.

All machines are this one. Each has a name, `SLURMD_NODENAME`, and a disk of its own, a folder of `TMPDIR`. Nothing of
docker/ is replaced.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

__all__ = ["MACHINES", "PretendSlurm"]

MACHINES = ("n1", "n2", "n3")
_COMMON = f"""#!{sys.executable} -SE
import json, os, signal, stat, subprocess, sys, time
from pathlib import Path
node = os.environ.get("SLURMD_NODENAME", "n1")  # the script itself is on the first machine
up = Path(os.environ["PRETEND_UP"])

def note(what, **more):
    line = json.dumps(dict(what=what, node=node, pid=os.getpid(), database=os.environ.get("SEARCHER_DB"), **more))
    with open(os.environ["PRETEND_NOTES"], "a") as notes:
        notes.write(line + "\\n")

def note_when_told(what):
    signal.signal(signal.SIGTERM, lambda *_: (note(what), sys.exit(0)))
"""
_PROGRAMS = {
    "scontrol": """
print("\\n".join(sys.argv[-1].split(",")))
""",
    "hostname": """
print("192.0.2.1 198.51.100.1")
""",
    # Grants a step the CPUs that Slurm would since 22.05, and gives a signal on to its tasks.
    "srun": """
arguments, options = sys.argv[1:], {}
while arguments[0].startswith("--"):
    name, _, options[name] = arguments.pop(0).partition("=")
cpus = options.get("--cpus-per-task") or os.environ.get("SRUN_CPUS_PER_TASK", "1")
note("step", options=options, arguments=arguments)
tasks = []
signal.signal(signal.SIGTERM, lambda *_: [task.terminate() for task in tasks])
disks = os.environ["TMPDIR"]
for name in options.get("--nodelist", os.environ["SLURM_JOB_NODELIST"]).split(","):
    there = [argument.replace(disks, f"{disks}/{name}") for argument in arguments]
    tasks.append(subprocess.Popen(there, env={**os.environ, "SLURMD_NODENAME": name, "PRETEND_CPUS": cpus}))
sys.exit(max([abs(task.wait()) for task in tasks]))
""",
    # A head, or a worker, which on the last machine takes its time.
    "ray": """
options = dict(option.partition("=")[::2] for option in sys.argv[2:])
role = "head" if "--head" in options else "worker"
scratch = stat.S_IMODE(os.stat(options["--temp-dir"]).st_mode)
token = Path(os.environ["RAY_AUTH_TOKEN_PATH"])
about = dict(cpus=os.environ["PRETEND_CPUS"], scratch=scratch, mode=os.environ["RAY_AUTH_MODE"])
note(role, options=options, arguments=sys.argv, token=token.read_text(), **about)
if os.environ.get("PRETEND_BROKEN") == role:
    sys.exit(1)
if node == "n3":
    time.sleep(1)
note_when_told(f"{role} stopped")
(up / f"{node}:{options['--dashboard-agent-listen-port']}").touch()
signal.pause()
""",
    # `python -c CODE URL`: what `entrypoint.sh health` asks.
    "python": """
sys.exit(not (up / f"{node}:{sys.argv[-1].split(':')[2].split('/')[0]}").exists())
""",
    "searcher": """
if "PRETEND_LONG" in os.environ:
    note_when_told("launch stopped")
note("launch", arguments=sys.argv, up=sorted(path.name.split(":")[0] for path in up.iterdir()))
if "PRETEND_LONG" in os.environ:
    signal.pause()
sys.exit(7)
""",
}


class PretendSlurm:
    """An allocation of three machines with 8 CPUs each.

    Args:
        folder: An empty one.
        docker: The project's.
        token: The content of the token file, which is its owner's alone.
    """

    def __init__(self, folder: Path, docker: Path, *, token: str) -> None:
        self.home = folder / "home"
        self.disks = folder / "disks"
        self.token = folder / "ray_token"
        self._notes = folder / "notes"
        programs = self.home / ".venv" / "bin"
        programs.mkdir(parents=True)
        (self.home / "docker").symlink_to(docker)
        for name, code in _PROGRAMS.items():
            (programs / name).write_text(_COMMON + code)
            (programs / name).chmod(0o755)
        for machine in MACHINES:
            (self.disks / machine).mkdir(parents=True)
        (folder / "up").mkdir()
        self._notes.touch()
        self.token.write_text(token)
        self.token.chmod(0o600)
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("RAY_", "SLURM", "SRUN"))
        }
        self.environment = kept | {
            "PRETEND_NOTES": str(self._notes),
            "PRETEND_UP": str(folder / "up"),
            "RAY_AUTH_TOKEN_PATH": str(self.token),
            "SLURM_CPUS_PER_TASK": "8",
            "SLURM_JOB_ID": "4711",
            "SLURM_JOB_NODELIST": ",".join(MACHINES),
            "SLURM_JOB_NUM_NODES": str(len(MACHINES)),
            "SLURM_SUBMIT_DIR": str(self.home),
            "TMPDIR": str(self.disks),
        }

    @property
    def notes(self) -> list[dict[str, Any]]:
        """What the programs have written down so far, in its order."""
        return [json.loads(line) for line in self._notes.read_text().splitlines()]

    def noted(self, what: str) -> list[dict[str, Any]]:
        return [note for note in self.notes if note["what"] == what]
