"""Fuzz the server's parsers: `python -m tests.fuzz --inputs 1000000`.

Inputs are bodies of requests and of labels, gRPC's messages, and what comes over whole connections of HTTP/1.1 and
HTTP/2: see `inputs`, `label_inputs`, `grpc_inputs`, `http1_inputs`, `http2_inputs`, `hpack_inputs`.  Input number n is
the same in every run: `--start n --inputs 1` shows again what failed.  Ends with 1 where an answer is not as it must
be, where the process grows, or where the inputs do not reach the parsers' branches.
"""

import argparse
import collections
import resource
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import coverage

ROOT = Path(__file__).resolve().parents[2]
PARSERS = ("v1", "v2", "labels", "tensors", "framing", "grpc_codec", "protobuf", "http1", "protocol", "http2", "hpack")
GRPC = 4  # of so many inputs, one is a message of gRPC
CONNECTION = 8  # of so many, one is a connection
MEASURED = 40_000  # inputs for the coverage: measuring makes them slow
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
    from tests.fuzz import inputs

    with tempfile.TemporaryDirectory() as folder:
        made = [getattr(artifacts, name)(Path(folder) / name) for name in inputs.MODELS]
        targets = [inputs.Target(one.folder, one.digest) for one in made]
    check = _checker(targets)
    found: collections.Counter[str] = collections.Counter()
    began, resident = time.monotonic(), 0
    for number in range(options.start, options.start + options.inputs):
        done = number - options.start
        if done == measured:
            watched.stop()
            resident = _resident()
        if done and done % 100_000 == 0:
            print(f"{done:,} inputs, {done / (time.monotonic() - began):,.0f}/s", flush=True)
        try:
            found[check(number)] += 1
        except BaseException:
            print(f"input {number} failed: python -m tests.fuzz --start {number} --inputs 1", flush=True)
            raise
    watched.stop()
    print(f"{options.inputs:,} inputs in {time.monotonic() - began:,.0f} s")
    for what, count in sorted(found.items()):
        print(f"  {what}: {count:,}")
    return max(_report_coverage(watched, package, measured), _report_growth(resident))


def _checker(targets: list[Any]) -> Callable[[int], str]:
    """What checks the input of a number, and says what it was and how it was answered."""
    from tests.fuzz import grpc_inputs, hpack_inputs, http1_inputs, http2_inputs, inputs, label_inputs
    from tests.fuzz.wire import Host

    # An answer that is given up in the moment in which it is begun.
    warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
    host = Host(targets[0].servable)
    http1, http2 = http1_inputs.Target(host), http2_inputs.Target(host)

    def check(number: int) -> str:
        r, target = Random(number), targets[number // GRPC % len(targets)]
        if number % GRPC == 0:
            return f"gRPC's message, {grpc_inputs.check(r, target)}"
        if number % CONNECTION != 1:
            return f"body, {inputs.check(r, target)}"
        match number // CONNECTION % 4:
            case 0:
                return f"HTTP/1.1, {http1_inputs.check(r, http1)}"
            case 1:
                return f"HTTP/2, {http2_inputs.check(r, http2)}"
            case 2:
                return f"labels, {label_inputs.check(r)}"
            case _:
                return f"HPACK, {hpack_inputs.check(r)}"

    return check


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
