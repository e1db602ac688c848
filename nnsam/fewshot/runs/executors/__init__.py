"""Where runs are made: on this machine, on a Ray cluster, on a cluster with Slurm.

Whatever makes a run (a :class:`nnsam.fewshot.runs.matrix.Executor`) only starts its process
(:mod:`nnsam.fewshot.runs.worker`); what is to be done, and what was, is on the disk, which all machines share.
"""
