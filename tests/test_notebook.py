"""docs/quickstart.ipynb runs from its first cell to its last, as its reader would run it."""

import ast
import json
import shutil
import sys
from pathlib import Path

import matplotlib
import pandas as pd

NOTEBOOK = Path(__file__).resolve().parents[1] / "docs" / "quickstart.ipynb"


def test_the_notebook_runs_in_order(untrained_run, tiny_data, tmp_path, monkeypatch, capsys):
    matplotlib.use("agg")
    shutil.copytree(untrained_run.path, tmp_path / "runs/demo")
    (tmp_path / "demo/data").mkdir(parents=True)
    (tmp_path / "demo/data/test").symlink_to(tiny_data / "train")
    (tmp_path / "docs").mkdir()
    # Where Jupyter starts a notebook.
    monkeypatch.chdir(tmp_path / "docs")
    monkeypatch.setattr(sys, "path", list(sys.path))
    names, shown = {}, []
    for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] != "code":
            continue
        assert cell["outputs"] == [] and cell["execution_count"] is None
        tree = ast.parse("".join(cell["source"]))
        last = tree.body[-1]
        if isinstance(last, ast.Expr):
            # A notebook shows the value of a cell's last line.
            tree.body[-1] = ast.Assign([ast.Name("_", ast.Store())], last.value)
        exec(compile(ast.fix_missing_locations(tree), str(NOTEBOOK), "exec"), names)
        shown.append(names.pop("_", None))
    said = capsys.readouterr().out
    assert said.startswith("3 species at 8000 Hz, windows of ")
    scores, events, figure, *_, counts = (value for value in shown if value is not None)
    assert len(scores) == 3 and scores.is_monotonic_decreasing
    assert list(events)[:3] == ["species", "start_s", "end_s"]
    assert len(figure.axes) == 1
    table = pd.read_csv(tmp_path / "demo/quickstart_events.csv")
    assert counts.sum() == len(table) > 0
    assert table["recording_id"].isin(["tiny00", "tiny01", "tiny02"]).all()
