"""The test method under a name of its own."""

from collections.abc import Iterator

import pytest

from weaktal import methods


@pytest.fixture
def linear_mil() -> Iterator[str]:
    methods.METHODS["linear_mil"] = "tests.train.linear_mil:LinearMIL"
    yield "linear_mil"
    del methods.METHODS["linear_mil"]
