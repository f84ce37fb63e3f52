"""One exported model for all tests of this folder."""

import pytest
from in_process import tiny_model


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """(the module, the exported model)."""
    return tiny_model(tmp_path_factory.mktemp("models"))
