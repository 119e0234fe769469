"""A run directory: what it holds, how it is written, resumed and read again."""

from policyscope.runs.directory import RunDirectory
from policyscope.runs.record import SCHEMA_VERSION, read_record, validate_record

__all__ = ["SCHEMA_VERSION", "RunDirectory", "read_record", "validate_record"]
