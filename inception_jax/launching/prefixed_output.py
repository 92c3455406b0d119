"""The output of several processes, line by line, each line with its process's number."""

import os
import selectors
import subprocess
import sys
from collections.abc import Sequence


class PrefixedOutput:
    """The pipes of processes, written to standard error as `[1] a line`.

    Read without threads: where a parent has several, the kernel sends its children the signal that
    it was killed once for each.
    """

    def __init__(self, processes: Sequence[subprocess.Popen[bytes]]):
        self._selector = selectors.DefaultSelector()
        self._pipes = {k: process.stdout for k, process in enumerate(processes) if process.stdout}
        self._partial_lines = dict.fromkeys(self._pipes, b"")
        for k, pipe in self._pipes.items():
            self._selector.register(pipe, selectors.EVENT_READ, k)

    def write(self, seconds: float) -> bool:
        """Writes what there is, after waiting at most `seconds` for it.

        Returns:
          False once all pipes are closed.
        """
        for key, _ in self._selector.select(seconds):
            output = os.read(key.fd, 1 << 16)
            *lines, partial = (self._partial_lines[key.data] + output).split(b"\n")
            if not output:
                self._selector.unregister(key.fileobj)
                lines = [partial] if partial else []
            self._partial_lines[key.data] = partial
            for line in lines:
                sys.stderr.write(f"[{key.data}] {line.decode(errors='replace')}\n")
            sys.stderr.flush()
        return bool(self._selector.get_map())

    def close(self) -> None:
        """Closes the pipes."""
        self._selector.close()
        for pipe in self._pipes.values():
            pipe.close()
