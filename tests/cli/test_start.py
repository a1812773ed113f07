"""How every command starts."""

import signal
import sys

import pytest

from persona_assets import cli


def test_windows_is_refused_in_a_sentence_that_names_wsl(monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(SystemExit, match=r"^persona-assets runs on Linux and macOS, not on Windows; install it in WSL"):
        cli.main()


def test_a_command_in_the_background_of_a_script_can_be_interrupted(monkeypatch):
    """Shells start such commands with SIGINT ignored."""
    monkeypatch.setattr(sys, "argv", ["persona-assets", "--help"])
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with pytest.raises(SystemExit):
            cli.main()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
