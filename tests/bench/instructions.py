"""Instructions of one request, with counters and without, as callgrind counts them: the same each time, to 0.1 %.

A process under valgrind answers the same requests by the same code as behind a connection, first with counters and
then without.  It asks callgrind itself to begin and to end a count, so that nothing else is in it.  The kernel and the
event loop are not there.  Valgrind knows no AVX-512: numpy and onnxruntime take AVX2 there.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from tests.bench import bodies, profile, uncounted
from tests.bench.models import Model
from tests.bench.processes import ROOT

from modelmill_server.app import App

_ROUNDS = 8  # over all bodies: several full blocks of rows, which are counted then


class Instructions(NamedTuple):
    """Of one request, with counters and without."""

    counted: float
    uncounted: float

    def __str__(self) -> str:
        cost = self.counted - self.uncounted
        return f"{cost:,.0f} of {self.counted:,.0f}, {100 * cost / self.counted:.1f} %"


def measure(model: Model, file: Path) -> Instructions | None:
    """Of a request with a body in `file`; None where there is no valgrind."""
    if shutil.which("valgrind") is None or shutil.which("callgrind_control") is None:
        return None
    requests = _ROUNDS * len(bodies.read(file))
    with tempfile.TemporaryDirectory() as name:
        output = Path(name) / "counts"
        valgrind = ["valgrind", "-q", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={output}"]
        program = [sys.executable, "-m", "tests.bench.instructions", str(model.artifact), model.digest, str(file)]
        environment = {**os.environ, "PYTHONHASHSEED": "0"}
        done = subprocess.run(
            [*valgrind, *program], check=False, capture_output=True, text=True, cwd=ROOT, env=environment
        )
        if done.returncode:
            raise SystemExit(f"{' '.join(valgrind)}:\n{done.stdout}{done.stderr}")
        counted, uncounted = (_total(output.with_name(f"{output.name}.{number}")) / requests for number in (1, 2))
    return Instructions(counted, uncounted)


def _total(file: Path) -> int:
    found = re.search(r"^totals: (\d+)$", file.read_text(), re.MULTILINE)
    if found is None:
        raise SystemExit(f"callgrind wrote no totals into {file.name}")
    return int(found[1])


def main(artifact: str, digest: str, file: str) -> None:
    """Answer the requests under callgrind: one count with counters, one without."""
    app = profile.app(Path(artifact), digest)
    receive = profile.receiver(app)
    requests = [profile.request(body.content) for body in bodies.read(Path(file))]
    _control("--instr=on")
    for predict in (App._predict_now, uncounted.predict):  # noqa: SLF001 - what counts, and what does not
        App._predict_now = predict  # type: ignore[method-assign]  # noqa: SLF001
        for round_ in range(2 * _ROUNDS):
            if round_ == _ROUNDS:  # everything was called before
                _control("--zero")
            for request in requests:
                receive(request)
        _control("--dump")


def _control(order: str) -> None:
    subprocess.run(["callgrind_control", order, str(os.getpid())], check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main(*sys.argv[1:])
