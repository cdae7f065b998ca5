"""The examples in the docstrings of the package, which run as they stand."""

from __future__ import annotations

import doctest
import importlib

import pytest

from tests.conftest import ROOT
from workflow.journal import Follower, Journal
from workflow.search import GeneticSearch, RandomSearch, make_search
from workflow.search.asynchronous import AsyncSearch
from workflow.search.optuna_search import OptunaSearch
from workflow.search.steady import SteadySearch
from workflow.search.variation import Variation
from workflow.state import State

FILES = [path.relative_to(ROOT) for path in sorted((ROOT / "workflow").rglob("*.py")) if ">>> " in path.read_text()]
MODULES = [".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in FILES]
SHOWN = (
    make_search, GeneticSearch, AsyncSearch, RandomSearch, OptunaSearch, SteadySearch, Variation, Journal, Follower,
    State,
)  # fmt: skip


@pytest.mark.parametrize("module", MODULES)
def test_examples_do_what_they_say(module: str) -> None:
    assert doctest.testmod(importlib.import_module(module)).failed == 0


@pytest.mark.parametrize("shown", SHOWN, ids=lambda shown: shown.__name__)
def test_public_names_have_an_example(shown: type) -> None:
    assert ">>> " in str(shown.__doc__)
