"""The JSON Schema of ``run.json``, generated from the types: ``python -m policyscope.runs.schema``.

The file ships with the package, so that scripts in any language can check what they read.
"""

from __future__ import annotations

import json
from pathlib import Path

from pydantic.json_schema import GenerateJsonSchema

from policyscope.files import write_text
from policyscope.runs.record import adapter

FILE = Path(__file__).with_name("run.schema.json")


class _Untitled(GenerateJsonSchema):
    """Without a title for each field, which would only repeat its name."""

    def field_title_should_be_set(self, schema: object) -> bool:
        del schema
        return False


def generated() -> str:
    """The schema as text."""
    made = adapter().json_schema(mode="serialization", schema_generator=_Untitled)
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "policyscope run record",
    }
    return json.dumps({**head, **made}, indent=1) + "\n"


if __name__ == "__main__":
    write_text(FILE, generated())
