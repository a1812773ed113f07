"""Entry point of `python -m persona_assets.cli`."""

from persona_assets.cli import main

main()
