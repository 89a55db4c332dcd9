#!/bin/bash
# A cohort on eight nodes of a Slurm cluster, into one shared folder:   sbatch examples/slurm_array.sh cohort.tsv out/
# A task that is killed or runs out of time is submitted again with the same command; finished scans are not done again.
#SBATCH --array=1-8
#SBATCH --cpus-per-task=4
#SBATCH --mem=16G
#SBATCH --time=12:00:00
#SBATCH --signal=B:TERM@60
set -eu
exec uadtk segment "$1" -o "$2" --shard "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT" --jobs 4 --threads 4
