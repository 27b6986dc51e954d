"""Where a use case's history comes from: a file or a database, read as the contract declares it.

For a use case's ``etl.py``; it imports polars, so a contract does not import it.
"""

from ninefold.sources.database import Database
from ninefold.sources.file import File
from ninefold.sources.history import table_history
from ninefold.sources.source import Source

__all__ = ["Database", "File", "Source", "table_history"]
