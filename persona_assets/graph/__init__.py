"""What every asset is built from: partitions, resources, IO managers, jobs, provenance, schemas, history."""
