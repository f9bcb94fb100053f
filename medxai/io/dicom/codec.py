"""Decoding of compressed frames outside this process, so that a codec that crashes or hangs takes nothing along."""

import json
import subprocess
import sys
from pathlib import Path
from threading import Timer
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

SECONDS = 120
_BASE_BYTES = 3 * 2**30


class CodecError(Exception):
    """The codec refused the frame, died on it or did not end."""


class Codec:
    """A decoding process, started with the first frame and ended with the `with` block; a dead one is replaced."""

    def __init__(self, memory: int) -> None:
        self._memory = memory + _BASE_BYTES
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Codec":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def decode(self, frame: bytes, facts: dict[str, Any]) -> NDArray[Any]:
        """The pixels of one compressed frame. Raises `CodecError`."""
        process = self._running()
        watch = Timer(SECONDS, process.kill)
        watch.start()
        try:
            reply, body = self._asked(process, frame, facts)
        except (OSError, ValueError) as error:
            self._end()
            raise CodecError(f"the decoder died or did not end within {SECONDS} s ({process.returncode})") from error
        finally:
            watch.cancel()
        if "error" in reply:
            raise CodecError(reply["error"])
        return np.frombuffer(body, reply["type"]).reshape(reply["shape"])

    def _asked(
        self, process: subprocess.Popen[bytes], frame: bytes, facts: dict[str, Any]
    ) -> tuple[dict[str, Any], bytes]:
        if process.stdin is None or process.stdout is None:
            raise OSError("no pipe")
        process.stdin.write(json.dumps(facts | {"size": len(frame)}).encode() + b"\n")
        process.stdin.write(frame)
        process.stdin.flush()
        reply = json.loads(process.stdout.readline())
        body = process.stdout.read(reply["size"])
        if len(body) != reply["size"]:
            raise OSError("answer cut short")
        return reply, body

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            worker = str(Path(__file__).with_name("worker.py"))
            self._process = subprocess.Popen(  # noqa: S603 - our own file, by the running interpreter
                [sys.executable, "-P", worker, str(self._memory)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        return self._process

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.communicate()
