"""The peer's side of the protocol that `process` describes."""

import json
import sys
import time
from collections.abc import Callable
from typing import Any

from inception_jax.tools.benchmark import throughput

# Seconds of less than a tenth of a core after which a process rests, and the most to wait for it.
_REST, _REST_AT_MOST = 0.2, 30.0


def read_spec() -> dict[str, Any]:
    """Reads the description of the work."""
    return json.loads(sys.stdin.buffer.readline())


def serve(measure: Callable[[], throughput.Speed]) -> None:
    """Measures once for each request, until there are no more."""
    for line in sys.stdin.buffer:
        assert line == b"measure\n", line
        speed = measure()
        come_to_rest()
        answer(**speed._asdict())


def come_to_rest() -> None:
    """Waits until all buffers are full and all threads of this process are idle."""
    deadline = time.monotonic() + _REST_AT_MOST
    while time.monotonic() < deadline:
        before = time.process_time()
        time.sleep(_REST)
        if time.process_time() - before < 0.1 * _REST:
            return
    answer(error=f"still busy {_REST_AT_MOST:.0f} s after its measurement")
    sys.exit(1)


def answer(**fields: Any) -> None:
    """Prints one JSON line for the benchmark."""
    print(json.dumps(fields), flush=True)
