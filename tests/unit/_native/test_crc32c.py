"""CRC-32C, each path of it on each processor that is here or can be emulated.

The paths that the module itself takes are tested in `test_record_batch`.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

_HERE = Path(__file__).parent
_SOURCES = Path(__file__).parents[3] / "aioproducer" / "_native"
_ARM = "aarch64-linux-gnu"


def program(name: str, *others: str) -> str:
    """Find a program under any of its names."""
    for one in (name, *others):
        if path := shutil.which(one):
            return path
    pytest.skip(f"needs {name}")


def path_chosen(compiler: Sequence[str], built: Path, *, runner: Sequence[str] = ()) -> str:
    """Build the driver and run it: it fails on any wrong sum, and tells the path that it took."""
    if not (_SOURCES / "crc32c.c").is_file():
        pytest.skip("needs the source tree")
    flags = ["-O2", "-Wall", "-Wextra", "-Werror", f"-I{_SOURCES}"]
    run = [*compiler, *flags, str(_HERE / "crc32c_driver.c"), "-o", str(built)]
    for command in (run, [*runner, str(built)]):
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def this_processor() -> str:
    """Return the path that fits the processor at hand, by what the system says of it."""
    flag = {"x86_64": "sse4_2", "aarch64": "crc32"}.get(platform.machine())
    if platform.system() == "Linux":
        flags = Path("/proc/cpuinfo").read_text().split()
        return "hardware" if flag in flags else "portable"
    return "hardware" if platform.machine() in ("x86_64", "arm64") else "portable"


@pytest.mark.parametrize("name", ["gcc", "clang"])
def test_this_processor_takes_the_path_that_fits_it(name: str, tmp_path: Path) -> None:
    assert path_chosen([program(name)], tmp_path / "driver") == this_processor()


@pytest.mark.parametrize("name", ["gcc", "clang"])
def test_a_processor_without_the_instruction_takes_the_tables(name: str, tmp_path: Path) -> None:
    if (platform.system(), platform.machine()) == ("Darwin", "arm64"):
        pytest.skip("no Mac with an ARM is without the instruction")
    compiler = [program(name), "-DWITHOUT_INSTRUCTION"]
    assert path_chosen(compiler, tmp_path / "driver") == "portable"


@pytest.mark.parametrize("name", ["gcc", "clang"])
@pytest.mark.parametrize(
    ("options", "path"), [((), "hardware"), (("-DWITHOUT_INSTRUCTION",), "portable")]
)
def test_an_emulated_arm_takes_the_path_that_fits_it(
    name: str, options: Sequence[str], path: str, tmp_path: Path
) -> None:
    # clang makes the code for any processor, but its headers and libraries come with that gcc.
    gcc = program(f"{_ARM}-gcc")
    compiler = [gcc] if name == "gcc" else [program("clang"), f"--target={_ARM}"]
    emulator = [program("qemu-aarch64", "qemu-aarch64-static"), "-cpu", "max"]
    built = tmp_path / "driver"
    assert path_chosen([*compiler, "-static", *options], built, runner=emulator) == path
