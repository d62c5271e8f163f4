"""Fuzz the server's parsers: `python -m tests.fuzz --inputs 1000000`.

Input number n is the same in every run: `--start n --inputs 1` shows again what failed.  Ends with 1 where an
answer is not as it must be, where the process grows, or where the inputs do not reach the parsers' branches.
"""

import argparse
import collections
import resource
import sys
import tempfile
import time
from pathlib import Path
from random import Random

import coverage

ROOT = Path(__file__).resolve().parents[2]
PARSERS = ("v1", "v2", "tensors", "framing", "grpc_codec", "protobuf")
GRPC = 4  # of so many inputs, one
MEASURED = 20_000  # inputs for the coverage: measuring makes them slow
BRANCHES = 95.0  # per cent
GROWTH = 32 << 20  # bytes, after all that is cached is cached


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--start", type=int, default=0)
    options = parser.parse_args()
    sys.path.insert(0, str(ROOT / "tests" / "unit" / "server"))
    measured = min(options.inputs, MEASURED)
    package = ROOT / "model_server" / "modelmill_server"
    watched = coverage.Coverage(
        data_file=None, branch=True, include=[str(package / f"{name}.py") for name in PARSERS], messages=False
    )
    watched.start()  # before the parsers are imported, so that their definitions count
    import artifacts
    from tests.fuzz import grpc_inputs, inputs

    with tempfile.TemporaryDirectory() as folder:
        made = [getattr(artifacts, name)(Path(folder) / name) for name in inputs.MODELS]
        targets = [inputs.Target(one.folder, one.digest) for one in made]
    statuses: collections.Counter[int] = collections.Counter()
    began, resident = time.monotonic(), 0
    for number in range(options.start, options.start + options.inputs):
        done = number - options.start
        if done == measured:
            watched.stop()
            resident = _resident()
        if done and done % 100_000 == 0:
            print(f"{done:,} inputs, {done / (time.monotonic() - began):,.0f}/s, {dict(statuses)}", flush=True)
        try:
            check = grpc_inputs.check if number % GRPC == 0 else inputs.check
            statuses[check(Random(number), targets[number // GRPC % len(targets)])] += 1
        except BaseException:
            print(f"input {number} failed: python -m tests.fuzz --start {number} --inputs 1", flush=True)
            raise
    watched.stop()
    print(f"{options.inputs:,} inputs in {time.monotonic() - began:,.0f} s: {dict(sorted(statuses.items()))}")
    return max(_report_coverage(watched, package, measured), _report_growth(resident))


def _report_coverage(watched: coverage.Coverage, package: Path, measured: int) -> int:
    print(f"branches of the parsers that the first {measured:,} inputs took:")
    code = 0
    for name in PARSERS:
        numbers = watched._analyze(str(package / f"{name}.py")).numbers  # noqa: SLF001 - no public call gives branches
        share = 100 * numbers.n_executed_branches / max(numbers.n_branches, 1)
        missing = watched.analysis2(str(package / f"{name}.py"))[4]
        print(f"  {name}.py {share:.1f} % of {numbers.n_branches}" + (f", lines missed: {missing}" if missing else ""))
        if share < BRANCHES and measured == MEASURED:
            code = 1
    return code


def _report_growth(before: int) -> int:
    if not before:
        return 0
    growth = _resident() - before
    print(f"resident memory grew by {growth / (1 << 20):.1f} MiB")
    return int(growth > GROWTH)


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


if __name__ == "__main__":
    sys.exit(main())
