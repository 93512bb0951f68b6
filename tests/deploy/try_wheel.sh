#!/bin/sh
# Installs a wheel into a fresh environment, away from the sources, and runs it there: try_wheel.sh PYTHON WHEEL
set -eu
python=$1 wheel=$(realpath "$2") versions=$(realpath constraints.txt)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
unset PYTHONPATH HPO_SERVICE_STORAGE
"$python" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -qq --disable-pip-version-check -c "$versions" "$wheel"
cd "$folder"
export HPO_SERVICE_OUTPUT="$folder/output" HPO_SERVICE_CACHE="$folder/cache"
venv/bin/hpo-service --version
venv/bin/hpo-service db upgrade
venv/bin/hpo-service db check
venv/bin/hpo-service doctor
