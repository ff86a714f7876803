#!/bin/bash
# Registers work pool, queues and deployments with the Prefect server that PREFECT_API_URL names; may be repeated.
#
#     PREFECT_API_URL=http://127.0.0.1:4200/api deployments/register.sh
set -euo pipefail
cd "$(dirname "$0")/.."
prefect() { .venv/bin/prefect --no-prompt "$@"; }
: "${PREFECT_API_URL:?set it to the address of the Prefect server, e.g. http://127.0.0.1:4200/api}"

prefect work-pool inspect ssx > /dev/null 2>&1 || prefect work-pool create ssx --type process
queue() {   # NAME PRIORITY: live work goes before offline work
    prefect work-queue inspect "$1" --pool ssx > /dev/null 2>&1 || prefect work-queue create "$1" --pool ssx --priority "$2"
}
queue live 1
queue offline 2
prefect deploy --all --prefect-file deployments/prefect.yaml
