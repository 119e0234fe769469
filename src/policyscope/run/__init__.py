"""A run directory: what it holds, how it is written, resumed and read again."""

from policyscope.run.directory import RunDirectory
from policyscope.run.record import SCHEMA_VERSION, read_record, validate_record

__all__ = ["SCHEMA_VERSION", "RunDirectory", "read_record", "validate_record"]
