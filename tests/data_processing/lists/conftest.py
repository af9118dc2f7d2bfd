"""What tests of lists share."""

import pytest

from data_processing.lists import wordnet


@pytest.fixture(scope="session")
def reader():
    return wordnet.load()
