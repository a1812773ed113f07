#!/usr/bin/env bash
# Starts the Ray head on the machine that starts runs: head.sh ADDRESS_OF_THIS_MACHINE [options of `ray start`]
# Everybody who can reach the port can run code on the cluster, so use a private network.
set -euo pipefail
address="${1:?the address at which the nodes reach this machine, such as 10.0.0.1}"
shift
export RAY_USAGE_STATS_ENABLED=0
ray start --head --node-ip-address="$address" --port=6379 --include-dashboard=false --disable-usage-stats "$@"
echo "export RAY_ADDRESS=$address:6379"
