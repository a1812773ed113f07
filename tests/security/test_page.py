"""Who reaches Dagster's page, and what it answers to other web sites: a real `persona-assets ui`."""

import json
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import pytest

from persona_assets.page.cross_site import rejection
from tests.security.conftest import Served, audited

MUTATION = "mutation { setNuxSeen }"
PAGE = "https://personas.example.org"


def ask(address: str, method: str = "POST", body: bytes | None = None, **headers: str) -> tuple[int, str]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(address, body, named, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_nothing_listens_outside_this_machine(served: Served) -> None:
    served.look()
    assert any(each.kind == "unix" for each in served.listeners), "the code server's socket was not seen"
    assert [each.address.split()[0] for each in served.listeners if each.kind != "unix"] == ["127.0.0.1"]
    assert [each for each in served.listeners if not each.is_ours_alone] == []


def test_nothing_is_asked_of_another_machine(served: Served) -> None:
    reached = {each["what"] for each in audited(served.audit) if each["event"].startswith("socket.")}
    # Paths are UNIX sockets.
    reached |= served.reached
    assert {each for each in reached if not each.startswith("/")} <= {"127.0.0.1", "localhost", "::1", "None", ""}


def test_below_a_secret_address_that_no_command_line_tells(served: Served) -> None:
    place = urlsplit(served.address)
    assert len(place.path) > 30
    assert not any(place.path in word for command in served.commands for word in command)
    assert ask(f"http://{place.netloc}/graphql", body=json.dumps({"query": "{ version }"}).encode(),
               Content_Type="application/json")[0] in (404, 405)  # fmt: skip
    assert ask(f"{served.address}/graphql", body=json.dumps({"query": "{ version }"}).encode(),
               Content_Type="application/json")[0] == 200  # fmt: skip


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("GET", {}),  # an image
        ("POST", {"Content_Type": "text/plain"}),  # a form, or fetch without asking first
        ("POST", {"Content_Type": "application/json", "Origin": "https://elsewhere.example"}),
        ("POST", {"Content_Type": "application/json", "Origin": "null"}),  # a sandboxed frame
        ("POST", {"Content_Type": "application/json", "Origin": "http://127.0.0.1:8888"}),  # another program's page
        ("POST", {"Content_Type": "application/json", "Host": "rebound.example"}),
    ],
    ids=["image", "form", "fetch", "frame", "neighbour", "rebinding"],
)
def test_another_web_site_cannot_act_in_the_pages_name(served: Served, method: str, headers: dict[str, str]) -> None:
    address = f"{served.address}/graphql?{urlencode({'query': MUTATION})}"
    body = json.dumps({"query": MUTATION}).encode() if method == "POST" else None
    status, answer = ask(address, method, body, **headers)
    assert (status, answer.split()[0]) == (403, "Rejected.")


def test_another_web_site_cannot_open_a_websocket(served: Served) -> None:
    upgrade = {
        "Connection": "Upgrade", "Upgrade": "websocket", "Sec_WebSocket_Version": "13",
        "Sec_WebSocket_Key": "AAAAAAAAAAAAAAAAAAAAAA==", "Origin": "https://elsewhere.example",
    }  # fmt: skip
    assert ask(f"{served.address}/graphql", "GET", **upgrade)[0] == 403


def test_the_page_itself_is_answered(served: Served) -> None:
    own = f"http://{urlsplit(served.address).netloc}"
    body = json.dumps({"query": MUTATION}).encode()
    status, answer = ask(f"{served.address}/graphql", body=body, Content_Type="application/json", Origin=own)
    assert (status, json.loads(answer)) == (200, {"data": {"setNuxSeen": True}})
    assert ask(served.address, "GET", Accept="text/html")[0] == 200


@pytest.mark.parametrize(
    ("host", "origin", "is_answered"),
    [
        ("personas.example.org", PAGE, True),  # a proxy that passes the name on
        ("127.0.0.1:3000", PAGE, True),  # one that does not
        ("localhost:8080", "http://localhost:8080", True),  # a tunnel
        ("personas.example.org", "https://personas.example.org.elsewhere.example", False),
        ("other.example.org", None, False),
        ("", None, False),
    ],
)
def test_behind_a_proxy_the_page_has_the_name_that_it_is_told(host: str, origin: str | None, is_answered: bool) -> None:
    headers = {"host": host, "content-type": "application/json"} | ({"origin": origin} if origin else {})
    assert (rejection("http", "POST", "/graphql", headers, PAGE) is None) == is_answered


def test_a_new_folder_gets_the_projects_settings(served: Served, repository: Path) -> None:
    settings = (repository / "dagster_home" / "dagster.yaml").read_bytes()
    assert (served.home / "dagster.yaml").read_bytes() == settings
