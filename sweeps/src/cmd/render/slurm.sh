#!/bin/bash
# Workers of sweep as an array of Slurm: sbatch FILE
#
# Each task is one worker. It takes the runs that the coordinator grants, of any sweep, until it is
# asked to leave: by its time limit, by `sweep drain`, or by
#     scancel --batch --signal=USR2 JOB
# It leaves with {{ drained }} where work is left. Slurm then starts the next task, or the same one again where
# the site has RequeueExit={{ drained }}; when all tasks have ended and runs are left, submit the file again.
#
#SBATCH --job-name=sweep-worker
#SBATCH --array=0-{{ last }}{% if let Some(at_once) = at_once %}%{{ at_once }}{% endif %}
#SBATCH --nodes=1
#SBATCH --ntasks=1
{%- if let Some(cpus) = cpus %}
#SBATCH --cpus-per-task={{ cpus }}
{%- endif %}
{%- if let Some(partition) = partition %}
#SBATCH --partition={{ partition }}
{%- endif %}
{%- if let Some(gres) = gres %}
#SBATCH --gres={{ gres }}
{%- endif %}
{%- if let Some(time) = time %}
#SBATCH --time={{ time }}
{%- endif %}
# A task that lost its node or was preempted is started again, and goes on in the same log.
#SBATCH --requeue
#SBATCH --open-mode=append
# So many seconds before the end a worker stops its runs with checkpoints, hands them in and leaves.
#SBATCH --signal=B:USR2@{{ notice }}

set -eu
umask 077

# The address and the token of the coordinator: in a file, never in an argument.
export SWEEP_ACCESS={{ access }}

# One worker at a time works in a state folder, so each task has its own. On a shared file system a task
# that is started again on another node hands in what it had left; on a disk of the node it cannot. Two
# arrays at the same time need two folders.
state={{ state }}/"${SLURM_ARRAY_TASK_ID:?submit this file with sbatch}"
{%- if let Some(lifetime) = lifetime %}

# A worker knows from Slurm when its job ends. An old Slurm does not say it, so then the limit above does.
lifetime=
[ -n "${SLURM_JOB_END_TIME:-}" ] || lifetime={{ lifetime }}s
{%- endif %}

# In the place of this shell, so that the signals of Slurm reach the worker.
exec {{ program }} worker --state "$state"{% if lifetime.is_some() %} ${lifetime:+--lifetime "$lifetime"}{% endif %}
