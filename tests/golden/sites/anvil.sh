#!/bin/bash

#SBATCH --job-name=workflow.block-0.TIME
#SBATCH --output=SCRIPTS/workflow.block-0.TIME.stdout
#SBATCH --error=SCRIPTS/workflow.block-0.TIME.stderr
#SBATCH --nodes=1
#SBATCH --time=720
#SBATCH --ntasks-per-node=1
#SBATCH --no-requeue
#SBATCH --partition=gpu
#SBATCH --account=project
#SBATCH --gres=gpu:4
#SBATCH --cpus-per-task=128

WORKFLOW_BLOCK_START=$(date +%s)
module load modtree/gpu || [[ ":${LOADEDMODULES:-}:" == *:modtree/gpu[:/]* ]] || { echo 'module load modtree/gpu failed' >&2; exit 1; }
export PARSL_CORES=128


export JOBNAME="workflow.block-0.TIME"

set -e
export CORES=$SLURM_CPUS_ON_NODE
export NODES=$SLURM_JOB_NUM_NODES

[[ "1" == "1" ]] && echo "Found cores : $CORES"
[[ "1" == "1" ]] && echo "Found nodes : $NODES"
WORKERCOUNT=1
SCRIPT_DIR="SCRIPTS"
[[ -d $SCRIPT_DIR ]] || SCRIPT_DIR=""

cat << SLURM_EOF > ${SCRIPT_DIR:+$SCRIPT_DIR/}cmd_$SLURM_JOB_NAME.sh
WORKERS
SLURM_EOF
chmod a+x ${SCRIPT_DIR:+$SCRIPT_DIR/}cmd_$SLURM_JOB_NAME.sh

srun --ntasks 1 -l --export=ALL --ntasks-per-node=1 --cpus-per-task=128 --no-kill --kill-on-bad-exit=0 --cpu-bind=none bash ${SCRIPT_DIR:+$SCRIPT_DIR/}cmd_$SLURM_JOB_NAME.sh

[[ "1" == "1" ]] && echo "Done"

