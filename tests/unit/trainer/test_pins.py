"""What is pinned is what numpy and OpenBLAS then do, on any x86-64 machine with AVX2."""

import json
import os
import platform
import subprocess
import sys

import pytest

from modelmill_trainer.pins import pin, pinned

SHOWN = """
import json, numpy
from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__
from threadpoolctl import threadpool_info
import scipy.linalg, sklearn.ensemble
print(json.dumps([[name for name in __cpu_dispatch__ if __cpu_features__[name]], threadpool_info()]))
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="other architectures choose for themselves")
def test_numpy_and_openblas_take_what_every_server_has() -> None:
    variables = {name: value for name, value in os.environ.items() if name not in pinned(os.environ)}
    pin(variables)
    done = subprocess.run([sys.executable, "-c", SHOWN], env=variables, capture_output=True, check=True)
    kernels, pools = json.loads(done.stdout)
    assert kernels == ["X86_V3"]
    assert {pool["num_threads"] for pool in pools} == {1}
    assert {pool["architecture"] for pool in pools if pool["internal_api"] == "openblas"} == {"Haswell"}
    assert done.stderr == b""
