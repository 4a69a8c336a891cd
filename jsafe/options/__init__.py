"""Options: frozen dataclasses made of parts, their checks, their JSON form, and the numbers that live in the state.

    @part("rule", "lagrange")
    @dataclasses.dataclass(frozen=True)
    class Lagrange(Options):
        init: float = number(0.001, low=0)
        learning_rate: float = traced(0.035, low=0)      # swept: lands in the state, never recompiles

        def build(self, spec, axis_name=None) -> ConstraintRule: ...

    @dataclasses.dataclass(frozen=True)
    class Config(Options):
        rule: Part = seam("rule", Lagrange())

    replace(Config(), {"rule": "pid", "rule.kp": 0.2})   # or, as no other part has a kp: {"rule": "pid", "kp": 0.2}

One place checks every number: types, finiteness and ranges, when an object is made.
"""

from jsafe.options.changes import elsewhere, paths, replace, spellings, type_of
from jsafe.options.fields import (
    LARGEST_FLOAT,
    LARGEST_INT,
    Built,
    FieldError,
    Options,
    check,
    check_fields,
    kinds,
    number,
    part,
    seam,
    told,
    traced,
    traced_values,
    word,
)
from jsafe.options.json import completed, difference, from_json, static, to_json

__all__ = [
    "LARGEST_FLOAT",
    "LARGEST_INT",
    "Built",
    "FieldError",
    "Options",
    "check",
    "check_fields",
    "completed",
    "difference",
    "elsewhere",
    "from_json",
    "kinds",
    "number",
    "part",
    "paths",
    "replace",
    "seam",
    "spellings",
    "static",
    "to_json",
    "told",
    "traced",
    "traced_values",
    "type_of",
    "word",
]
