"""`python -m benchmarks.importing`: what an import costs above that of asyncio, beside a peer's.

Each measurement is a fresh interpreter that imports asyncio, then one package, and tells the
processor time of the second. Packages take turns, and whoever went first goes last in the next
round; the first round, which compiles, does not count. The interpreters run without `site`: an
editable install would have modules loaded that an installed package has not.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from statistics import median

__all__ = ["ROUNDS", "costs", "installed", "main", "modules", "table"]

ROUNDS = 31
PACKAGES = ("aioproducer", "aiokafka", "confluent_kafka", "kafka")

_ROOT = Path(__file__).parent.parent
_PROGRAM = """
import asyncio, time
started = time.process_time()
import {package}
print(time.process_time() - started)
"""


def costs(packages: Sequence[str], rounds: int) -> dict[str, list[float]]:
    """Return for each package its import's processor time in seconds, round by round."""
    found: dict[str, list[float]] = {package: [] for package in packages}
    with tempfile.TemporaryDirectory() as compiled:
        for number in range(rounds + 1):
            for package in packages if number % 2 else reversed(packages):
                answer = _python(compiled, "-c", _PROGRAM.format(package=package)).stdout
                if number:
                    found[package].append(float(answer))
    return found


def modules(package: str, rounds: int) -> dict[str, float]:
    """Return the modules that come with a package, with the time of each in seconds, dearest first.

    The times are larger than they are, since the interpreter notes them.
    """
    times: dict[str, list[int]] = {}
    with tempfile.TemporaryDirectory() as compiled:
        for number in range(rounds + 1):
            program = f"import asyncio, {package}"
            told = _python(compiled, "-X", "importtime", "-c", program).stderr.splitlines()
            names = [line.rpartition("|")[2].strip() for line in told]
            for line, name in list(zip(told, names, strict=True))[names.index("asyncio") + 1 :]:
                if number:
                    times.setdefault(name, []).append(int(line.split(":")[1].split("|")[0]))
    medians = {name: median(those) / 1e6 for name, those in times.items()}
    return dict(sorted(medians.items(), key=lambda item: -item[1]))


def _python(compiled: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "PYTHONPYCACHEPREFIX": compiled}
    environ.pop("PYTHONDONTWRITEBYTECODE", None)
    environ["PYTHONPATH"] = os.pathsep.join([str(_ROOT), sysconfig.get_path("purelib")])
    command = [sys.executable, "-S", *arguments]
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=True)


def installed() -> list[str]:
    """Return the packages to compare that are here."""
    return [one for one in PACKAGES if find_spec(one)]


def table(found: Mapping[str, Sequence[float]]) -> list[str]:
    """Return the costs as a table in Markdown."""
    first, *_ = found
    lines = [
        "| import | ms of CPU above asyncio | share of it that aioproducer takes |",
        "|---|---|---|",
    ]
    for package, seconds in found.items():
        pairs = zip(found[first], seconds, strict=True)
        ratio = median(ours / theirs for ours, theirs in pairs)
        lines.append(f"| {package} | {median(seconds) * 1000:.1f} | {ratio:.2f} |")
    return lines


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.importing", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--modules", action="store_true", help="of ours, each with its time")
    arguments = parser.parse_args(argv)
    if arguments.modules:
        for name, seconds in modules(PACKAGES[0], arguments.rounds).items():
            print(f"{seconds * 1e6:7.0f} us  {name}")
        return 0
    print("\n".join(table(costs(installed(), arguments.rounds))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
