"""``python -m ninefold`` is the ``ninefold`` command."""

from ninefold.cli import main

main()
