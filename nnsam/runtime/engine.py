"""OpenVINO on the CPU: compiled networks and asynchronous requests."""

import hashlib
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnsam.errors import InputError
from nnsam.runtime.bundle import file_digest
from nnsam.runtime.compiled_cache import CompiledCache
from nnsam.runtime.openvino_import import import_openvino
from nnsam.runtime.precision import compile_hint

Inputs = Sequence[NDArray[np.float32]]


class Engine:
    """Compiles networks for this CPU.

    Nothing is sent over the network, see :mod:`nnsam.runtime.openvino_import`.

    Args:
        precision: "f32", "bf16", or "int8" for networks that were quantised; see
            :func:`nnsam.runtime.precision.choose_precision` for what the CPU can.
        threads: number of CPU threads; 0 leaves the choice to OpenVINO.
        cache_dir: where compiled networks are kept for the next process; None keeps none. See
            :mod:`nnsam.runtime.compiled_cache`.
        requests: how many inputs :meth:`CompiledNetwork.stream` has under way at a time.

    Raises:
        InputError: a negative number of threads, or no request.
        SetupError: OpenVINO is not installed.
    """

    def __init__(
        self, precision: str = "f32", threads: int = 0, cache_dir: str | Path | None = None, requests: int = 2
    ):
        if threads < 0:
            raise InputError(f"the number of threads is {threads}; expected 1 or more, or 0 for OpenVINO's choice")
        if requests < 1:
            raise InputError(f"the number of requests is {requests}; expected at least 1")
        openvino = import_openvino()
        self._core = openvino.Core()
        self._version = openvino.__version__
        self.precision, self._requests = precision, requests
        self._options: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": compile_hint(precision),
            "PERFORMANCE_HINT": "LATENCY",
        }
        if threads:
            self._options["INFERENCE_NUM_THREADS"] = threads
        # Older versions of OpenVINO would store the weights, too.
        can_cache = "ENABLE_WEIGHTLESS" in self._core.get_property("CPU", "SUPPORTED_PROPERTIES")
        self._cache = CompiledCache(Path(cache_dir)) if cache_dir is not None and can_cache else None

    def compile(self, path: str | Path, identity: str = "") -> "CompiledNetwork":
        """Reads and compiles a network, or takes it from the cache.

        Args:
            path: an .xml file of OpenVINO, with its .bin file beside it.
            identity: SHA-256 of both files, or anything else that differs where they do; computed if not given.

        Raises:
            InputError: OpenVINO cannot read the file.
        """
        path = Path(path)
        if self._cache is None:
            return CompiledNetwork(self._compile(path, self._options), self._requests)
        options = {**self._options, "ENABLE_WEIGHTLESS": True}
        key = self._key(identity or _identity(path))
        compiled = self._import(key, path, options)
        if compiled is None:
            compiled = self._compile(path, options)
            self._cache.store(key, lambda: _bytes(compiled.export_model()))
        return CompiledNetwork(compiled, self._requests)

    def _compile(self, path: Path, options: dict[str, Any]) -> Any:
        try:
            return self._core.compile_model(str(path), "CPU", options)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise InputError(
                f"OpenVINO {self._version} cannot use {path} ({reason}); update OpenVINO, or export the model again"
            ) from None

    def _import(self, key: str, path: Path, options: dict[str, Any]) -> Any:
        assert self._cache is not None
        content = self._cache.load(key)
        if content is None:
            return None
        try:
            return self._core.import_model(content, "CPU", {**options, "WEIGHTS_PATH": str(path.with_suffix(".bin"))})
        except RuntimeError:  # written by a build of OpenVINO with the same version that does not agree
            self._cache.remove(key)
            return None

    def _key(self, identity: str) -> str:
        """Names everything that compilation depends on: a network compiled for another precision crashes."""
        device = [
            self._core.get_property("CPU", name)
            for name in ("FULL_DEVICE_NAME", "DEVICE_ARCHITECTURE", "OPTIMIZATION_CAPABILITIES")
        ]
        parts = [self._version, device, sorted(self._options.items()), identity]
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]


class CompiledNetwork:
    """A network on the CPU.

    Safe for several threads: each call, and each stream, has requests of its own. Its work is done outside of
    Python's lock, and a Ctrl-C takes effect between requests.

    Args:
        compiled: OpenVINO's.
        requests: how many inputs a stream has under way.
    """

    def __init__(self, compiled: Any, requests: int = 2):
        self._compiled, self._limit = compiled, requests
        self._idle: list[Any] = []

    def __call__(self, *inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """Computes the first output, (B, ...), of one batch; the result is the caller's own."""
        return next(self.stream([inputs]))

    def stream(self, inputs: Iterable[Inputs]) -> Iterator[NDArray[np.float32]]:
        """Computes batches asynchronously: while one is computed, the next is drawn and the last result is used.

        Args:
            inputs: for each batch its arrays, one per input of the network; drawn at most `requests` ahead of the
                results. The arrays must not be changed until the batch's result is there.

        Yields:
            The first output of each batch, in order, as arrays that are the caller's own.
        """
        running: deque[tuple[Any, list[NDArray[np.float32]]]] = deque()  # the arrays are OpenVINO's inputs: kept
        try:
            for batch in inputs:
                if len(running) == self._limit:
                    yield self._finish(running)
                arrays = [np.ascontiguousarray(array, dtype=np.float32) for array in batch]
                request = self._idle.pop() if self._idle else self._compiled.create_infer_request()
                request.start_async(arrays, share_inputs=True)
                running.append((request, arrays))
            while running:
                yield self._finish(running)
        finally:
            for request, _ in running:  # left early: nothing may read memory that is freed
                with suppress(RuntimeError):
                    request.wait()

    def _finish(self, running: deque[tuple[Any, list[NDArray[np.float32]]]]) -> NDArray[np.float32]:
        request, _ = running[0]
        request.wait()
        running.popleft()
        # OpenVINO writes the next result into the same memory.
        result = np.array(request.get_output_tensor(0).data, dtype=np.float32, copy=True)
        self._idle.append(request)
        return result


def _bytes(exported: Any) -> bytes:
    return exported if isinstance(exported, bytes) else exported.getvalue()


def _identity(path: Path) -> str:
    weights = path.with_suffix(".bin")
    return file_digest(path) + (file_digest(weights) if weights.is_file() else "")
