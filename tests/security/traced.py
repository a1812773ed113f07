"""`persona-assets …`, with PyTorch's own unpickler written down as well: it raises no audit event."""

import sys

import sitecustomize  # the guard's, which PYTHONPATH names
import torch

from persona_assets.cli import main


def written_down(name, function):
    def traced(*arguments, **options):
        sitecustomize._write(name, str(arguments[0]) if arguments else "")
        return function(*arguments, **options)

    return traced


for name in ("load", "save"):
    setattr(torch, name, written_down(f"torch.{name}", getattr(torch, name)))
    setattr(torch.serialization, name, getattr(torch, name))

if __name__ == "__main__":
    sys.exit(main())
