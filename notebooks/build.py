"""Turns `source/NAME.py` into `NAME.ipynb`, executed: `python notebooks/build.py [NAME ...] [--force]`.

Sources are Python files with cells separated by `# %%` and `# %% [markdown]` (the percent format of Jupytext, Spyder
and VS Code), so that changes can be reviewed line by line. `JSAFE_NOTEBOOK_SCALE=test` makes the runs tiny.
"""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).parent


def names() -> list[str]:
    """Names of all notebooks."""
    return sorted(path.stem for path in (HERE / "source").glob("*.py"))


def load(name: str) -> nbformat.NotebookNode:
    """The notebook of a source file, without outputs.

    Raises:
      ValueError: If there is none of that name, or it does not begin with a cell.
    """
    path = HERE / "source" / f"{name}.py"
    if not path.exists():
        raise ValueError(f"unknown notebook {name!r} (known: {', '.join(names())})")
    notebook = nbformat.v4.new_notebook()
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    start, *cells = ("\n" + path.read_text()).split("\n# %%")
    if start.strip():
        raise ValueError(f"{path} must begin with a cell (# %%), got {start.strip()[:40]!r}")
    for number, cell in enumerate(cells):
        head, _, body = cell.partition("\n")
        body = body.strip("\n")
        if head.strip() == "[markdown]":
            text = "\n".join(line.removeprefix("#").removeprefix(" ") for line in body.split("\n"))
            made = nbformat.v4.new_markdown_cell(text)
        else:
            made = nbformat.v4.new_code_cell(body)
        made["id"] = f"cell-{number}"
        notebook.cells.append(made)
    return notebook


def execute(notebook: nbformat.NotebookNode, timeout: float | None = None) -> nbformat.NotebookNode:
    """Runs all cells in a fresh kernel, in the folder of the notebooks, and keeps their outputs.

    Raises:
      nbclient.exceptions.CellExecutionError: If a cell fails.
      nbclient.exceptions.CellTimeoutError: If one takes longer than `timeout` seconds.
    """
    NotebookClient(
        notebook,
        timeout=timeout,
        kernel_name="python3",
        record_timing=False,
        resources={"metadata": {"path": str(HERE)}},
    ).execute()
    notebook.metadata.pop("language_info", None)  # names the Python of this machine
    return notebook


def keep_outputs(notebook: nbformat.NotebookNode, saved: nbformat.NotebookNode) -> bool:
    """Takes the outputs from a saved notebook whose code is the same; False if it is another."""
    new, old = ([cell for cell in n.cells if cell.cell_type == "code"] for n in (notebook, saved))
    if [cell.source for cell in new] != [cell.source for cell in old]:
        return False
    for cell, before in zip(new, old):
        cell.outputs, cell.execution_count = before.outputs, before.execution_count
    return True


def main(arguments: list[str]) -> None:
    """Builds the named notebooks, or all; where only text has changed nothing is executed, unless with `--force`."""
    force = "--force" in arguments
    for name in [argument for argument in arguments if argument != "--force"] or names():
        path, notebook = HERE / f"{name}.ipynb", load(name)
        if force or not path.exists() or not keep_outputs(notebook, nbformat.read(path, as_version=4)):
            print(f"executing {name}", flush=True)
            execute(notebook)
        nbformat.write(notebook, path)


if __name__ == "__main__":
    main(sys.argv[1:])
