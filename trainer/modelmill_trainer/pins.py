"""What must be the same for the same recipe to give the same bytes: threads and the CPU's kernels.

numpy, scipy and OpenBLAS choose code by the CPU that they find and sum in another order with more threads;
both change the last bits of a result.
"""

import platform
from collections.abc import Mapping, MutableMapping
from pathlib import Path

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
# AVX-512 machines would sum in another order, take other exponentials, and sort what is equal in another order.
_KERNELS = {
    "OPENBLAS_CORETYPE": "Haswell",
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
}


def pin(variables: MutableMapping[str, str]) -> None:
    """Set the pins in `variables` (the environment), before numpy is imported."""
    pins = dict.fromkeys(_THREADS, "1")
    if platform.machine() == "x86_64" and _has_avx2():
        pins |= _KERNELS  # what every x86-64 server since 2013 has
    variables.update(pins)


def pinned(variables: Mapping[str, str]) -> dict[str, str]:
    """The pins as they stand in `variables`: part of a recipe."""
    return {name: variables[name] for name in (*_THREADS, *_KERNELS) if name in variables}


def architecture() -> str:
    """The machine's architecture: part of a recipe, because other instructions round otherwise."""
    return platform.machine()


def _has_avx2() -> bool:
    try:
        return " avx2 " in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
