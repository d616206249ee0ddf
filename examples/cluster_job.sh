#!/bin/bash
# Runs that outlive their jobs, one for each seed of the array:
#
#   sbatch cluster_job.sh painn-ethanol CH3CH2OH --steps 2000000 --temperature 500
#
# Two minutes before its time is up a job is told to stop. It ends after the present step, with a
# checkpoint, and waits in the queue again until all steps are done.
#SBATCH --job-name=mdxai
#SBATCH --array=1-4
#SBATCH --ntasks=1
#SBATCH --time=04:00:00
#SBATCH --signal=USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=run-%a.log

export OMP_NUM_THREADS=1  # small networks are fastest on one
srun mdxai run "$@" --seed "$SLURM_ARRAY_TASK_ID" --out "runs/$SLURM_ARRAY_TASK_ID" --resume --quiet
code=$?
# 5: stopped, ready to be resumed. 138: told to stop before it had begun.
if [ $code -eq 5 ] || [ $code -eq 138 ]; then
    scontrol requeue "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"
fi
exit $code
