"""The console in a real browser over the real agent: what a user sees, clicks and types, and not one complaint of the browser."""

import logging
import os
import re
import shutil
import time
from pathlib import Path

import pytest
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.logging.handler import LoggingHandler
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import SpanKind, Status, StatusCode
from playwright.sync_api import expect, sync_playwright
from processes import agent

pytestmark = pytest.mark.e2e
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WATCH = """
window.violations = [];
document.addEventListener('securitypolicyviolation', (event) => window.violations.push(`${event.violatedDirective} ${event.blockedURI}`));
"""
UPDATED_MS = 20_000
DASH = "\u2013"


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    """`otel-agent up`, reading every second."""
    folder = tmp_path_factory.mktemp("console")
    with agent("up", OTEL_LLM_DATA_DIR=folder, METRICS_INTERVAL_LIVE=1, OTEL_METRIC_EXPORT_INTERVAL=1000) as running:
        running.until(lambda: running.get("/api/v1/now")[1]["system"])
        yield running


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser):
    """A fresh profile; the test fails for every error on the console and every violation of the content policy."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    context.add_init_script(WATCH)
    opened = context.new_page()
    opened.set_default_timeout(UPDATED_MS)
    said = []
    opened.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
    opened.on("pageerror", lambda error: said.append(str(error)))
    yield opened
    violations = opened.evaluate("window.violations")
    context.close()
    assert (said, violations) == ([], [])


def link(node, token=None):
    port, known = node.page()
    return f"http://127.0.0.1:{port}/?token={token or known}"


def call(node, model, *, began_s=None, lasted_s=2.0, failed=False, service="support-bot", streamed=True, **attributes):
    """Send what an application sends for one call: an inbound span, the call, its HTTP request, and a log line. Returns the trace id."""
    base = f"http://127.0.0.1:{node.ports()[1]}"
    resource = Resource({"service.name": service})
    spans, logs = (
        TracerProvider(resource=resource, shutdown_on_exit=False),
        LoggerProvider(resource=resource, shutdown_on_exit=False),
    )
    spans.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(f"{base}/v1/traces")))
    logs.add_log_record_processor(SimpleLogRecordProcessor(OTLPLogExporter(f"{base}/v1/logs")))
    tracer, handler = spans.get_tracer("app"), LoggingHandler(logger_provider=logs)
    start = int((began_s or time.time() - lasted_s) * 1e9)

    def at(seconds):
        return start + int(seconds * 1e9)

    told = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "hosted_vllm", "gen_ai.request.model": model}
    if failed:
        told["error.type"] = "litellm.exceptions.RateLimitError"
    elif streamed:
        told["gen_ai.response.time_to_first_chunk"] = lasted_s / 5
    with tracer.start_as_current_span(
        "POST /answer", start_time=at(-0.02), kind=SpanKind.SERVER, end_on_exit=False
    ) as outer:
        with tracer.start_as_current_span(
            f"chat {model}", start_time=at(0), kind=SpanKind.CLIENT, attributes=told | attributes, end_on_exit=False
        ) as span:
            http = tracer.start_span(
                "POST",
                start_time=at(0.01),
                kind=SpanKind.CLIENT,
                attributes={"http.request.method": "POST", "server.address": "10.0.0.7"},
            )
            http.end(at(lasted_s - 0.01))
            handler.handle(
                logging.makeLogRecord(
                    {"name": "app", "levelno": logging.WARNING, "levelname": "WARNING", "msg": f"asked {model}"}
                )
            )
            if failed:
                span.set_status(Status(StatusCode.ERROR, "requests per minute exceeded"))
            span.end(at(lasted_s))
        outer.end(at(lasted_s + 0.01))
    spans.shutdown()
    logs.shutdown()
    return f"{outer.get_span_context().trace_id:032x}"


def strip(page, name):
    return page.locator(f"[data-strip='{name}'] .reading b")


def test_the_printed_link_opens_the_machine_live(node, page):
    page.goto(link(node))

    expect(page).to_have_url(re.compile(r"^http://127\.0\.0\.1:\d+/$"))  # the token is gone from the address
    expect(page.locator(".connection")).to_have_text("live")
    for name, unit in (("CPU", "%"), ("Memory", "iB"), ("Load", ""), ("Disk", "iB"), ("Network", "B/s")):
        expect(strip(page, name)).to_have_text(re.compile(rf"\d.*{unit}"), timeout=UPDATED_MS)
    before = strip(page, "CPU").inner_text()
    expect(strip(page, "CPU")).not_to_have_text(before, timeout=UPDATED_MS)
    assert page.locator("[data-strip='CPU'] canvas").count() == 1


def test_the_page_shows_what_the_api_says(node, page):
    page.goto(link(node))
    total = node.get("/api/v1/system")[1]["memory_total_bytes"]

    expect(page.locator("[data-strip='Memory'] .note")).to_have_text(re.compile(rf"of {total / 2**30:.1f}.GiB"))
    expect(page.locator(".host")).to_have_text(node.get("/api/v1/system")[1]["hostname"])


def test_what_is_missing_on_this_machine_says_why_and_what_helps(node, page):
    page.goto(link(node))
    sources = node.get("/health")[1]["sources"]
    absent = [
        (panel, sources[name])
        for panel, name in (("#gpus", "gpu"), ("#containers", "containers"))
        if sources[name]["state"] == "unavailable"
    ]
    if not absent:
        pytest.skip("this machine has both a GPU and Docker")
    for panel, source in absent:
        expect(page.locator(f"{panel} .reason")).to_contain_text(source["reason"][1:])
        expect(page.locator(f"{panel} .remedy")).to_contain_text(source["remedy"][1:])


def test_a_request_appears_by_itself_and_leads_to_its_waterfall(node, page):
    page.goto(link(node))
    expect(page.locator(".connection")).to_have_text("live")
    trace = call(node, "llama-live", **{"gen_ai.usage.input_tokens": 1234, "gen_ai.usage.output_tokens": 56})
    row = page.locator(f"tr[data-trace='{trace}']")

    expect(row).to_be_visible(timeout=UPDATED_MS)
    assert [cell.strip() for cell in row.locator("td").all_inner_texts()][1:] == [
        "support-bot",
        "llama-live",
        "2.00\u202fs",
        "400\u202fms",
        "1,234",
        "56",
        "–",
        "ok",
    ]
    row.click()
    spans = page.locator(".waterfall li")
    expect(spans).to_have_count(3)
    assert [name.strip() for name in spans.locator(".name").all_inner_texts()] == [
        "POST /answer",
        "chat llama-live",
        "POST",
    ]
    indents = [
        spans.nth(place).locator(".name").evaluate("(span) => parseFloat(getComputedStyle(span).paddingLeft)")
        for place in range(3)
    ]
    assert indents == sorted(set(indents))
    expect(page.locator(".details h3")).to_contain_text("chat llama-live")
    expect(page.locator(".details")).to_contain_text("gen_ai.usage.input_tokens")
    expect(page.locator(".logs li")).to_contain_text("asked llama-live")
    spans.nth(2).click()
    expect(page.locator(".details")).to_contain_text("10.0.0.7")
    assert trace in page.url
    page.keyboard.press("Escape")
    expect(page.locator(".drawer")).to_have_count(0)


def test_a_link_to_a_trace_opens_it(node, page):
    trace = call(node, "llama-linked")
    page.goto(link(node))
    page.goto(f"{link(node).partition('?')[0]}#/trace/{trace}")

    expect(page.locator(".waterfall li")).to_have_count(3)


def test_unknown_is_a_dash_that_says_so_and_a_failure_shows_its_reason(node, page):
    trace = call(node, "llama-failed", failed=True)
    page.goto(link(node))
    row = page.locator(f"tr[data-trace='{trace}']")
    expect(row).to_be_visible()

    dashes = row.locator(".unknown")
    assert dashes.all_inner_texts() == [DASH] * 4  # first chunk, both tokens, cost
    assert all("unknown" in (dashes.nth(place).get_attribute("title") or "") for place in range(4))
    expect(row.locator(".state.error")).to_have_text("RateLimitError")
    row.click()
    expect(page.locator(".failure")).to_have_text("requests per minute exceeded")


def test_the_keyboard_walks_opens_and_closes(node, page):
    newest = [call(node, f"llama-{number}", began_s=time.time() - 2 + number / 2) for number in range(2)][::-1]
    page.goto(link(node))
    expect(page.locator("tr[data-trace]").first).to_have_attribute("data-trace", newest[0])
    page.keyboard.press("j")
    expect(page.locator("tr.selected")).to_have_attribute("data-trace", newest[1])
    page.keyboard.press("k")
    expect(page.locator("tr.selected")).to_have_attribute("data-trace", newest[0])
    page.keyboard.press("Enter")
    chosen = page.locator(".waterfall li.chosen .name")
    expect(chosen).to_have_text("chat llama-1")
    page.keyboard.press("j")
    expect(chosen).to_have_text("POST")
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    expect(page.locator(".help")).to_contain_text("A dash means unknown")
    page.keyboard.press("Escape")
    expect(page.locator(".help")).to_have_count(0)


def test_without_the_stream_the_page_asks_every_few_seconds(node, page):
    page.route("**/api/live", lambda route: route.fulfill(status=204))
    page.goto(link(node))

    expect(page.locator(".connection")).to_have_text("every 5 s")
    trace = call(node, "llama-polled")
    expect(page.locator(f"tr[data-trace='{trace}']")).to_be_visible(timeout=UPDATED_MS)


def test_colours_can_be_chosen_and_stay(node, page):
    page.goto(link(node))
    background = "() => getComputedStyle(document.documentElement).backgroundColor"
    light = page.evaluate(background)
    page.keyboard.press("t")
    page.keyboard.press("t")
    dark = page.evaluate(background)
    page.reload()

    assert light != dark
    assert page.evaluate(background) == dark


@pytest.mark.parametrize("width", [360, 768, 1100, 1920])
def test_nothing_sticks_out_of_the_window(node, page, width):
    page.set_viewport_size({"width": width, "height": 800})
    page.goto(link(node))
    expect(page.locator("#containers")).to_be_visible()

    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_without_the_token_the_page_asks_for_it(node, browser):
    port, token = node.page()
    context = browser.new_context()
    opened = context.new_page()
    opened.goto(f"http://127.0.0.1:{port}/")
    opened.get_by_label("Token").fill("not the token")
    opened.get_by_role("button").click()
    expect(opened.get_by_role("alert")).to_have_text("This token does not fit.")
    opened.get_by_label("Token").fill(token)
    opened.get_by_role("button").click()
    expect(opened.locator(".connection")).to_have_text("live")
    assert token not in opened.url
    context.close()


def test_an_agent_that_ends_is_seen_and_said(tmp_path, browser):
    context = browser.new_context()
    opened = context.new_page()
    with agent("up", OTEL_LLM_DATA_DIR=tmp_path) as short:
        opened.goto(link(short))
        expect(opened.locator(".connection")).to_have_text("live")
    expect(opened.locator(".connection")).to_have_text("not connected", timeout=UPDATED_MS)
    expect(opened.locator(".notice.failing").first).to_contain_text("The agent cannot be reached", ignore_case=True)
    context.close()


@pytest.mark.skipif(
    not os.environ.get("UPDATE_SCREENSHOT"),
    reason="UPDATE_SCREENSHOT=600 renews the picture in docs, from 600 seconds of this machine",
)
def test_the_screenshot_of_the_docs(tmp_path, browser, root: Path):
    models = ("meta-llama/Llama-3.3-70B-Instruct", "Qwen/Qwen3-32B", "meta-llama/Llama-3.3-70B-Instruct")
    until = time.monotonic() + float(os.environ["UPDATE_SCREENSHOT"])
    context = browser.new_context(viewport={"width": 1440, "height": 900}, device_scale_factor=2)
    opened = context.new_page()
    with agent("up", OTEL_LLM_DATA_DIR=tmp_path) as running:
        sent = 0
        while time.monotonic() < until:
            lasted_s = 0.8 + (sent * 7 % 11) / 3
            tokens = {
                "gen_ai.usage.input_tokens": 300 + 97 * (sent % 41),
                "gen_ai.usage.output_tokens": 40 + 11 * (sent % 17),
            }
            failed = sent % 13 == 7
            service = ("support-bot", "batch-summaries")[sent % 3 == 1]
            told = {} if failed else tokens
            call(
                running,
                models[sent % 3],
                lasted_s=lasted_s,
                failed=failed,
                service=service,
                streamed=sent % 4 != 2,
                **told,
            )
            sent += 1
            time.sleep(min(2 + (sent * 5 % 13), max(0.0, until - time.monotonic())))
        opened.goto(link(running))
        expect(opened.locator("tr[data-trace]").nth(min(sent, 100) - 1)).to_be_attached()
        expect(strip(opened, "CPU")).to_have_text(re.compile(r"\d"))
        folder = root / "docs" / "images"
        folder.mkdir(parents=True, exist_ok=True)
        opened.screenshot(path=folder / "console.png")
    context.close()
    assert (folder / "console.png").stat().st_size > 10_000
