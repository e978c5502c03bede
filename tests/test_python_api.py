"""What other programs build on: documented, and the notebook that shows it is true."""

from __future__ import annotations

import inspect
import json
import re
from types import ModuleType

import pytest

import jobs
import rwkv_runtime
from tests.jobs.project import REPOSITORY
from tests.notebook import outputs, text_of

PAGE = (REPOSITORY / "PYTHON.md").read_text("utf-8")
NOTEBOOK = REPOSITORY / "examples" / "python.ipynb"
PUBLIC = [(module, name) for module in (rwkv_runtime, jobs) for name in module.__all__]


def test_the_notebook_is_one_by_its_format() -> None:
    notebook = json.loads(NOTEBOOK.read_text("utf-8"))

    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(set(ids)) == len(ids)
    assert all({"cell_type", "id", "metadata", "source"} <= cell.keys() for cell in notebook["cells"])


def test_a_cell_shows_what_it_prints_and_the_value_of_its_last_line() -> None:
    names: dict[str, object] = {}

    assert text_of(outputs("x = 3\nprint('a')\nx + 1", names, 1)) == "a\n\n4"
    assert outputs("y = x\nNone", names, 2) == []
    assert names["y"] == 3


@pytest.mark.parametrize(("module", "name"), PUBLIC, ids=[f"{module.__name__}.{name}" for module, name in PUBLIC])
def test_every_public_name_is_on_the_page_and_says_what_it_does(module: ModuleType, name: str) -> None:
    found = getattr(module, name)

    assert re.search(rf"`{name}\b", PAGE), f"{name} is not in PYTHON.md"
    assert inspect.getdoc(found)
    methods = inspect.getmembers(found, inspect.isfunction) if inspect.isclass(found) else []
    own = [method for label, method in methods if not label.startswith("_") and method.__module__.startswith("rwkv")]
    assert [method.__qualname__ for method in own if not inspect.getdoc(method)] == []


def test_every_name_of_the_page_is_there() -> None:
    for path in re.findall(r"`((?:rwkv_runtime|jobs|pipeline)\.[\w.]+)", PAGE):
        module, _, name = path.rpartition(".")
        found = __import__(path if path.count(".") == 1 else module, fromlist=["_"])
        assert path.count(".") == 1 or hasattr(found, name), path


def test_every_link_of_llms_txt_leads_somewhere() -> None:
    text = (REPOSITORY / "llms.txt").read_text("utf-8")
    links = re.findall(r"\]\(([^)]+)\)", text)

    assert text.startswith("# unspool\n\n> ") and len(links) > 8
    assert [link for link in links if not (REPOSITORY / link).exists()] == []
