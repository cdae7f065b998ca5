#!/bin/bash

#PBS -S /bin/bash
#PBS -N workflow.block-0.TIME
#PBS -m n
#PBS -l walltime=12:00:00
#PBS -l select=1:ncpus=128:ngpus=8
#PBS -o SCRIPTS/workflow.block-0.TIME.stdout
#PBS -e SCRIPTS/workflow.block-0.TIME.stderr
#PBS -r n
#PBS -l place=scatter

WORKFLOW_BLOCK_START=$(date +%s)
module load singularity || [[ ":${LOADEDMODULES:-}:" == *:singularity[:/]* ]] || { echo 'module load singularity failed' >&2; exit 1; }

export JOBNAME="workflow.block-0.TIME"

set -e
export CORES=$(getconf _NPROCESSORS_ONLN)
[[ "1" == "1" ]] && echo "Found cores : $CORES"
WORKERCOUNT=1
SCRIPT_DIR="SCRIPTS"
[[ -d $SCRIPT_DIR ]] || SCRIPT_DIR=""

# Deduplicate the nodefile
HOSTFILE="$JOBNAME.nodes"
if [ -z "$PBS_NODEFILE" ]; then
    echo "localhost" > $HOSTFILE
else
    sort -u $PBS_NODEFILE > $HOSTFILE
fi

cat << MPIEXEC_EOF > ${SCRIPT_DIR:+$SCRIPT_DIR/}cmd_$JOBNAME.sh
WORKERS
MPIEXEC_EOF
chmod u+x ${SCRIPT_DIR:+$SCRIPT_DIR/}cmd_$JOBNAME.sh

mpiexec --bind-to none  -n $WORKERCOUNT --hostfile $HOSTFILE /usr/bin/sh ${SCRIPT_DIR:+$SCRIPT_DIR/}cmd_$JOBNAME.sh

[[ "1" == "1" ]] && echo "All workers done"


