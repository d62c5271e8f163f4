"""Our server without its counters, to see what they cost: `python -m tests.bench.uncounted` is `modelmill_server`.

Nothing else is left out: the time of the model stays, since it stands in a header of each answer.
"""

import sys

from modelmill_server import inference
from modelmill_server.__main__ import main
from modelmill_server.app import App
from modelmill_server.inference import Codec, Outcome
from modelmill_server.model import Servable


def predict(
    self: App,  # noqa: ARG001
    servable: Servable,
    codec: Codec,
    body: bytes,
    json_size: int | None,
) -> Outcome:
    """`App._predict_now` without the two looks at the clock and without the count."""
    return inference.predict(servable, codec, body, json_size)


if __name__ == "__main__":
    App._predict_now = predict  # type: ignore[method-assign]  # noqa: SLF001
    sys.exit(main())
