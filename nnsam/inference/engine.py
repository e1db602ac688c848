"""OpenVINO on the CPU: compiled networks and asynchronous requests."""

import contextlib
import hashlib
import os
import threading
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnsam.errors import InputError, NnsamError, NnsamWarning, SetupError
from nnsam.support.files import atomic_file, sha256_of_file
from nnsam.support.openvino import check_threads, compile_hint, import_openvino

LIMIT = 2**29
_CHECKSUM = 32  # bytes of SHA-256 in front


def default_cache_dir() -> Path | None:
    """Returns `compiled` in NNSAM_HOME, or in the platform's user cache folder; None for a user without a home."""
    from nnsam.support.environment import home

    try:
        return home() / "compiled"
    except SetupError:  # nothing is kept then
        return None


class CompiledCache:
    """Bytes by key in a folder; damaged and unreadable entries count as absent.

    Safe for several processes: files are only ever replaced as a whole.

    Args:
        folder: made when first needed. A folder that cannot be written to gives one warning, no error.
        limit: bytes of all entries together.
    """

    def __init__(self, folder: Path, limit: int = LIMIT):
        self.folder, self.limit = folder, limit
        self._warned = False

    def load(self, key: str) -> bytes | None:
        """Returns what was stored, or None."""
        path = self._path(key)
        try:
            content = path.read_bytes()
        except OSError:
            return None
        if hashlib.sha256(content[_CHECKSUM:]).digest() != content[:_CHECKSUM]:
            self.remove(key)
            return None
        with contextlib.suppress(OSError):
            os.utime(path)  # used now
        return content[_CHECKSUM:]

    def store(self, key: str, make: Callable[[], bytes]) -> None:
        """Stores what `make` returns, and removes what is too much."""
        try:
            with atomic_file(self._path(key)) as draft:
                content = make()
                draft.write_bytes(hashlib.sha256(content).digest() + content)
            self._shrink()
        except (OSError, RuntimeError, NnsamError) as error:  # RuntimeError: OpenVINO's
            self._warn(error)

    def remove(self, key: str) -> None:
        """Forgets an entry."""
        with contextlib.suppress(OSError):
            self._path(key).unlink()

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.blob"

    def _shrink(self) -> None:
        entries = []
        for path in self.folder.glob("*.blob"):
            with contextlib.suppress(OSError):  # another process removed it
                state = path.stat()
                entries.append((state.st_mtime, state.st_size, path))
        total = 0
        for _, size, path in sorted(entries, reverse=True):
            total += size
            if total > self.limit:
                with contextlib.suppress(OSError):
                    path.unlink()

    def _warn(self, error: Exception) -> None:
        if not self._warned:
            self._warned = True
            message = str(error).strip().splitlines()[-1].rstrip(".") if str(error).strip() else type(error).__name__
            warnings.warn(
                f"compiled networks cannot be kept in {self.folder} ({message}), so every start takes a little longer; "
                "set NNSAM_HOME to a folder that can be written to",
                NnsamWarning,
                stacklevel=4,
            )


Inputs = Sequence[NDArray[np.float32]]

# Smaller batches are no quicker than their patches one by one, ...
_WORTHWHILE = 4
# ... compiling takes as long as some ten to thirty passes, so that a batch size has to come so often, ...
_COMMON = 4
# ... and each compiled network holds the weights once more.
_MOST_VARIANTS = 3
_ANY = 0  # as a batch size


class Engine:
    """Compiles networks for this CPU.

    Nothing is sent over the network, see :mod:`nnsam.support.openvino`.

    Args:
        precision: "f32", "bf16", or "int8" for networks that were quantised; see
            :func:`nnsam.inference.bundle.choose_precision` for what the CPU can.
        threads: number of CPU threads; 0 leaves the choice to OpenVINO.
        cache_dir: where compiled networks are kept for the next process; None keeps none. See
            :mod:`nnsam.inference.engine`.
        requests: how many inputs :meth:`CompiledNetwork.stream` has under way at a time.

    Raises:
        InputError: a negative number of threads, or no request.
        SetupError: OpenVINO is not installed.
    """

    def __init__(
        self, precision: str = "f32", threads: int = 0, cache_dir: str | Path | None = None, requests: int = 2
    ):
        check_threads(threads)
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
        """Returns a network, which is read and compiled, or taken from the cache, when it is first used.

        Args:
            path: an .xml file of OpenVINO, with its .bin file beside it.
            identity: SHA-256 of both files, or anything else that differs where they do; computed if not given.

        Raises:
            InputError: with a cache, the file cannot be read. On use: OpenVINO cannot read it.
        """
        path = Path(path)
        if self._cache is not None:
            identity = identity or _identity(path)
        by_size = self.precision == "int8"
        return CompiledNetwork(lambda size: self._variant(path, identity, size), self._requests, by_size)

    def _variant(self, path: Path, identity: str, size: int) -> Any:
        """Compiles a network for one batch size, 0 for any, or takes it from the cache."""
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
            if size != _ANY:
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

    A network that is compiled for any batch size takes longer, measured on the box network (OpenVINO 2026.4, AMX): 12 %
    in bfloat16 for one patch and 4 % for eight, 35 % in int8. It is therefore compiled for single patches as long as
    batches are small; and, with `by_size`, for the size of the first batch, for one, and for sizes that come again and
    again, of which other batches are put together. That takes memory, which float weights have no use for.

    Safe for several threads: each call, and each stream, has requests of its own. Its work is done outside of
    Python's lock, and a Ctrl-C takes effect between requests.

    Args:
        compile_for: gives OpenVINO's compiled network for a batch size, 0 for any.
        requests: how many inputs a stream has under way.
        by_size: see above.
    """

    def __init__(self, compile_for: Callable[[int], Any], requests: int = 2, by_size: bool = False):
        self._compile_for, self._limit, self._by_size = compile_for, requests, by_size
        self._lock = threading.Lock()
        self._variants: dict[int, _Variant] = {}
        self._seen: Counter[int] = Counter()

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
                for variant, size in self._choose(len(arrays[0])):
                    running[-1].append(variant.start([array[first : first + size] for array in arrays]))
                    first += size
            while running:
                yield self._finish(running)
        finally:
            for unfinished in running:  # left early: nothing may read memory that is freed
                for request in unfinished:
                    with suppress(RuntimeError):
                        request.request.wait()

    def _choose(self, count: int) -> list[tuple["_Variant", int]]:
        """Returns networks and how many patches each gets, `count` in all; compiles what is missing."""
        with self._lock:
            if self._by_size:
                return self._sized(count)
            if count < _WORTHWHILE and _ANY not in self._variants:
                return [(self._compiled(1), 1)] * count
            chosen = self._compiled(_ANY)
            self._variants.pop(1, None)  # for the memory
            return [(chosen, count)]

    def _sized(self, count: int) -> list[tuple["_Variant", int]]:
        self._seen[count] += 1
        has_room = len(self._variants.keys() | {1}) < _MOST_VARIANTS
        is_common = self._seen[count] >= _COMMON and has_room
        if count >= _WORTHWHILE and (not self._variants or is_common):
            self._compiled(count)
        chosen = []
        for size in sorted(self._variants, reverse=True):
            chosen += [(self._variants[size], size)] * (count // size)
            count %= size
        return chosen + [(self._compiled(1), 1)] * count if count else chosen

    def _compiled(self, size: int) -> "_Variant":
        if size not in self._variants:
            self._variants[size] = _Variant(self._compile_for(size))
        return self._variants[size]

    def _finish(self, running: "deque[list[_Running]]") -> NDArray[np.float32]:
        for part in running[0]:
            part.request.wait()
        results = [part.result() for part in running.popleft()]
        return results[0] if len(results) == 1 else np.concatenate(results)


class _Variant:
    """A network for one batch size or any, and its requests that have nothing to do.

    OpenVINO's AsyncInferQueue (2026.4) is not used for them: two threads that share one get each other's results, and
    each input of a wrong shape takes one of its requests away for good, after the last of which it waits forever.
    """

    def __init__(self, compiled: Any):
        self.compiled = compiled
        self.idle: list[Any] = []

    def start(self, arrays: list[NDArray[np.float32]]) -> "_Running":
        try:
            request = self.idle.pop()
        except IndexError:  # not asked before: another thread may take the last one in between
            request = self.compiled.create_infer_request()
        try:
            request.start_async(arrays, share_inputs=True)
        except RuntimeError as error:  # OpenVINO's, of shapes that a description of others has promised
            shapes = ", ".join(" x ".join(map(str, array.shape)) for array in arrays)
            raise InputError(
                f"the network does not take inputs of {shapes}, as the description of its model says; export the model "
                "again"
            ) from error
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
    return sha256_of_file(path) + (sha256_of_file(weights) if weights.is_file() else "")
