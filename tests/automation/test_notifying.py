"""Posting to a webhook, tested with a real server; the end-to-end tests cover the daemon."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import dagster as dg
import pytest

from persona_assets.automation.notifying import SCHEDULE_TAG, WEBHOOK, build_notifiers, post
from persona_assets.runs.attempts import CHECKPOINT_TAG, MEASURE


@pytest.fixture
def server():
    """Return a server that records requests and answers with its `status`."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.server.received.append((self.headers["Content-Type"], json.loads(body)))
            self.send_response(self.server.status)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    server.received, server.status = [], 200
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_a_line_is_posted_in_the_format_of_chat_services(server, monkeypatch):
    monkeypatch.setenv(WEBHOOK, f"http://127.0.0.1:{server.server_port}/services/secret")
    assert post("run7.checkpoint-8: report of study mine is ready") is None
    assert server.received == [("application/json", {"text": "run7.checkpoint-8: report of study mine is ready"})]


@pytest.mark.parametrize("status", [404, 500])
def test_an_error_of_the_webhook_is_skipped_without_revealing_its_url(server, monkeypatch, status):
    server.status = status
    monkeypatch.setenv(WEBHOOK, f"http://127.0.0.1:{server.server_port}/services/secret")
    skipped = post("a line")
    assert "HTTPError" in skipped.skip_message
    assert "secret" not in skipped.skip_message


def test_an_unreachable_webhook_is_skipped(server, monkeypatch):
    server.shutdown()
    server.server_close()
    monkeypatch.setenv(WEBHOOK, f"http://127.0.0.1:{server.server_port}/")
    assert "URLError" in post("a line").skip_message


def test_only_http_urls_are_accepted(monkeypatch, tmp_path):
    (tmp_path / "secret").write_text("secret")
    monkeypatch.setenv(WEBHOOK, f"file://{tmp_path}/secret")
    assert "http://" in post("a line").skip_message
    monkeypatch.delenv(WEBHOOK)
    assert post("a line").skip_message.startswith("PERSONA_ASSETS_WEBHOOK is not set")


def test_of_nightly_runs_only_failures_are_posted(monkeypatch):
    monkeypatch.delenv(WEBHOOK, raising=False)

    @dg.op
    def nothing():
        pass

    @dg.job(name=MEASURE)
    def measure():
        nothing()

    ready, _ = build_notifiers(measure)
    said = []
    with dg.instance_for_test() as instance:
        for tags in ({}, {SCHEDULE_TAG: "nightly"}):
            result = measure.execute_in_process(instance=instance, tags={CHECKPOINT_TAG: "mine"} | tags)
            context = dg.build_run_status_sensor_context(
                sensor_name="report_ready",
                dagster_event=result.get_run_success_event(),
                dagster_instance=instance,
                dagster_run=result.dagster_run,
            )
            said.append(ready(context).skip_message)
    assert "would have posted: mine: report of study" in said[0]
    assert "of which only failures are posted" in said[1]
