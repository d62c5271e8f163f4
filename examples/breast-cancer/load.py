"""Load: a few clients with kept-alive connections that ask without a pause until /tmp/stop exists.

A request is lost when it has no answer, or another one than 200.  A client opens a new connection only where the
server said `connection: close`, as every HTTP client does; nothing is tried twice.
"""

import http.client
import json
import sys
import threading
from collections import Counter
from pathlib import Path

HOST, MODEL, FEATURES, CLIENTS = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
STOP = Path("/tmp/stop")
BODY = json.dumps({"inputs": [{"name": "input", "shape": [1, FEATURES], "datatype": "FP32", "data": [1.0] * FEATURES}]})


def ask(versions: Counter, lost: list) -> None:
    connection = http.client.HTTPConnection(HOST, timeout=10)
    while not STOP.exists():
        try:
            connection.request("POST", f"/v2/models/{MODEL}/infer", BODY)
            answer = connection.getresponse()
            answer.read()
        except OSError as error:
            lost.append(repr(error))
            connection.close()
            continue
        except http.client.HTTPException as error:
            lost.append(repr(error))
            connection.close()
            continue
        if answer.status != 200:
            lost.append(f"status {answer.status}")
        else:
            versions[answer.headers["modelmill-model-version"]] += 1


totals = [(Counter(), []) for _ in range(CLIENTS)]
threads = [threading.Thread(target=ask, args=total) for total in totals]
for thread in threads:
    thread.start()
Path("/tmp/started").touch()
for thread in threads:
    thread.join()
versions = sum((versions for versions, _ in totals), Counter())
lost = [error for _, errors in totals for error in errors]
result = {"requests": versions.total() + len(lost), "versions": dict(versions), "lost": len(lost), "first": lost[:5]}
print(json.dumps(result))
