"""Local S3 server (moto) with one bucket, for the duration of a test."""

import logging
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch


@contextmanager
def s3() -> Iterator[str]:
    """Start the server, point AWS environment variables to it, and yield an address `s3://bucket/folder`."""
    import fsspec
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    environment = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "somebody",
        "AWS_SECRET_ACCESS_KEY": "not-a-secret-of-anybody",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    with patch.dict(os.environ, environment):
        try:
            bucket = f"bucket-{uuid.uuid4().hex[:8]}"  # moto keeps buckets across servers of a process
            # fsspec caches connections for the lifetime of the process, so skip those to an earlier server.
            fsspec.filesystem("s3", skip_instance_cache=True).mkdir(bucket)
            yield f"s3://{bucket}/folder"
        finally:
            server.stop()
            fsspec.get_filesystem_class("s3").clear_instance_cache()
