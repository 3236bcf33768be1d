"""
Run every suite and every quality gate, and say in the last line what came of it.

The suites that do not mind company share the cores with the static gates.  After them comes the
kernel suite, a module at a time, with the machine for itself: what it sees is what NATs and
programs do in real time.  A gate that fails counts as one failed test; a gate that passes counts as
nothing, so that the numbers are those of trial.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from coverage import CoverageData
from coverage.exceptions import CoverageException

ROOT = Path(__file__).resolve().parents[1]
# Run as a program, this directory would be first on the path; tests and scripts are found from
# the top of the checkout, before any package called "tests" that is installed.
sys.path[:0] = [str(ROOT)]

from scripts.trialsuite import Tally  # noqa: E402

BUILD = ROOT / "build" / "test"
COVERAGE_DATA = BUILD / "coverage"
# Suites of real programs on this machine.
ON_LOOPBACK = ("tests.contract", "tests.interop")
TRIAL_SUITE = ROOT / "scripts" / "trialsuite.py"

JOB_LIMIT = 840.0  # seconds; the whole run promises less than 900

PACKAGE_COVERAGE = 95  # per cent of lines and branches
CORE_COVERAGE = 100


@dataclass(frozen=True, slots=True)
class Job:
    """
    One program to run, which fails by its exit status.

    @ivar result: the file in which it leaves its tally, or C{None} when it is a gate.
    """

    name: str
    command: Sequence[str | Path]
    result: Path | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """
    What came of a job.

    @ivar output: all that it printed.
    @ivar seconds: how long it took.
    """

    job: Job
    tally: Tally
    output: str
    seconds: float


def python(*arguments: str | Path) -> tuple[str | Path, ...]:
    """
    @return: the command that runs this Python with C{arguments}.
    """
    return (sys.executable, *arguments)


def onLoopback(command: tuple[str | Path, ...]) -> tuple[str | Path, ...]:
    """
    @return: C{command} where there is no network but loopback, so that no test can reach any
        other; as it is for who may not make a network namespace.
    """
    if os.geteuid() or not (shutil.which("unshare") and shutil.which("ip")):
        return command
    return ("unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh", *command)


def suite(name: str) -> Job:
    """
    @return: the job that runs one suite under coverage, its sub-processes included.
    """
    result = BUILD / f"{name}.json"
    arguments = (TRIAL_SUITE, result, BUILD / f"{name}.trial", name)
    command = python("-m", "coverage", "run", *arguments)
    return Job(name, onLoopback(command) if name in ON_LOOPBACK else command, result)


def suiteByModule(name: str, longest: Sequence[str]) -> list[Job]:
    """
    @param longest: the modules that take longest, which start first.
    @return: jobs that together run one suite, a module each, so that it uses all cores.
    """
    folder = ROOT.joinpath(*name.split("."))
    modules = sorted(
        (path.stem for path in folder.glob("test_*.py")),
        key=lambda module: (module not in longest, module),
    )
    return [suite(f"{name}.{module}") for module in modules]


STATIC_GATES = (
    Job("mypy", python("-m", "mypy")),
    Job("pydoctor", python("-m", "pydoctor")),
    Job("ruff check", python("-m", "ruff", "check")),
    Job("ruff format", python("-m", "ruff", "format", "--check")),
)

# In the order in which they start: what takes longest comes first.
TOGETHER = (
    *suiteByModule("tests.sim", longest=("test_sessionpaths", "test_streams", "test_weather")),
    STATIC_GATES[0],
    suite("tests.unit"),
    suite("tests.contract"),
    suite("tests.interop"),
    *STATIC_GATES[1:],
)
KERNEL = tuple(suiteByModule("tests.kernel", longest=()))


def coverageGate(name: str, minimum: int, *options: str) -> Job:
    """
    @return: the job that prints the lines never run, and fails below C{minimum} per cent.
    """
    report = ("-m", "coverage", "report", f"--fail-under={minimum}", *options)
    return Job(name, python(*report))


COVERAGE_GATES = (
    coverageGate("coverage of core", CORE_COVERAGE, "--include=p2ptwist/core/*"),
    coverageGate("coverage", PACKAGE_COVERAGE),
)


def runJob(job: Job) -> Outcome:
    """
    Run one job to its end, or to its limit.
    """
    environment = {**os.environ, "COVERAGE_FILE": str(COVERAGE_DATA / "data")}
    if os.geteuid():
        # Who may not make a network namespace shares this network's router with others.
        environment["P2PTWIST_PORT_MAPPING"] = "off"
    log = BUILD / f"{job.name.replace(' ', '-')}.log"
    started = time.monotonic()
    with log.open("wb") as stream:
        process = subprocess.Popen(
            job.command,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            status = process.wait(JOB_LIMIT)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            status = process.wait()
            stream.write(f"\nKilled: not done after {JOB_LIMIT:g} seconds.\n".encode())
    seconds = time.monotonic() - started
    output = log.read_text("utf-8", "replace")
    return Outcome(job, tallyOf(job, status), output, seconds)


def tallyOf(job: Job, status: int) -> Tally:
    """
    @return: what counts of a job that ended with C{status}.
    """
    if job.result is None:
        return Tally(failed=1, notes=[f"failed: {job.name}"]) if status else Tally()
    try:
        tally = Tally(**json.loads(job.result.read_text("utf-8")))
    except FileNotFoundError:
        return Tally(failed=1, notes=[f"failed: {job.name} ended with status {status}"])
    if not tally.passed + tally.failed + tally.skipped:
        return Tally(failed=1, notes=[f"failed: {job.name} has no tests"])
    if status and not tally.failed:
        tally += Tally(failed=1, notes=[f"failed: {job.name} ended with status {status}"])
    return tally


def show(outcome: Outcome) -> None:
    """
    Print one line, and all of the output of what failed.
    """
    tally = outcome.tally
    verdict = str(tally) if outcome.job.result else ("failed" if tally.failed else "good")
    print(f"== {outcome.job.name}: {verdict} ({outcome.seconds:.0f} s)", flush=True)
    if tally.failed or outcome.job in COVERAGE_GATES:
        print(outcome.output, flush=True)


def runTogether(jobs: Iterable[Job]) -> Tally:
    """
    Run jobs side by side, one a core.
    """
    total = Tally()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for future in as_completed([pool.submit(runJob, job) for job in jobs]):
            show(future.result())
            total += future.result().tally
    return total


def runOneByOne(jobs: Iterable[Job]) -> Tally:
    """
    Run jobs one after the other.
    """
    total = Tally()
    for job in jobs:
        outcome = runJob(job)
        show(outcome)
        total += outcome.tally
    return total


def dropBrokenCoverage(folder: Path) -> int:
    """
    Remove the data of programs that were killed while they wrote it: a single file with a part of
    its tables would fail the combination of all.

    @return: how many there were.
    """
    broken = 0
    for path in folder.glob("data.*"):
        try:
            CoverageData(no_disk=True).update(CoverageData(str(path)))
        except CoverageException:
            path.unlink()
            broken += 1
    return broken


def runEverything() -> Tally:
    """
    All suites, all gates.
    """
    total = runTogether(TOGETHER) + runOneByOne(KERNEL)
    print(f"== broken coverage data: {dropBrokenCoverage(COVERAGE_DATA)} dropped", flush=True)
    combine = Job("coverage combine", python("-m", "coverage", "combine", "--quiet"))
    return total + runOneByOne((combine, *COVERAGE_GATES))


def runNamed(names: Sequence[str]) -> Tally:
    """
    Only the tests called C{names}, shown as they run, where trial runs them by default.
    """
    with TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        command = python(TRIAL_SUITE, result, ROOT / "_trial_temp", *names)
        if all(name.startswith(ON_LOOPBACK) for name in names):
            command = onLoopback(command)
        status = subprocess.call(command, cwd=ROOT)
        return tallyOf(Job(" ".join(names), command, result), status)


def main(arguments: list[str]) -> int:
    """
    C{runtests.py [--gates | NAME...]}.

    @return: the exit status: 0 when nothing failed.
    """
    if arguments == ["--gates"]:
        BUILD.mkdir(parents=True, exist_ok=True)
        total = runTogether(STATIC_GATES)
    elif arguments:
        total = runNamed(arguments)
    else:
        shutil.rmtree(BUILD, ignore_errors=True)
        COVERAGE_DATA.mkdir(parents=True)
        total = runEverything()
    for note in total.notes:
        print(note)
    print(total, flush=True)
    return 1 if total.failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
