"""franz-go, by a small Go program in the folder beside this file, built on first use.

It is idempotent by default; main.go has the settings it was fastest with.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from benchmarks.jobs import Job, Measurement, Pattern

IDIOMS = {
    Pattern.CALL: "Produce() with a promise",
    Pattern.AWAIT_LATER: "Produce() with a promise",
    Pattern.CALLBACK: "Produce() with a promise",
    Pattern.TAKE_TURNS: "ProduceSync() in goroutines",
    Pattern.ONE_AT_A_TIME: "ProduceSync()",
    Pattern.BULK: "ProduceSync() of each list, in goroutines",
    Pattern.SPREAD: "Produce() with a promise",
    Pattern.TRANSACTIONS: "BeginTransaction(), Produce() in a loop, Flush(), EndTransaction()",
}
WRITES_TO_KAFKA = True
_SOURCE = Path(__file__).parent / "franz_go"
_PROGRAM = _SOURCE / "build" / "franz_go"


def unavailable() -> str | None:
    """Build the program if need be; say why that is not possible."""
    if shutil.which("go") is None:
        return "no Go"
    inputs = [_SOURCE / name for name in ("main.go", "go.mod", "go.sum")]
    if _PROGRAM.exists() and all(
        _PROGRAM.stat().st_mtime > source.stat().st_mtime for source in inputs
    ):
        return None
    run = subprocess.run(
        ["go", "build", "-o", str(_PROGRAM), "."],
        cwd=_SOURCE,
        capture_output=True,
        text=True,
        check=False,
    )
    return None if run.returncode == 0 else f"`go build` failed: {run.stderr.strip()[-300:]}"


def measure(job: Job) -> Measurement:
    """Do the job."""
    run = subprocess.run(
        [str(_PROGRAM), job.to_json()], capture_output=True, text=True, check=False
    )
    if run.returncode:
        raise RuntimeError(f"the franz-go program failed:\n{run.stderr}")
    return Measurement.from_json(run.stdout)
