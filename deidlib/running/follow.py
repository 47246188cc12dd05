"""Runs Snakemake as a process of its own, and shows its progress in one bar.

Snakemake's output goes into a log file. The progress comes from the results folder (:mod:`deidlib.running.status`), so
it is the same as that of ``deidlib status``.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from deidlib import distribution
from deidlib.errors import DeidlibError
from deidlib.logs import say
from deidlib.running.pace import Pace, duration, pace
from deidlib.running.page import at_work
from deidlib.running.status import Reader, Status

#: Seconds between two looks at a bar; between two plain lines.
_BAR_INTERVAL, _LINE_INTERVAL = 2.0, 60.0
#: A look at the results takes at most this share of the time.
_LOOKING = 0.05
#: Seconds that the workflow has to end after Ctrl-C.
_PATIENCE = 60.0
_FAILED = re.compile(r"^Error in (?:rule|group job|group) ([\w-]+)", re.MULTILINE)
_BEGAN = re.compile(r"^Execute \d+ jobs", re.MULTILINE)
_REFUSED = re.compile(r"^WorkflowError[^\n]*:\n(.*?)(?=^  File |^\S*Error|\Z)", re.MULTILINE | re.DOTALL)


def command(profile: str, cores: int | None, configfiles: Sequence[Path]) -> list[str]:
    """Snakemake's command line.

    Parameters
    ----------
    profile : str
        ``default``, ``slurm`` or a folder with a profile.
    cores : int or None
        Cores to use; None leaves it to the profile.
    configfiles : sequence of Path
        Settings; a later file wins.
    """
    shipped = distribution.folder() / "workflow" / "profiles" / profile
    line = [sys.executable, "-m", "snakemake", "--snakefile", str(distribution.snakefile())]
    line += ["--workflow-profile", str(shipped if shipped.is_dir() else Path(profile))]
    line += ["--cores", str(cores)] if cores else []
    return [*line, "--configfile", *map(str, configfiles)]


def run(line: Sequence[str], results: Path, log: Path, key_file: Path) -> tuple[int, bool, str]:
    """Run the workflow to its end and show how far it is.

    Parameters
    ----------
    line : sequence of str
        From :func:`command`.
    results : Path
        Results folder.
    log : Path
        File to which everything is appended that Snakemake says; readable for its owner alone.
    key_file : Path
        The key file, which the jobs get by the environment.

    Returns
    -------
    code : int
        Snakemake's exit code.
    stopped : bool
        Whether Ctrl-C (or SIGTERM) ended it.
    said : str
        What Snakemake said.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {"DEIDLIB_KEY_FILE": str(key_file)}
    with open(log, "ab") as file:
        log.chmod(0o600)
        start = file.tell()
        process = subprocess.Popen(
            line,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    with _terminated_as_interrupted():
        try:
            with _shown() as show:
                _follow(process, results, _Log(log, start), show)
            stopped = False
        except KeyboardInterrupt:
            stopped = True
            _end(process)
    with open(log, "rb") as file:
        file.seek(start)
        said = file.read().decode(errors="replace")
    return process.returncode, stopped, said


def refusal(said: str) -> str | None:
    """Snakemake's reason for refusing to begin, without the text around it; None where it began."""
    found = None if _BEGAN.search(said) else _REFUSED.search(said)
    return found[1].strip() if found else None


class _Log:
    """New lines of a log: the stages of which a job failed, each once."""

    def __init__(self, path: Path, start: int):
        self._path, self._at, self._reported = path, start, set()

    def failed(self) -> list[str]:
        with open(self._path, "rb") as file:
            file.seek(self._at)
            text = file.read()
        whole = text.rfind(b"\n") + 1
        self._at += whole
        found = dict.fromkeys(_FAILED.findall(text[:whole].decode(errors="replace")))
        new = [rule for rule in found if rule not in self._reported]
        self._reported.update(new)
        return new


def _follow(process: subprocess.Popen, results: Path, log: _Log, show: Callable) -> None:
    reader, wait = Reader(results), 0.5
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(wait)
        begun = time.monotonic()
        for rule in log.failed():
            if rule != "release":  # a release that the gate forbids; the last lines say it
                show.warn(f"a job of the stage {rule} failed; what does not depend on it goes on, and the log says why")
        try:
            status = reader.status()
        except (OSError, ValueError, DeidlibError):  # not planned yet, or the plan is being made again
            status = None
        if process.returncode is not None:
            return
        show(status, pace(status, time.time()) if status else None)
        wait = max(_BAR_INTERVAL, (time.monotonic() - begun) / _LOOKING)


def _end(process: subprocess.Popen) -> None:
    """Let Snakemake stop its jobs, as Ctrl-C at its own terminal would; a second Ctrl-C does not wait."""
    say("stopping; jobs that are under way are ended (Ctrl-C again: at once)")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired, KeyboardInterrupt):
            process.wait(_PATIENCE)
            return


@contextlib.contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """Treat SIGTERM as Ctrl-C, so that no workflow stays behind; only where this is the main thread."""
    try:
        before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    except ValueError:
        before = None
    try:
        yield
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _shown() -> Iterator:
    if not sys.stderr.isatty():
        yield _Lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

    texts = TextColumn("{task.description}"), TextColumn("{task.fields[done]}")
    columns = (SpinnerColumn(), texts[0], BarColumn(bar_width=None), texts[1])
    with Progress(*columns, console=Console(stderr=True), transient=True, expand=True) as bar:
        yield _Bar(bar)


class _Bar:
    def __init__(self, bar):
        self._bar, self._task = bar, bar.add_task("getting ready", total=1.0, done="")

    def __call__(self, status: Status | None, found: Pace | None) -> None:
        if status is not None:
            name, through, photos = status.now()
            name += f" ({through:,}/{photos:,})" if through is not None else ""
            done = f"{status.decided:,}/{status.photos:,} photographs"
            done += f", {duration(found.left)} left" if found.left is not None else ""
            self._bar.update(self._task, completed=found.share, description=name, done=done)

    def warn(self, text: str) -> None:
        self._bar.console.print(text, highlight=False, markup=False)


class _Lines:
    def __init__(self):
        self._last = -_LINE_INTERVAL

    def __call__(self, status: Status | None, found: Pace | None) -> None:
        if time.monotonic() - self._last < _LINE_INTERVAL or status is None:
            return
        self._last = time.monotonic()
        left = f"; about {duration(found.left)} left" if found.left is not None else ""
        say(f"{at_work(status)}; {status.decided:,} of {status.photos:,} photographs done{left}")

    def warn(self, text: str) -> None:
        say(text)
