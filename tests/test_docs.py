"""The documentation site: it builds without warnings, covers all algorithms and modules, and loads nothing."""

import dataclasses
import functools
import json
import re
import sys
import tomllib
from pathlib import Path

import pytest

import jsafe
from jsafe import registry
from jsafe.options import paths
from jsafe.sweeps import grid, search

pytest.importorskip("mkdocs", reason="the site needs the extra `docs`")
ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "docs"))
import hooks  # noqa: E402
import rooms  # noqa: E402

PAGES = sorted((ROOT / "docs" / "pages").rglob("*.md"))


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    folder = tmp_path_factory.mktemp("site")
    config = load_config(str(ROOT / "mkdocs.yml"), site_dir=str(folder), strict=True)
    build(config)  # raises Abort after any warning: a dead link, a page that is not in the navigation
    return folder


def test_every_algorithm_and_module_has_its_page(site):
    assert {p.stem for p in (site / "algorithms").glob("*.html")} == {"index", *hooks.names()}
    modules = {name for names in hooks.modules().values() for name in names}
    assert {p.stem for p in (site / "reference").glob("*.html")} == modules
    assert "jsafe.algos.off_policy.seditor" in modules
    assert {"seditor", "ppo_lag"} <= set(hooks.names()) <= set(jsafe.names())
    assert "jsafe.components.rules.lagrange" in (site / "reference" / "jsafe.components.rules.html").read_text()
    assert "learning_rate" in (site / "reference" / "jsafe.components.rules.lagrange.html").read_text()
    assert (site / "concepts" / "rooms.svg").stat().st_size > 10_000


def test_every_room_is_in_the_reference_and_on_the_page_of_the_house():
    modules = {name.split(".")[1] for names in hooks.modules().values() for name in names if "." in name}
    assert modules == set(rooms.rank()) | {"train"}
    house = (ROOT / "docs" / "pages" / "concepts" / "rooms.md").read_text()
    assert not [room for room in rooms.rank() if f"`{room}`" not in house]


def test_every_task_is_on_its_page():
    def expanded(text):
        found = re.search(r"\{([^}]*)\}", text)
        if found is None:
            return [text]
        ends = text[: found.start()], text[found.end() :]
        return [each for one in found[1].split(",") for each in expanded(one.join(ends))]

    page = hooks.task_page()["tasks.md"]
    named = [id for text in re.findall(r"`([^`]*-v\S+)`", page) for id in expanded(text)]
    stock = [
        id for id in jsafe.envs.list_ids() if id not in jsafe.envs.registry._IDS or id in jsafe.envs.registry._STOCK
    ]
    assert sorted(set(named)) == stock
    assert "| Goal2 | goal, 10 hazards, 10 vases | 3 | hazards, vases | 1000 |" in page
    assert "| Point | 12 numbers | 2 numbers |" in page
    assert re.search(r"`SafeRacingObstacle-state-v0` .* \| 84 numbers \| 3 numbers \| 1000 \| [\d ]+ \|", page)
    assert "| `SafetyHopperVelocity-v{0,1}` | 11 numbers | 3 numbers | 0.37315 and 0.7402 | 1000 |" in page


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_public_pages_point_at_nothing_private(page):
    assert not re.findall(r"\bjsafe(?:\.\w+)*\._(?!_)\w+", page.read_text())


def test_nothing_is_loaded_from_elsewhere(site):
    loads = re.compile(r"""<(?:script|img|iframe|link)[^>]*?(?:src|href)=["']?(?:https?:)?//[^"'\s>]+""")
    pages = list(site.rglob("*.html"))
    assert len(pages) > 60
    for page in pages:
        found = [tag for tag in loads.findall(page.read_text()) if 'rel="canonical"' not in tag]
        assert not found, f"{page.name}: {found}"
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(?:@import|url\()\s*[\"']?(?:https?:)?//", sheet.read_text()), sheet.name


def test_formulas_become_mathml(site):
    page = (site / "theory" / "seditor.html").read_text()
    assert page.count("<math ") > 10
    for leftover in ("formulanumber", "$`", "```"):
        assert leftover not in page


@pytest.mark.parametrize("name", hooks.names())
def test_algorithm_pages_say_what_the_code_says(name):
    algorithm = registry.get(name)
    page = hooks.algorithm_page(algorithm)
    for path in paths(algorithm.config):
        value = functools.reduce(getattr, path.split("."), algorithm.config)
        if not dataclasses.is_dataclass(value):
            assert f"| `{path}` | `{value!r}` |" in page
        elif kind := getattr(value, "kind", ""):
            assert f"| **`{path}`** | `{kind}` |" in page
    assert algorithm.summary in page
    assert "**Source:**" in page
    assert f"jsafe train {name} " in page
    for preset in algorithm.presets:
        assert f"preset `{preset}`" in page


def test_prose_keeps_labels_and_drops_arguments():
    text = hooks.prose("""SEditor: two policies.

    Equation.

    Args:
      config: Options.

    Source: A paper,
      arXiv 2201.12427.
    """)
    assert text.startswith("SEditor: two policies.\n\nEquation.")
    assert text.endswith("**Source:** A paper,\n[arXiv 2201.12427](https://arxiv.org/abs/2201.12427).")
    assert "Options" not in text


def test_options_are_explained_by_the_strings_under_them():
    @dataclasses.dataclass(frozen=True)
    class Config:
        first: int = 1
        """Says
        what it is."""
        second: int = 2

    assert hooks.field_docs(Config) == {"first": "Says what it is."}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_sweeps_on_pages_are_understood(page):
    text = page.read_text()
    for toml in re.findall(r"```toml\n(.*?)```", text, re.DOTALL):
        data = tomllib.loads(toml)
        if str(data.get("env", "")).startswith("python:lake:"):
            continue  # tests/test_own_environment.py has the module
        if set(data) == {"cluster"}:
            assert grid.cluster_options(data)
        elif (asked := search.read(data)) is not None:
            assert search.cells_of(data, search.draw(asked, 0))
        else:
            assert f"lists its {len(grid.expand(data))} runs" in text


def test_results_are_those_of_the_committed_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(hooks, "ROOT", tmp_path)
    for name, value in (("cpo", 2.5), ("ppo", 1.5)):
        folder = tmp_path / "experiments" / "study" / f"{name}-s0"
        folder.mkdir(parents=True)
        config = {"algorithm": name, "run": {"env": "SafetyPointGoal1-v0", "seed": 0}, "config": {}}
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "progress.csv").write_text(f"iteration,env_steps,episode/return\n1,1000,0.5\n2,2000000,{value}\n")
    text = hooks.results("cpo")
    assert "| `experiments/study/cpo-s0` | SafetyPointGoal1-v0 | 2.00 M | 2.5 |" in text
    assert "ppo" not in text
    assert "cpo_curves.png" in text
    assert set(hooks.curves()) == {"algorithms/cpo_curves.png", "algorithms/ppo_curves.png"}
    assert "No run" in hooks.results("trpo")
    (tmp_path / "experiments/study/published.csv").write_text(
        "env,algorithm,return_mean,return_std,cost_mean,cost_std\nSafetyPointGoal1-v0,cpo,20.46,1.38,28.84,7.76\n"
    )
    assert "| 20.46 ± 1.38, 28.84 ± 7.76 |" in hooks.results("cpo")
