"""Ninefold: the nine components of a real-world machine-learning system, closed into a loop."""

import sys

if not (3, 11) <= sys.version_info[:2] <= (3, 13):
    # Said here, before an import of something newer or missing fails with a traceback instead.
    sys.stderr.write(f"ninefold: Python {sys.version.split()[0]} is not supported; use 3.11, 3.12 or 3.13.\n")
    raise SystemExit(2)

__version__ = "0.1.0"
