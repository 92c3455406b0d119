"""A peer's side of the protocol of `inception_jax.tools.benchmark.peers.process`."""

import json
import sys
import time
from collections.abc import Callable
from typing import Any

from inception_jax.tools.benchmark import throughput

# At rest is who takes less than a tenth of a core for this long; in seconds.
_REST, _REST_AT_MOST = 0.2, 30.0


def read_spec() -> dict[str, Any]:
    """What the peer is to do."""
    return json.loads(sys.stdin.buffer.readline())


def serve(measure: Callable[[], throughput.Speed]) -> None:
    """Measures as often as it is told to."""
    for line in sys.stdin.buffer:
        assert line == b"measure\n", line
        speed = measure()
        come_to_rest()
        say(**speed._asdict())


def come_to_rest() -> None:
    """Waits until all buffers are full and no thread of this process works any more."""
    deadline = time.monotonic() + _REST_AT_MOST
    while time.monotonic() < deadline:
        before = time.process_time()
        time.sleep(_REST)
        if time.process_time() - before < 0.1 * _REST:
            return
    say(error=f"still busy after {_REST_AT_MOST:.0f} s with nobody asking")
    sys.exit(1)


def say(**answer: Any) -> None:
    """One JSON line to who asked."""
    print(json.dumps(answer), flush=True)
