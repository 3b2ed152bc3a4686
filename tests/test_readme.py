"""What the README shows, runs."""

import doctest
from pathlib import Path


def test_readme():
    readme = Path(__file__).parent.parent / "README.md"
    result = doctest.testfile(str(readme), module_relative=False)
    assert result.attempted > 10
    assert result.failed == 0
