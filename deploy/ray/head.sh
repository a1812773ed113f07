#!/usr/bin/env bash
# Starts Ray's head on the machine where runs are: head.sh THIS_MACHINES_ADDRESS [options of `ray start`]
# Whoever reaches the port can run code on the cluster: a network that others cannot reach.
set -euo pipefail
address="${1:?the address under which the nodes reach this machine, such as 10.0.0.1}"
shift
export RAY_USAGE_STATS_ENABLED=0
ray start --head --node-ip-address="$address" --port=6379 --include-dashboard=false --disable-usage-stats "$@"
echo "export RAY_ADDRESS=$address:6379"
