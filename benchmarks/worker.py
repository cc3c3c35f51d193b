"""One measurement in a process of its own: `python -m benchmarks.worker CLIENT JOB`.

Started by the runner, so that no client inherits another's memory, threads or warm caches. Prints
the measurement as its last line.
"""

from __future__ import annotations

import gc
import sys

from benchmarks.clients import load
from benchmarks.jobs import Job


def main() -> None:
    """Measure what the command line asks for."""
    client, text = sys.argv[1:]
    job = Job.from_json(text)
    if job.gc_off:
        gc.disable()
    print(load(client).measure(job).to_json())


if __name__ == "__main__":
    main()
