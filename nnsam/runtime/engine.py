"""OpenVINO on the CPU: compiled networks and asynchronous requests."""

import hashlib
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
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

#: Batch sizes that networks are compiled for, the largest first; other batches are put together of these. Measured on
#: the box network (OpenVINO 2026.4, AMX): a network for any batch takes 12 % longer in bfloat16, 35 % in int8.
BATCH_SIZES = (8, 4, 1)


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
        if self._cache is not None:
            identity = identity or _identity(path)
        return CompiledNetwork(lambda size: self._variant(path, identity, size), self._requests)

    def _variant(self, path: Path, identity: str, size: int) -> Any:
        """Compiles a network for one batch size, or takes it from the cache."""
        if self._cache is None:
            return self._compile(path, size, self._options)
        options = {**self._options, "ENABLE_WEIGHTLESS": True}
        key = self._key(identity, size)
        compiled = self._import(key, path, options)
        if compiled is None:
            compiled = self._compile(path, size, options)
            self._cache.store(key, lambda: _bytes(compiled.export_model()))
        return compiled

    def _compile(self, path: Path, size: int, options: dict[str, Any]) -> Any:
        try:
            model = self._core.read_model(str(path))
            model.reshape({port: _with_batch(port.get_partial_shape(), size) for port in model.inputs})
            return self._core.compile_model(model, "CPU", options)
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

    def _key(self, identity: str, size: int) -> str:
        """Names everything that compilation depends on: a network compiled for another precision crashes."""
        device = [
            self._core.get_property("CPU", name)
            for name in ("FULL_DEVICE_NAME", "DEVICE_ARCHITECTURE", "OPTIMIZATION_CAPABILITIES")
        ]
        parts = [self._version, device, sorted(self._options.items()), size, identity]
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]


class CompiledNetwork:
    """A network on the CPU.

    It is compiled for batches of one at once, and for the other :data:`BATCH_SIZES` when they are first needed.

    Safe for several threads: each call, and each stream, has requests of its own. Its work is done outside of
    Python's lock, and a Ctrl-C takes effect between requests.

    Args:
        compile_for: gives OpenVINO's compiled network for a batch size.
        requests: how many inputs a stream has under way.
    """

    def __init__(self, compile_for: Callable[[int], Any], requests: int = 2):
        self._compile_for, self._limit = compile_for, requests
        self._lock = threading.Lock()
        self._variants = {1: _Variant(compile_for(1))}

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
        running: deque[list[_Running]] = deque()
        try:
            for batch in inputs:
                if len(running) == self._limit:
                    yield self._finish(running)
                running.append([])
                arrays = [np.ascontiguousarray(array, dtype=np.float32) for array in batch]
                first = 0
                for size in split_batch(len(arrays[0])):
                    part = [array[first : first + size] for array in arrays]
                    running[-1].append(self._variant(size).start(part))
                    first += size
            while running:
                yield self._finish(running)
        finally:
            for parts in running:  # left early: nothing may read memory that is freed
                for part in parts:
                    with suppress(RuntimeError):
                        part.request.wait()

    def _variant(self, size: int) -> "_Variant":
        with self._lock:
            if size not in self._variants:
                self._variants[size] = _Variant(self._compile_for(size))
            return self._variants[size]

    def _finish(self, running: "deque[list[_Running]]") -> NDArray[np.float32]:
        for part in running[0]:
            part.request.wait()
        results = [part.result() for part in running.popleft()]
        return results[0] if len(results) == 1 else np.concatenate(results)


def split_batch(count: int) -> list[int]:
    """Splits a batch into sizes that networks are compiled for.

    Example:
        >>> split_batch(22)
        [8, 8, 4, 1, 1]
    """
    sizes = []
    for size in BATCH_SIZES:
        sizes += [size] * (count // size)
        count %= size
    return sizes


class _Variant:
    """A network for one batch size, and its requests that have nothing to do."""

    def __init__(self, compiled: Any):
        self.compiled = compiled
        self.idle: list[Any] = []

    def start(self, arrays: list[NDArray[np.float32]]) -> "_Running":
        request = self.idle.pop() if self.idle else self.compiled.create_infer_request()
        request.start_async(arrays, share_inputs=True)
        return _Running(self, request, arrays)


@dataclass
class _Running:
    """A request under way; the arrays are OpenVINO's inputs and are kept for it."""

    variant: _Variant
    request: Any
    arrays: list[NDArray[np.float32]]

    def result(self) -> NDArray[np.float32]:
        # OpenVINO writes the next result into the same memory.
        result = np.array(self.request.get_output_tensor(0).data, dtype=np.float32, copy=True)
        self.variant.idle.append(self.request)
        return result


def _with_batch(shape: Any, size: int) -> Any:
    shape = type(shape)(shape)
    shape[0] = size
    return shape


def _bytes(exported: Any) -> bytes:
    return exported if isinstance(exported, bytes) else exported.getvalue()


def _identity(path: Path) -> str:
    weights = path.with_suffix(".bin")
    return file_digest(path) + (file_digest(weights) if weights.is_file() else "")
