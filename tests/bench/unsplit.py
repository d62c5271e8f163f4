"""Our server without the code that splits, to see what it costs where nothing is rolled out.

`python -m tests.bench.unsplit` is `modelmill_server`, but for the method that asks whether there is a split.
"""

import sys

from modelmill_server.__main__ import main
from modelmill_server.protocol import Connection


def _on_message_complete(self: Connection) -> None:
    """`Connection.on_message_complete` that knows of no split."""
    if self._body is not None:
        body, self._body = self._body, None
        self._outbox.send(self._transport, self._short_cut.answer(body, self._json_size))
    elif self._reading is not None:
        request, self._reading = self._reading, None
        request.whole = True
        if request.awaited:
            self._answer(request, self._app.call)


if __name__ == "__main__":
    Connection.on_message_complete = _on_message_complete  # type: ignore[method-assign]
    sys.exit(main())
