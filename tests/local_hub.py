"""Local Hugging Face Hub for tests: the part of the HTTP API that huggingface_hub calls."""

import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

PAGE = 2  # commits per page, so that a short history already has several pages


class LocalHub:
    """Repositories with branches of commits; a commit is a mapping of file names to bytes.

    Attributes:
        asked: paths of all requests, in order.
        fault: simulated failure: `status` answers 503, `silent` does not answer in time, `nonsense` answers with HTML
            instead of JSON, `cut` closes the connection in the middle of a file.
    """

    def __init__(self) -> None:
        self.branches: dict[tuple[str, str], list[str]] = {}
        self.commits: dict[tuple[str, str], Mapping[str, bytes]] = {}
        self.titles: dict[str, str] = {}
        self.asked: list[str] = []
        self.fault = ""
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self.server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self) -> "LocalHub":
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def commit(
        self, repo: str, files: Path | Mapping[str, bytes], title: str = "Upload model", branch: str = "main"
    ) -> str:
        """Add a commit to a branch, with a folder's current files or the given contents, and return its revision."""
        history = self.branches.setdefault((repo, branch), [])
        content = {file.name: file.read_bytes() for file in files.iterdir()} if isinstance(files, Path) else files
        revision = hashlib.sha1(f"{repo} {branch} {len(history)} {title}".encode()).hexdigest()
        history.append(revision)
        self.commits[repo, revision], self.titles[revision] = content, title
        return revision

    def run(self, script: str, *arguments: str, home: Path) -> subprocess.CompletedProcess[str]:
        """Run a Python script that uses this hub, with a cache below `home`."""
        environment = {
            **os.environ,
            "HF_ENDPOINT": self.endpoint,
            "HF_HOME": str(home),
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "DAGSTER_HOME": str(home),
            "no_proxy": "127.0.0.1",
        }
        environment.pop("HF_HUB_CACHE", None)
        return subprocess.run(
            [sys.executable, "-c", script, *arguments], env=environment, capture_output=True, text=True, timeout=120
        )


class _Handler(BaseHTTPRequestHandler):
    hub: LocalHub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if not self.path.startswith("/api/agent"):  # huggingface_hub occasionally requests this on its own behalf
            self.hub.asked.append(self.path)
        if self.hub.fault == "silent":
            time.sleep(2)
        elif self.hub.fault == "status":
            self._answer(b"overloaded", status=503)
        elif self.hub.fault == "nonsense":
            self._answer(b"<html>a proxy's page</html>")
        else:
            self._serve()

    def do_HEAD(self) -> None:
        self.do_GET()

    def _serve(self) -> None:
        url = urlsplit(self.path)
        match [unquote(part) for part in url.path.strip("/").split("/")]:
            case ["api", "models", owner, model, "commits", branch]:
                self._commits(f"{owner}/{model}", branch, int(parse_qs(url.query).get("p", ["0"])[0]))
            case ["api", "models", owner, model, "revision", revision]:
                if (files := self._files(f"{owner}/{model}", revision)) is not None:
                    siblings = [{"rfilename": name} for name in files]
                    self._json({"id": f"{owner}/{model}", "sha": revision, "siblings": siblings})
            case ["api", "models", owner, model, "tree", revision]:
                if (files := self._files(f"{owner}/{model}", revision)) is not None:
                    self._json(
                        [
                            {"type": "file", "path": name, "size": len(content), "oid": _sha(content)}
                            for name, content in files.items()
                        ]
                    )
            case [owner, model, "resolve", revision, *folders, file]:
                name = "/".join([*folders, file])
                if (files := self._files(f"{owner}/{model}", revision)) is not None:
                    if name in files:
                        about = {"X-Repo-Commit": revision, "ETag": f'"{_sha(files[name])}"'}
                        self._answer(files[name], cut=self.hub.fault == "cut", **about)
                    else:
                        self._answer(b"", 404, **{"X-Error-Code": "EntryNotFound"})
            case _:
                self._answer(b"", 404)

    def _commits(self, repo: str, branch: str, page: int) -> None:
        if (repo, branch) not in self.hub.branches:
            code = "RevisionNotFound" if any(repo == known for known, _ in self.hub.branches) else "RepoNotFound"
            self._answer(b"", 404, **{"X-Error-Code": code})
            return
        newest_first = self.hub.branches[repo, branch][::-1]
        shown = newest_first[page * PAGE : (page + 1) * PAGE]
        more = len(newest_first) > (page + 1) * PAGE
        following = f'<{self.hub.endpoint}/api/models/{repo}/commits/{branch}?p={page + 1}>; rel="next"'
        listed = [
            {
                "id": each,
                "title": self.hub.titles[each],
                "message": "",
                "date": "2026-01-01T00:00:00.000Z",
                "authors": [],
            }
            for each in shown
        ]
        self._json(listed, **({"Link": following} if more else {}))

    def _files(self, repo: str, revision: str) -> Mapping[str, bytes] | None:
        files = self.hub.commits.get((repo, revision))
        if files is None:
            self._answer(b"", 404, **{"X-Error-Code": "RevisionNotFound"})
        return files

    def _json(self, content: object, **headers: str) -> None:
        self._answer(json.dumps(content).encode(), **headers)

    def _answer(self, content: bytes, status: int = 200, cut: bool = False, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[: len(content) // 2] if cut else content)
        self.close_connection = self.close_connection or cut

    def log_message(self, *_: object) -> None:
        """Suppress request logging."""


def _sha(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()
