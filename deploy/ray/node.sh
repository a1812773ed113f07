#!/usr/bin/env bash
# Starts a Ray node, also while a run is in progress: node.sh HEAD:6379 [options of `ray start`]
# The node needs the same version of this package, checkpoints at the same paths, and the same kind of GPU as the head.
set -euo pipefail
head="${1:?address of the head, as printed by head.sh, such as 10.0.0.1:6379}"
shift
export RAY_USAGE_STATS_ENABLED=0
ray start --address="$head" "$@"
