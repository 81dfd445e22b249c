"""Who may ask, and what every answer carries."""

import json

import pytest
from agent.api.line import TOKEN

OPEN = ["/health", "/ready", "/metrics", "/gpu"]
CLOSED = ["/api/v1/", "/api/v1/system", "/api/live", "/api/metrics/gpu", "/nowhere"]


@pytest.mark.parametrize("path", OPEN)
def test_the_open_routes_need_no_token(line, path):
    with line.client() as client:
        assert client.get(path).status_code == 200
        assert client.head(path).content == b""


@pytest.mark.parametrize("path", CLOSED)
def test_everything_else_says_what_it_needs(line, path):
    with line.client() as client:
        answer = client.get(path)

    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.json() == {
        "error": "this needs the token of the printed link",
        "remedy": "open the printed link once in this browser, or send 'Authorization: Bearer <token>' with the token of that link",
    }


@pytest.mark.parametrize("header", ["Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer", "Bearer \u00e4"])
def test_a_wrong_token_opens_nothing(line, header):
    with line.client() as client:
        assert client.get("/api/v1/", headers={"authorization": header.encode()}).status_code == 401


def test_a_bearer_token_opens_the_api(line):
    assert line.get("/api/v1/").status_code == 200


def test_the_printed_link_signs_a_browser_in_and_leaves_no_token_behind(line):
    with line.client() as client:
        link = client.get(f"/?token={TOKEN}")
        cookie = link.headers["set-cookie"]

        assert (link.status_code, link.headers["location"]) == (303, "/")
        assert {"HttpOnly", "SameSite=strict", "Path=/"} < set(cookie.split("; "))
        assert TOKEN not in cookie
        assert client.get("/").headers["content-type"] == "text/html; charset=utf-8"
        assert client.get("/api/v1/").status_code == 200


def test_a_link_in_a_page_of_another_site_signs_in_too(line):
    """SameSite=Strict cookies are not added to redirects that another site began: the page leads on by itself instead."""
    with line.client() as client:
        link = client.get(f"/?token={TOKEN}", headers={"sec-fetch-site": "cross-site"})

    assert (link.status_code, link.headers["refresh"]) == (200, "0; url=/")
    assert "set-cookie" in link.headers


def test_without_a_token_the_page_explains_the_link(line):
    with line.client() as client:
        plain, wrong = client.get("/"), client.get("/?token=wrong")

    assert (plain.status_code, wrong.status_code) == (401, 401)
    assert "the link that <code>otel-agent</code> printed" in plain.text
    assert 'role="alert"' not in plain.text
    assert '<p role="alert">This token does not fit.</p>' in wrong.text
    assert "set-cookie" not in wrong.headers


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "[::1", "10.0.0.1"])
@pytest.mark.parametrize("path", ["/health", "/", f"/?token={TOKEN}", "/api/v1/"])
def test_another_host_name_is_refused_everywhere(line, host, path):
    """A web site whose name was pointed at this machine (DNS rebinding) sends its own name."""
    answer = line.get(path, headers={"host": host})

    assert answer.status_code == 403
    assert "OTEL_LLM_ALLOWED_HOSTS" in answer.json()["remedy"]


@pytest.mark.parametrize("host", ["localhost:1234", "127.0.0.1", "[::1]:23080", "LOCALHOST"])
def test_loopback_is_served_under_each_of_its_names(line, host):
    assert line.get("/health", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1", "http://localhost"])
def test_another_origin_is_refused(line, origin):
    assert line.get("/health", headers={"origin": origin}).status_code == 403


def test_the_page_itself_is_a_welcome_origin(line):
    assert line.get("/health", headers={"origin": line.base}).status_code == 200


@pytest.mark.parametrize("path", [*OPEN, "/", "/api/v1/", "/nowhere", "/assets/nothing.js", "/api/v1/series"])
def test_every_answer_carries_the_headers_that_keep_browsers_safe(line, path):
    headers = line.get(path).headers

    assert headers["content-security-policy"] == (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert "server" not in headers


def test_what_the_api_says_is_not_kept(line):
    assert line.get("/api/v1/system").headers["cache-control"] == "no-store"


def test_assets_are_kept_for_good_and_packed(line):
    page = line.get("/").text
    script = page.split('src="')[1].split('"')[0]
    answer = line.get(script)

    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert answer.headers["content-encoding"] == "gzip"
    assert line.get(script, headers={"accept-encoding": "identity"}).content == answer.content
    assert line.get(script, headers={"if-none-match": answer.headers["etag"]}).status_code == 304


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/health", 405),
        ("DELETE", "/api/v1/system", 405),
        ("GET", "/api/v1", 404),
        ("GET", "/api/v1/system/", 404),
        ("GET", "/assets/../shapes.py", 404),
        ("GET", "/assets/%2e%2e%2findex.html", 404),
        ("GET", "/%00", 404),
    ],
)
def test_what_is_not_there_is_told_as_json(line, method, path, status):
    with line.client() as client:
        answer = client.request(method, path, headers={"authorization": f"Bearer {TOKEN}"})

    assert answer.status_code == status
    assert set(json.loads(answer.text)) <= {"error", "remedy"}


def test_a_server_on_every_address_takes_any_address_but_no_foreign_name():
    from otel_agent.api.access import host_allowed

    assert host_allowed("10.1.2.3:23080", "0.0.0.0", ())
    assert host_allowed("[fe80::1]:23080", "::", ())
    assert not host_allowed("evil.example", "0.0.0.0", ())
    assert host_allowed("gpu-7.example:23080", "0.0.0.0", ("GPU-7.example",))
