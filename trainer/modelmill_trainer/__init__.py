"""What a Job's pod runs: check a store, snapshot data, train and convert a model, verify an artifact.

`__main__` reads the task from the environment, and answers with a report.  One module per concern:
sources, reading, casting and checks bring data in; snapshot names and stores it; classes, parameters and
pipeline turn a declaration into an estimator; training, evaluation, conversion and artifact make a model.
Heavy libraries are imported only by the tasks that need them.
"""

import os

# Before it is imported: onnxruntime 1.32 otherwise reports to its maker over the Internet, and keeps a file for that.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
