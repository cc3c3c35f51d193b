"""What a long run must not lose: memory, descriptors, tasks. Called by the parts of the soak."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import time
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Sample", "expect_flat", "open_descriptors", "resident_bytes", "sample"]


@dataclass(frozen=True, slots=True)
class Sample:
    """The process at one moment."""

    at: float
    resident: int
    descriptors: int
    tasks: int
    objects: int

    def __str__(self) -> str:
        return (
            f"{self.resident / 2**20:.1f} MiB, {self.descriptors} descriptors, {self.tasks} tasks,"
            f" {self.objects} objects"
        )


def resident_bytes() -> int:
    """Return the memory this process holds."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def open_descriptors() -> int:
    """Return how many files and sockets are open."""
    return len(os.listdir("/proc/self/fd"))


def sample() -> Sample:
    """Look at the process, after what is garbage is gone."""
    gc.collect()
    return Sample(
        at=time.monotonic(),
        resident=resident_bytes(),
        descriptors=open_descriptors(),
        tasks=len(asyncio.all_tasks()),
        objects=len(gc.get_objects()),
    )


def expect_flat(samples: list[Sample], *, bytes_per_hour: float, slack: int = 4 << 20) -> float:
    """Check that memory does not grow over the second half; return its growth an hour in bytes.

    Raises:
        AssertionError: It grew by more than `bytes_per_hour` and `slack` allow.
    """
    half = samples[len(samples) // 2 :]
    seconds = half[-1].at - half[0].at
    slope = _slope([one.at for one in half], [float(one.resident) for one in half])
    assert slope * seconds <= bytes_per_hour * seconds / 3600 + slack, (
        f"memory grew by {slope * seconds / 2**20:.1f} MiB in {seconds:.0f} s"
    )
    return slope * 3600


def _slope(times: list[float], values: list[float]) -> float:
    middle = sum(times) / len(times)
    spread = sum((time - middle) ** 2 for time in times)
    if not spread:
        return 0.0
    return sum((at - middle) * value for at, value in zip(times, values, strict=True)) / spread
