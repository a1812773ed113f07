# What the head, and every process on it that starts runs, has in its environment: `source deploy/ray/environment.sh`.
# Nodes need none of it: a run sends them what a persona is made from, and stores what comes back.
export PERSONA_ASSETS_WORKERS=ray
export RAY_ADDRESS="${RAY_ADDRESS:?the head, as head.sh says it: 10.0.0.1:6379}"
export DAGSTER_HOME="${DAGSTER_HOME:?the folder of the instance on this machine}"
export DATABASE_URL="${DATABASE_URL:?postgresql+psycopg2://user:password@host:5432/name}"
# Artefacts, beside this machine's own: s3://bucket/folder (keys as for any S3 client, AWS_ENDPOINT_URL for one that is
# not Amazon's), or file:///mounted/folder. Without it they are in DAGSTER_HOME alone.
export PERSONA_ASSETS_SHARED="${PERSONA_ASSETS_SHARED:-}"
