"""Fault injection at random times, on one machine and on a SLURM of one node; a release is whole and equal, or absent.

make soak                                             # as root on Debian; about a quarter of an hour on 2 cores
python tests/soak/soak.py --kills 30 --seed 1

A clean run gives the bytes to compare with. Then the same cohort runs again and again, until there were enough kills
(of a stage, a job, the controller or slurmctld); beside them the controller is interrupted, the node drained, the disk
full, a table damaged (one that a stage made, at least every second time). Jobs that outlive their controller are
cancelled before the next start, or left, and then the start must refuse to work beside them. After each, a release is
either absent or complete; at the end of every round it must equal the clean run's, byte for byte. Exit code 1 with the
seed and the log where it does not.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import BinaryIO

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "tests"))
from small_cohort import contents, write_cohort  # noqa: E402

CLUSTER = REPOSITORY / "tests" / "slurm" / "cluster.sh"
SLURM = [
    *("--workflow-profile", REPOSITORY / "workflow" / "profiles" / "slurm", "--max-threads", "2"),
    *("--slurm-no-account", "--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "1"),
    *("--latency-wait", "5"),
]
LOCAL = ["--cores", "2"]
DISK = "512m"
ROUND_STARTS = 60  # a round that needs more is stuck
REFUSAL = b"SLURM jobs of another start work in this folder"


class Soak:
    """One results folder on a small disk of its own, and a run that is started, hit by faults and started again."""

    def __init__(self, folder: Path, seed: int, slurm: bool, log: BinaryIO):
        self.rng, self.slurm, self.log = random.Random(seed), slurm, log
        self.settings = write_cohort(folder / "given", patients=6, shards=3)
        self.work = folder / "work"
        self.work.mkdir()
        run("mount", "-t", "tmpfs", "-o", f"size={DISK}", "deidlib-soak", self.work)
        self.process: subprocess.Popen | None = None
        self.kills, self.others = collections.Counter(), collections.Counter()
        self.clean: dict[str, bytes] = {}

    def start(self, where: list) -> None:
        """Start Snakemake in a session of its own, so that it can be killed with all that it started."""
        command = [sys.executable, "-m", "snakemake", "--snakefile", REPOSITORY / "Snakefile", *where]
        self.process = subprocess.Popen(
            [*map(str, command), "--configfile", str(self.settings)],
            cwd=self.work,
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
            start_new_session=True,
        )

    def release(self) -> dict[str, bytes]:
        """Everything of the release and its report."""
        return {
            f"{part}/{name}": content
            for part in ("release", "report")
            if (self.work / "results" / part / "1.0.0").is_dir()
            for name, content in contents(self.work / "results" / part / "1.0.0").items()
        }

    def check(self) -> None:
        """A release that is there is the whole one."""
        there = {name: content for name, content in self.release().items() if name.startswith("release/")}
        wanted = {name: content for name, content in self.clean.items() if name.startswith("release/")}
        if there and there != wanted:
            raise SystemExit(f"a release that is not whole: {sorted(set(wanted) ^ set(there))}")

    def round(self, kills: int) -> None:
        """From nothing to a release, through as many faults as come in time."""
        clear(self.work)
        for _ in range(ROUND_STARTS):
            on_cluster = self.slurm and self.rng.random() < 0.6
            self.start(SLURM if on_cluster else LOCAL)
            while self.process.poll() is None:
                self.let_work(self.rng.uniform(2, 12), self.rng.randrange(4))
                if self.process.poll() is None and self.kills.total() < kills:
                    self.strike(on_cluster)
            self.check()
            ended = self.process.returncode
            self.settle()
            if ended == 0:
                break
            if self.kills.total() < kills and self.rng.random() < 0.5:
                self.damage()
        else:
            raise SystemExit("a round did not come to an end; runs.log says what happened")
        if self.release() != self.clean:
            changed = [name for name in self.clean if self.release().get(name) != self.clean[name]]
            raise SystemExit(f"the release differs from the clean run's: {changed}")
        say(f"round done: {len(self.clean)} files equal the clean run's; {self.tally()}")

    def let_work(self, seconds: float, stages: int) -> None:
        """Wait until this time and number of stages have passed, so that faults hit later stages, too."""
        begun, before = time.monotonic(), self.benchmarks()
        while self.process.poll() is None:
            waited = time.monotonic() - begun
            if waited > 15 * seconds or (waited > seconds and len(self.benchmarks() - before) >= stages):
                return
            time.sleep(0.2)

    def benchmarks(self) -> set[tuple[str, int]]:
        """Benchmarks of the stages that ended, with their times; a stage that ran again counts again."""
        found = set()
        for root, _, names in os.walk(self.work / "results" / "logs" / "benchmarks"):
            for file in (os.path.join(root, name) for name in names):
                with contextlib.suppress(FileNotFoundError):
                    found.add((file, os.stat(file).st_mtime_ns))
        return found

    def tally(self) -> str:
        """Faults injected so far, in words."""
        kills, others = (", ".join(f"{n} {name}" for name, n in found.items()) for found in (self.kills, self.others))
        return f"{self.kills.total()} kills ({kills}), {self.others.total()} other faults ({others})"

    def strike(self, on_cluster: bool) -> None:
        """Inject one random fault into what is running, two of three times a kill."""
        kills, others = [self.kill_stage, self.kill_stage, self.kill_controller], [self.stop_controller, self.fill_disk]
        if on_cluster:
            kills += [self.cancel_job, self.kill_slurmctld]
            others += [self.drain_node]
        faults, counted = self.rng.choice([(kills, self.kills), (kills, self.kills), (others, self.others)])
        fault = self.rng.choice(faults)
        if fault():
            counted[fault.__name__] += 1
            say(f"{self.kills.total():3} {fault.__name__} ({'slurm' if on_cluster else 'local'})")

    def kill_stage(self) -> bool:
        stages = [pid for pid in processes(self.work) if is_stage(pid)]
        return bool(stages) and kill(self.rng.choice(stages))

    def kill_controller(self) -> bool:
        """As when the login node goes down: the controller, and on one machine all its stages."""
        os.killpg(self.process.pid, signal.SIGKILL)
        return True

    def stop_controller(self) -> bool:
        """As Ctrl-C does."""
        os.kill(self.process.pid, signal.SIGINT)
        return True

    def fill_disk(self) -> bool:
        ballast = self.work / "ballast"
        subprocess.run(["dd", "if=/dev/zero", f"of={ballast}", "bs=1M"], stderr=subprocess.DEVNULL, check=False)
        time.sleep(self.rng.uniform(2, 6))
        ballast.unlink()
        return True

    def cancel_job(self) -> bool:
        jobs = run("squeue", "--noheader", "--format=%i", "--states=RUNNING").split()
        return bool(jobs) and run("scancel", self.rng.choice(jobs)) is not None

    def kill_slurmctld(self) -> bool:
        run(CLUSTER, "restart-controller")
        return True

    def drain_node(self) -> bool:
        node = run("sinfo", "--noheader", "--format=%n").split()[0]
        run("scontrol", "update", f"NodeName={node}", "State=DRAIN", "Reason=soak")
        time.sleep(self.rng.uniform(2, 6))
        run("scontrol", "update", f"NodeName={node}", "State=RESUME")
        return True

    def damage(self) -> None:
        """Flip one bit of a table, as a bad disk does: of a stage's, or (never more often) of the plan's."""
        shards = self.work / "results" / "private" / "shards"
        tables = sorted(file for file in shards.rglob("*.parquet") if file.stat().st_size)
        made = [file for file in tables if file.name != "cohort.parquet"]
        planned_so_far, made_so_far = self.others["damage_plan"], self.others["damage_table"]
        if not made and planned_so_far >= made_so_far:
            return
        file = self.rng.choice(tables if planned_so_far < made_so_far else made)
        content = bytearray(file.read_bytes())
        content[self.rng.randrange(4, len(content))] ^= 1 << self.rng.randrange(8)
        file.write_bytes(content)
        self.others["damage_table" if file in made else "damage_plan"] += 1
        say(f"{self.kills.total():3} damage ({file.relative_to(shards)})")

    def settle(self) -> None:
        """Prepare a start as docs/cluster.md says: none of the last run's jobs is left."""
        if self.slurm:
            if self.rng.random() < 0.5:
                self.start_beside_leftovers()
            subprocess.run(["scancel", "--user=root"], check=False)
            while run("squeue", "--noheader"):
                time.sleep(0.3)
        while left := [pid for pid in processes(self.work) if is_stage(pid)]:
            kill(left[0])
            time.sleep(0.1)

    def start_beside_leftovers(self) -> None:
        """Jobs that outlived their controller are in the way of a start, which says so and changes nothing."""
        left = queued()
        if not left:
            return
        told, until = Path(self.log.name).stat().st_size, time.monotonic() + 120
        self.start(SLURM)
        while self.process.poll() is None and left & queued() and time.monotonic() < until:
            time.sleep(0.2)
        still_there = left & queued()
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        with open(self.log.name, "rb") as log:
            log.seek(told)
            refused = REFUSAL in log.read()
        if still_there and not refused:
            raise SystemExit("a start beside jobs of the last one was not refused; runs.log says what it did")
        self.others["refused_start"] += refused
        say(f"{self.kills.total():3} start beside jobs of the last one: {'refused' if refused else 'they had ended'}")


def queued() -> set[str]:
    """Jobs that run or wait."""
    return set(run("squeue", "--noheader", "--format=%i", "--states=PENDING,RUNNING").split())


def processes(folder: Path) -> list[int]:
    """Processes that work in a folder."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and Path(os.readlink(entry / "cwd")) == folder:
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def words(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return []


def is_stage(pid: int) -> bool:
    """A `deidlib STAGE` process: the interpreter, then the command's own file."""
    return any(Path(os.fsdecode(word)).name == "deidlib" for word in words(pid)[:2])


def kill(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def run(*command) -> str:
    return subprocess.run([*map(str, command)], check=True, capture_output=True, text=True).stdout.strip()


def clear(folder: Path) -> None:
    for entry in folder.iterdir():
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def main() -> None:
    """Inject faults until there were enough kills and the last round has ended."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--folder", type=Path, default=Path("/tmp/deidlib-soak"))
    given = parser.parse_args()
    if os.geteuid():
        raise SystemExit("the soak needs root: it mounts a small disk and starts a SLURM of its own")
    slurm = subprocess.run([CLUSTER, "start"], check=False).returncode == 0
    shutil.rmtree(given.folder, ignore_errors=True)
    given.folder.mkdir(parents=True)
    say(f"seed {given.seed}, {'local and slurm' if slurm else 'local only'}")
    with open(given.folder / "runs.log", "ab") as log:
        strike(Soak(given.folder, given.seed, slurm, log), given.kills)


def strike(soak: Soak, kills: int) -> None:
    """A clean run, then rounds until there were enough kills."""
    try:
        soak.start(LOCAL)
        if soak.process.wait():
            raise SystemExit("the clean run failed; runs.log says why")
        soak.clean = soak.release()
        say(f"clean run: {len(soak.clean)} files")
        begun = time.monotonic()
        while soak.kills.total() < kills:
            soak.round(kills)
        minutes = (time.monotonic() - begun) / 60
        say(f"{soak.tally()}; every round ended with the clean run's {len(soak.clean)} files, in {minutes:.0f} minutes")
    finally:
        if soak.process and soak.process.poll() is None:
            os.killpg(soak.process.pid, signal.SIGKILL)
        soak.settle()
        run("umount", "--lazy", soak.work)
        if soak.slurm:
            subprocess.run([CLUSTER, "stop"], check=False)


if __name__ == "__main__":
    main()
