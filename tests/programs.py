"""Programs of Debian's that tests need."""

import sys

from live import ROOT

_HACK = ROOT / "hack"


def installed(name: str) -> str:
    """The path of a program of Debian's that tests need, installed where it is missing."""
    if str(_HACK) not in sys.path:
        sys.path.insert(0, str(_HACK))
    from local_cluster import packages

    packages.ensure({name: packages.TESTS[name]})
    found = packages.program(name)
    assert found, f"{name} is still missing"
    return found
