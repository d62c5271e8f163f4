"""How far counts moved, beyond what sampling explains: of a Dataset's versions, and of what is served.

    PSI - (B - 1) (1/N + 1/M),    PSI = sum over the B bins of (p - q) ln(p / q)

with N and M the rows counted before and now, and the shares p = (n + 1/2) / (N + B/2), q alike, so that an empty bin is
no infinity.  What is subtracted is what PSI is on average where nothing moved (PSI is twice the symmetric divergence,
whose N M / (N + M)-fold is asymptotically chi-square with B - 1 degrees of freedom: Yurdakul, Statistical Properties of
Population Stability Index, 2018).  Bins that both lack do not count.
"""

import math
from collections.abc import Sequence


def effect(before: Sequence[int], now: Sequence[int]) -> float:
    """The effect between counts in the same bins; 0 where one of the two has no rows."""
    pairs = [(n, m) for n, m in zip(before, now, strict=True) if n or m]
    rows, new_rows, bins = sum(before), sum(now), len(pairs)
    if not rows or not new_rows:
        return 0.0
    psi = 0.0
    for n, m in pairs:
        p, q = (n + 0.5) / (rows + bins / 2), (m + 0.5) / (new_rows + bins / 2)
        psi += (p - q) * math.log(p / q)
    return psi - (bins - 1) * (1 / rows + 1 / new_rows)
