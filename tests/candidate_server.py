"""A server of a user's that stands in for a model of 30 features, until it is told to misbehave.

    python3 ... NAME WAY [now]

It answers as a model does.  SIGUSR1, or `now` as it starts, makes it do as WAY says: crash, hang, error (500), late
(200 ms), or shape (it refuses what is sent, as a model of other features does).  Its text is given to a container of
the model server's image, so it needs nothing but Python, and is short.
"""

import http.server
import json
import os
import signal
import sys
import time
from typing import Any

NAME, WAY = sys.argv[1], sys.argv[2]
STATE = {"bad": sys.argv[3:] == ["now"]}
GOOD = {
    "model_name": NAME,
    "outputs": [
        {"name": "predict", "shape": [1], "datatype": "INT64", "data": [1]},
        {"name": "predict_proba", "shape": [1, 2], "datatype": "FP32", "data": [0.1, 0.9]},
    ],
}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.answer(200, {"name": NAME, "ready": True, "live": True, "platform": "", "inputs": [], "outputs": []})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length") or 0))
        if not STATE["bad"]:
            self.answer(200, GOOD)
        elif WAY == "crash":
            os._exit(1)
        elif WAY == "hang":
            time.sleep(3600)
        elif WAY == "late":
            time.sleep(0.2)
            self.answer(200, GOOD)
        elif WAY == "shape":
            self.answer(400, {"error": "this model takes 2 features"})
        else:
            self.answer(500, {"error": "bad"})

    def answer(self, status: int, body: Any) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
        self.wfile.flush()


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True


if __name__ == "__main__":
    if WAY == "crash" and STATE["bad"]:
        sys.exit("it crashes as it starts")
    signal.signal(signal.SIGUSR1, lambda *_: STATE.update(bad=True))
    Server(("127.0.0.1", 9000), Handler).serve_forever()
