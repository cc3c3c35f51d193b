"""`python -m tests.fuzz --minutes 5`: every decoder, on fresh inputs. Exit code 1 on a finding."""

from __future__ import annotations

import argparse
import sys
from functools import partial

from tests.fuzz.running import run

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0, help="how long (default: 1)")
    sys.exit(run(parser.parse_args().minutes, partial(print, flush=True)))
