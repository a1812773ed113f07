#!/usr/bin/env bash
# Starts a node, now or while a run is under way: node.sh HEAD:6379 [options of `ray start`]
# It has the same version of this package, checkpoints at the same paths as the head, and a card of the head's kind.
set -euo pipefail
head="${1:?the head, as head.sh says it: 10.0.0.1:6379}"
shift
export RAY_USAGE_STATS_ENABLED=0
ray start --address="$head" "$@"
