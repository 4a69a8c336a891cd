"""`jsafe list`."""

from __future__ import annotations

import dataclasses
import json
import shutil
from typing import Any, Literal

import tyro

from jsafe import registry
from jsafe.cli import parse
from jsafe.curves import screen


@dataclasses.dataclass(frozen=True)
class List:
    """Algorithms with their presets and papers, tasks, and policies that come along; `--import MODULE` imports a module
    first."""

    what: tyro.conf.Positional[Literal["algorithms", "tasks", "policies", "all"]] = "all"
    """What to list."""
    json: bool = False
    """For programs: all that is known, as JSON."""


def main(arguments: list[str]) -> int:
    """Runs the command; returns the exit status."""
    _, words = parse.take_imports(arguments)
    given = parse.parse(List, words, "jsafe list", ["--import"])
    found: dict[str, Any] = {}
    if given.what in ("algorithms", "all"):
        found["algorithms"] = [_algorithm(registry.get(name)) for name in registry.names()]
    if given.what in ("tasks", "all"):
        from jsafe import envs

        found["tasks"] = [{"id": id, "summary": envs.summary(id)} for id in envs.list_ids()]
    if given.what in ("policies", "all"):
        from jsafe.deploy import zoo

        found["policies"] = [{"name": f"zoo:{name}", **zoo.about(name)} for name in zoo.names()]
    if given.json:
        print(json.dumps(found if given.what == "all" else found[given.what], indent=1))
        return 0
    width = min(shutil.get_terminal_size((120, 24)).columns, 160)
    for algorithm in found.get("algorithms", []):
        print(f"{algorithm['name']} ({algorithm['family'].replace('_', '-')}): {algorithm['summary']}")
        presets = [
            (f"--preset {preset['name']}", preset["summary"] + (" (recommended)" if preset["recommended"] else ""))
            for preset in algorithm["presets"]
        ]
        print(parse.columns([*presets, ("", algorithm["paper"])], width, 26))
    for task in found.get("tasks", []):
        print(parse.columns([(task["id"], task["summary"])], width, 34))
    for policy in found.get("policies", []):
        unit = "updates" if registry.get(policy["algorithm"]).family == "offline" else "steps"
        told = f"{policy['algorithm']} on {policy['env']}, {screen.count(policy['env_steps'])} {unit}"
        print(f"{policy['name']}: {told}")
        print(parse.columns(_results(policy), width, 26))
    return 0


def _results(policy: dict[str, Any]) -> list[tuple[str, str]]:
    """What a policy of the zoo did."""
    results = policy.get("results", {})
    rows = [(f"of {results['episodes']} episodes", f"return {results['return']:.4g}")] if results else []
    for cost in results.get("costs", []):
        verdict = ""
        if "limit" in cost:
            verdict = f" (limit {cost['limit']:g} per {cost['per']}: {'kept' if cost['kept'] else 'broken'})"
        rows.append(("", f"cost per episode {cost['mean']:.4g}{verdict}"))
    return rows


def _algorithm(algorithm: registry.Algorithm) -> dict[str, Any]:
    presets = [
        {
            "name": name,
            "summary": preset.summary,
            "recommended": name == algorithm.recommended,
            "total_steps": preset.total_steps,
        }
        for name, preset in algorithm.presets.items()
    ]
    return {
        "name": algorithm.name,
        "family": algorithm.family,
        "summary": algorithm.summary,
        "paper": algorithm.paper,
        "presets": presets,
    }
