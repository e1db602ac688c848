"""Where runs are made: on this machine, on a Ray cluster, on a cluster with Slurm.

Whatever makes a run only starts its process (:mod:`nnsam.fewshot.runs.worker`); what is to be done, and what was, is
on the disk, which all machines share.
"""

from nnsam.fewshot.runs.executors.executor import Executor, Outcome

__all__ = ["Executor", "Outcome"]
