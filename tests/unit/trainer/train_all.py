"""Trains every declared estimator in this process: `python train_all.py TASKS_FILE [reversed]`, digests on stdout.

Run by test_same_bytes.py in processes that differ in their hash seed and in what they trained before.
"""

import json
import os
import sys
from pathlib import Path

from modelmill_trainer.pins import pin

pin(os.environ)

from modelmill_contracts import task  # noqa: E402 - the pins come first
from modelmill_trainer.__main__ import carry_out  # noqa: E402

tasks = list(json.loads(Path(sys.argv[1]).read_text()).items())
answers = {}
for name, text in reversed(tasks) if "reversed" in sys.argv else tasks:
    report = carry_out({task.ENVIRONMENT: text})
    answers[name] = [report.result.artifact, report.result.runtime] if report.ok else report.message
print(json.dumps(answers))
