"""Asks for predictions of rows of a CSV file, fifty at a time in random order, until /tmp/stop exists.

While /tmp/shift exists, the first feature of each row is half as large again, as from an instrument that is not
calibrated.  The last column of the file is the target, and is left out.
"""

import csv
import http.client
import json
import random
import sys
import time
from pathlib import Path

HOST, MODEL, FILE = sys.argv[1:]
SHIFT, STOP = Path("/tmp/shift"), Path("/tmp/stop")
EACH, PAUSE = 50, 0.25  # rows of a request, and seconds to the next

with Path(FILE).open() as file:
    rows = [[float(value) for value in row[:-1]] for row in list(csv.reader(file))[1:]]
answered = 0
while not STOP.exists():
    chosen = [list(row) for row in random.choices(rows, k=EACH)]  # noqa: S311 - no secrets
    for row in chosen if SHIFT.exists() else ():
        row[0] *= 1.5
    data = [value for row in chosen for value in row]
    body = json.dumps({"inputs": [{"name": "input", "shape": [EACH, len(rows[0])], "datatype": "FP32", "data": data}]})
    connection = http.client.HTTPConnection(HOST, timeout=10)
    try:
        connection.request("POST", f"/v2/models/{MODEL}/infer", body)
        answer = connection.getresponse()
        answer.read()
        answered += EACH * (answer.status == 200)
        Path("/tmp/started").touch()
    except (OSError, http.client.HTTPException) as error:
        print(f"no answer: {error!r}", flush=True)
    finally:
        connection.close()
    time.sleep(PAUSE)
print(json.dumps({"rows": answered}))
