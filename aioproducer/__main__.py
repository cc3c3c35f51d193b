"""Makes `python -m aioproducer` the same as the `aioproducer` command."""

import sys

from aioproducer.cli import main

sys.exit(main())
