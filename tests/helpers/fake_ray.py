"""A stand-in for Ray whose workers compute in this process; what they are given and return goes through pickle."""

import itertools
import pickle
import sys
from contextlib import nullcontext
from types import SimpleNamespace


class RayError(Exception):
    """As Ray's: something of Ray's went wrong."""


class RayTaskError(RayError):
    """As Ray's: a task raised."""

    def __init__(self, cause):
        super().__init__(f"a trace\n{cause}")
        self.cause = cause


class FakeRay:
    """Takes the place of the module `ray`, with `nnsam.support.ray_cluster.connected` around it.

    Args:
        monkeypatch: pytest's.
        processors: of the only machine.
        lost: called with an item before each attempt; true where its worker is then lost.
        slow: called with an item; true where its task ends only when no other one can.

    Attributes:
        options: of `ray.remote`.
        attempts: of each task that was begun, in order.
        most: tasks under way at the same time.
        cancelled: (task, force) of each that was cancelled.
    """

    def __init__(self, monkeypatch, processors=2, lost=lambda item: False, slow=lambda item: False):
        self.processors, self.lost, self.slow = processors, lost, slow
        self.exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)
        self.options, self.attempts, self.cancelled, self.most = {}, [], [], 0
        self._running, self._numbers = {}, itertools.count()
        monkeypatch.setitem(sys.modules, "ray", self)
        monkeypatch.setitem(sys.modules, "ray.exceptions", self.exceptions)

    def connected(self, address, workers):
        """In the place of the function of this name."""
        return nullcontext((workers or 1, self.processors))

    def remote(self, **options):
        self.options = options

        def submit(function, item):
            task = f"task {next(self._numbers)}"
            self._running[task] = function, item
            self.most = max(self.most, len(self._running))
            return task

        return lambda function: SimpleNamespace(remote=lambda item: submit(function, item))

    def wait(self, tasks, num_returns, timeout):
        assert set(tasks) == set(self._running)
        assert num_returns == 1
        ended = min(tasks, key=lambda task: self.slow(self._running[task][1]))
        return [ended], [task for task in tasks if task != ended]

    def get(self, task):
        function, item = self._running.pop(task)
        for _ in range(1 + self.options["max_retries"]):
            self.attempts.append(item)
            if self.lost(item):
                error = RayError("The worker died.\nand more lines")
                continue
            try:
                return pickle.loads(pickle.dumps(function(pickle.loads(pickle.dumps(item)))))
            except Exception as cause:
                error = RayTaskError(cause)
                if not self.options["retry_exceptions"]:
                    break
        raise error

    def cancel(self, task, force):
        self.cancelled.append((task, force))

    def nodes(self):
        return [{"Alive": True, "Resources": {"CPU": 2.0 * self.processors}}]
