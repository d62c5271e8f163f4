"""The statistics of a rollout: evidence that a candidate is worse than the stable version, or no worse than tolerated.

Each test is an e-process: E starts at 1 and, as long as the null hypothesis holds, its expectation never exceeds 1,
so that the chance that it *ever* reaches 1/alpha is at most alpha (Ville's inequality), however often one looks.
`window` is what goes in, `policy` what comes out; each gate has a file: `error_rate`, `latency`, `latency_bound`,
`agreement`.  They stand on `rates` (two rates, with what the past suggests), `block_gro` (the e-value of one window),
`beta` and `e_values`.

Pure, and `math` only: scipy would cost the operator 40 MB.  Everything is in natural logarithms.
"""
