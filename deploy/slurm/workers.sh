#!/bin/bash
# A plain array, for sites where `hpo-service launch slurm` may not be used; that command also queues tasks again whose
# time is up, splits arrays and keeps the password out of the job. Submit: sbatch deploy/slurm/workers.sh mine
#SBATCH --job-name=hpo
#SBATCH --array=0-15
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --gres=gpu:1
#SBATCH --time=8:00:00
#SBATCH --requeue
#SBATCH --signal=B:USR1@120
#SBATCH --open-mode=append
set -u
study=${1:?name of the study}
# mode 600: export HPO_SERVICE_STORAGE=postgresql://...
. "$HOME/.config/hpo-service/environment"
hpo-service worker --study "$study" --until-finished --drain-seconds 90 --output /shared/hpo & worker=$!
# USR1 asks a worker to save and leave, however often it comes
trap 'kill -s USR1 "$worker"' USR1 TERM
while kill -0 "$worker" 2>/dev/null; do wait "$worker"; done
