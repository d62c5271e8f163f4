"""Every estimator that a TrainingJob trains, by this process alone and by two workers on loopback.

`python all_workers.py [NAME ...]` prints one JSON line for each: the digests of every file of both artifacts.  Run by
test_workers_together.py.
"""

import json
import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

from modelmill_trainer.pins import pin

pin(os.environ)

from all_estimators import Trainer, estimators  # noqa: E402 - the pins come first
from trainer_tasks import free_port  # noqa: E402

from modelmill_contracts import environment, task  # noqa: E402
from modelmill_trainer.__main__ import carry_out  # noqa: E402
from modelmill_trainer.cluster import Cluster, led  # noqa: E402
from modelmill_trainer.training import train  # noqa: E402
from modelmill_trainer.workers import Place  # noqa: E402


def main(names: list[str]) -> None:
    warnings.simplefilter("ignore")
    os.environ |= {
        environment.WORKERS: "2",
        environment.INDEX: "0",
        environment.SCHEDULER: f"127.0.0.1:{free_port()}",
        environment.JOB_UID: "survey",
        environment.WORKER_PORT_VARIABLE: str(free_port()),
    }
    place = Place.of(os.environ)
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other, led(place) as cluster:
        second = {**os.environ, environment.INDEX: "1", environment.WORKER_PORT_VARIABLE: str(free_port())}
        worker = subprocess.Popen([sys.executable, "-m", "modelmill_trainer.beside"], env=second, stdin=subprocess.PIPE)
        try:
            _survey(Trainer(Path(one)), Trainer(Path(other), lambda asked: _spread(asked, cluster)), names)
        finally:
            worker.terminate()
            worker.wait()


def _spread(asked: task.Task, cluster: Cluster) -> Any:
    declared = task.decode(task.encode(asked))
    if not isinstance(declared, task.TrainingTask):
        return carry_out({task.ENVIRONMENT: task.encode(asked)}).result
    try:
        return train(declared, cluster).result
    except Exception as error:
        return repr(error)


def _survey(alone: Trainer, spread: Trainer, names: list[str]) -> None:
    for name, kind, _, cls in estimators():
        if kind in ("classifier", "regressor") and (not names or name in names):
            for mixed in (False, True):
                found = [trainer.train(kind, cls, mixed=mixed) for trainer in (alone, spread)]
                print(json.dumps({"name": name, "mixed": mixed, "alone": found[0], "spread": found[1]}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
