"""Asks for predictions of rows of a CSV file, one by one, and says each second what was true, until /tmp/stop exists.

While /tmp/shift exists, the first feature of each row is half as large again, as from an instrument that is not
calibrated.  The last column of the file is the truth.  A request is lost when it has no answer, or another than 200.
"""

import csv
import http.client
import itertools
import json
import random
import socket
import sys
import threading
import time
from collections import Counter
from pathlib import Path

HOST, MODEL, FILE, CLIENTS = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
SHIFT, STOP = Path("/tmp/shift"), Path("/tmp/stop")
PAUSE = 0.01  # seconds between two requests of a client

with Path(FILE).open() as file:
    ROWS = [([float(value) for value in row[:-1]], int(row[-1])) for row in list(csv.reader(file))[1:]]
lost: list[str] = []
versions: Counter[str] = Counter()
labels: Counter[str] = Counter()


def clients(number: int) -> None:
    """One client with a kept-alive connection."""
    connection = http.client.HTTPConnection(HOST, timeout=10)
    known: list[dict] = []  # what was true of what was asked in this second
    said = time.monotonic()
    for count in itertools.count():
        time.sleep(PAUSE)
        if STOP.exists():
            break
        values, truth = random.choice(ROWS)  # noqa: S311 - no secrets
        data = [values[0] * 1.5, *values[1:]] if SHIFT.exists() else values
        id_ = f"{socket.gethostname()}-{number}-{START}-{count}"
        tensor = {"name": "input", "shape": [1, len(data)], "datatype": "FP32", "data": data}
        try:
            connection.request("POST", f"/v2/models/{MODEL}/infer", json.dumps({"id": id_, "inputs": [tensor]}))
            answer = connection.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException) as error:
            lost.append(repr(error))
            connection.close()
            continue
        if answer.status == 200:
            versions[answer.headers["modelmill-model-version"]] += 1
            known.append({"id": id_, "label": truth})
        else:
            lost.append(f"status {answer.status}")
        if time.monotonic() - said > 1 or len(known) > 1000:
            known, said = tell(connection, known), time.monotonic()
    tell(connection, known)


def wait_until_it_serves() -> None:
    """Nothing is lost before there is somebody to lose it."""
    while True:
        connection = http.client.HTTPConnection(HOST, timeout=10)
        try:
            connection.request("GET", f"/v2/models/{MODEL}/ready")
            if connection.getresponse().status == 200:
                return
        except (OSError, http.client.HTTPException):
            pass
        finally:
            connection.close()
        time.sleep(1)


def tell(connection: http.client.HTTPConnection, known: list[dict]) -> list[dict]:
    """Say what was true; what was not acknowledged is said again the next time."""
    try:
        connection.request("POST", f"/v2/models/{MODEL}/labels", json.dumps({"labels": known[:1000]}))
        answer = connection.getresponse()
        answer.read()
    except (OSError, http.client.HTTPException) as error:
        connection.close()
        labels[type(error).__name__] += 1
        return known
    if answer.status != 200:
        labels[f"status {answer.status}"] += 1
        return known
    labels["acknowledged"] += len(known[:1000])
    return known[1000:]


wait_until_it_serves()
START = int(time.time())
threads = [threading.Thread(target=clients, args=(number,)) for number in range(CLIENTS)]
for thread in threads:
    thread.start()
Path("/tmp/started").touch()
for thread in threads:
    thread.join()
result = {"requests": versions.total() + len(lost), "versions": versions, "lost": len(lost), "first": lost[:5]}
print(json.dumps(result | {"labels": labels}))
