"""The plan of the package: rooms import only from rooms before them; no circles."""

import graphlib
from collections import defaultdict

from benchmarks.house import PACKAGE, ROOMS, imports, room_of


def test_every_folder_is_a_room():
    folders = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    assert folders == set(ROOMS)


def test_no_room_imports_one_that_comes_later():
    order = list(ROOMS)
    back_up = [
        f"{one} imports {other}"
        for one, other in imports()
        if room_of(one)
        and room_of(other)
        and order.index(room_of(one)) < order.index(room_of(other))
    ]
    assert not back_up


def test_modules_do_not_import_each_other_in_circles():
    graph = defaultdict(set)
    for one, other in imports():
        # A package's __init__ stands for what it re-exports.
        if one != other and not one.startswith(f"{other}."):
            graph[one].add(other)
    # Raises CycleError with the circle.
    graphlib.TopologicalSorter(graph).prepare()


def test_the_package_needs_nothing_of_the_project_around_it():
    text = "".join(path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py"))
    for name in ("benchmarks", "tests"):
        assert f"from {name}" not in text and f"import {name}" not in text
