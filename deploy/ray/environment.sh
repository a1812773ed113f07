# Environment of the head and of every process on it that starts runs: `source deploy/ray/environment.sh`.
# Nodes do not need it: a run sends them the inputs of a persona and stores the results.
export PERSONA_ASSETS_WORKERS=ray
export RAY_ADDRESS="${RAY_ADDRESS:?address of the head, as printed by head.sh, such as 10.0.0.1:6379}"
export DAGSTER_HOME="${DAGSTER_HOME:?the folder of the instance on this machine}"
export DATABASE_URL="${DATABASE_URL:?postgresql+psycopg2://user:password@host:5432/name}"
# Optional shared artefact storage: s3://bucket/folder (credentials as for any S3 client; AWS_ENDPOINT_URL for servers other
# than Amazon's) or file:///mounted/folder. Without it, artefacts are only in DAGSTER_HOME.
export PERSONA_ASSETS_SHARED="${PERSONA_ASSETS_SHARED:-}"
