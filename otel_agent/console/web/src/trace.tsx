/** One trace as a waterfall: spans indented under their callers, their attributes, and the logs written meanwhile. */

import { useSignal } from "@preact/signals";
import { useEffect, useLayoutEffect, useRef } from "preact/hooks";
import { ApiError, get } from "./api";
import * as format from "./format";
import { Notice } from "./parts";
import { openTrace } from "./state";
import type { Attributes, Log, Span, Trace } from "./types";
import { layOut, type Row, ticks } from "./waterfall";

interface Loaded {
  trace: Trace;
  logs: Log[];
}

const AGAIN_MS = [1_000, 2_000, 4_000]; // the rest of a trace may still be on its way
const ROW_CAP = 1_000; // rows drawn at once

export function TraceDrawer() {
  const asked = openTrace.value;
  const loaded = useSignal<Loaded | null>(null);
  const trouble = useSignal<ApiError | null>(null);
  const chosen = useSignal<string | null>(null);
  const panel = useRef<HTMLElement>(null);
  useEffect(() => {
    loaded.value = trouble.value = null;
    chosen.value = asked?.span ?? null;
    if (asked === null) return undefined;
    panel.current?.focus();
    let over = false;
    const load = async (attempt: number): Promise<void> => {
      try {
        const [trace, logs] = await Promise.all([
          get<Trace>(`/api/v1/traces/${asked.trace}`),
          get<{ logs: Log[] }>(`/api/v1/logs?trace_id=${asked.trace}&since=30d&limit=200`),
        ]);
        if (over) return;
        loaded.value = { trace, logs: logs.logs.reverse() };
        trouble.value = null;
        chosen.value ??= trace.spans[0]?.span_id ?? null;
      } catch (error) {
        if (over) return;
        trouble.value = error instanceof ApiError ? error : new ApiError(0, String(error), "");
      }
      if (attempt < AGAIN_MS.length) timer = window.setTimeout(() => void load(attempt + 1), AGAIN_MS[attempt]);
    };
    let timer = 0;
    void load(0);
    return () => {
      over = true;
      clearTimeout(timer);
    };
  }, [asked?.trace]);
  if (asked === null) return null;
  return (
    <section class="drawer" role="dialog" aria-label="Trace" tabIndex={-1} ref={panel}>
      {loaded.value !== null ? (
        <Waterfall {...loaded.value} chosen={chosen.value} choose={(id) => (chosen.value = id)} />
      ) : (
        <>
          <Bar title="Trace" />
          {trouble.value === null ? <p class="waiting">Asking the store …</p> : <Notice state="failing" reason={trouble.value.message} remedy={trouble.value.remedy} />}
        </>
      )}
    </section>
  );
}

function Bar({ title }: { title: string }) {
  return (
    <header>
      <h2>{title}</h2>
      <button type="button" class="plain" onClick={() => (openTrace.value = null)} aria-label="Close" title="Close (Esc)">
        ×
      </button>
    </header>
  );
}

function Waterfall({ trace, logs, chosen, choose }: Loaded & { chosen: string | null; choose: (id: string) => void }) {
  const rows = layOut(trace.spans, trace.duration_ns);
  const span = trace.spans.find((one) => one.span_id === chosen) ?? null;
  const totalMs = trace.duration_ns / 1e6;
  const place = rows.findIndex((row) => row.span.span_id === chosen);
  const move = (event: KeyboardEvent) => {
    const step = event.key === "j" || event.key === "ArrowDown" ? 1 : event.key === "k" || event.key === "ArrowUp" ? -1 : 0;
    const next = rows[Math.max(0, Math.min(rows.length - 1, place + step))];
    if (step === 0 || next === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    event.stopPropagation();
    choose(next.span.span_id);
  };
  // Before the browser paints: what can be seen can be walked through.
  useLayoutEffect(() => {
    const listen = (event: KeyboardEvent) => move(event);
    window.addEventListener("keydown", listen, true);
    return () => window.removeEventListener("keydown", listen, true);
  });
  return (
    <>
      <Bar title={rows[0]?.span.name ?? "Trace"} />
      <p class="facts">
        <b>{format.duration(totalMs)}</b>
        <span>
          {trace.spans.length} {trace.spans.length === 1 ? "span" : "spans"}
        </span>
        <span>{trace.services.join(" · ") || "service unknown"}</span>
        {trace.errors > 0 ? <em>{trace.errors} failed</em> : null}
        <time title={trace.timestamp}>{format.when(trace.timestamp, new Date())}</time>
        <code title="trace id">{trace.trace_id}</code>
      </p>
      <div class="waterfall">
        <div class="ruler" aria-hidden="true">
          <span />
          <div>
            {ticks(totalMs, 5).map((tick) => (
              <i key={tick} class={tick > 0.88 * totalMs ? "late" : ""} style={{ left: `${(100 * tick) / Math.max(totalMs, 1e-9)}%` }}>
                {tick === 0 ? "0" : format.duration(tick)}
              </i>
            ))}
          </div>
          <span />
        </div>
        <ol role="listbox" aria-label="Spans">
          {rows.slice(0, ROW_CAP).map((row) => (
            <SpanRow key={row.span.span_id} row={row} chosen={row.span.span_id === chosen} choose={choose} />
          ))}
        </ol>
        {rows.length > ROW_CAP ? <p class="waiting">{`${rows.length - ROW_CAP} more spans are not drawn.`}</p> : null}
      </div>
      {span === null ? null : <SpanDetails span={span} />}
      <Logs logs={logs} start={trace.start_ns} chosen={chosen} choose={choose} />
    </>
  );
}

function SpanRow({ row, chosen, choose }: { row: Row; chosen: boolean; choose: (id: string) => void }) {
  const { span } = row;
  const element = useRef<HTMLLIElement>(null);
  useEffect(() => {
    if (chosen) element.current?.scrollIntoView({ block: "nearest" });
  }, [chosen]);
  return (
    <li ref={element} role="option" aria-selected={chosen} class={`${chosen ? "chosen" : ""} ${span.status === "error" ? "failed" : ""}`} onClick={() => choose(span.span_id)} data-span={span.span_id}>
      <span class="name" style={{ paddingLeft: `${8 + Math.min(row.depth, 12) * 14}px` }} title={row.orphan ? "its caller is not in the store" : undefined}>
        {row.orphan ? <i class="orphan">⋯</i> : null}
        {span.name}
      </span>
      <span class="track">
        <i class={`bar ${span.attributes["gen_ai.operation.name"] === undefined ? "" : "llm"}`} style={{ left: `${100 * row.left}%`, width: `${100 * row.width}%` }}>
          {row.firstChunk === null ? null : <i class="before" style={{ width: `${100 * row.firstChunk}%` }} title="until the first chunk" />}
        </i>
      </span>
      <span class="length">{format.duration(span.duration_ns / 1e6)}</span>
    </li>
  );
}

function SpanDetails({ span }: { span: Span }) {
  return (
    <section class="details" aria-label="Span">
      <h3>
        {span.name}
        <small>
          {span.kind} · {span.service ?? "service unknown"} · {span.scope || "no scope"}
        </small>
      </h3>
      {span.status === "error" ? <p class="failure">{span.status_message ?? "This span ended with an error."}</p> : null}
      <AttributeTable attributes={span.attributes} />
      {span.events.map((event, index) => (
        <div key={index} class="event">
          <h4>{event.name}</h4>
          <AttributeTable attributes={event.attributes} />
        </div>
      ))}
      <details>
        <summary>Resource</summary>
        <AttributeTable attributes={span.resource} />
      </details>
    </section>
  );
}

function AttributeTable({ attributes }: { attributes: Attributes }) {
  const names = Object.keys(attributes).sort();
  if (names.length === 0) return <p class="waiting">No attributes.</p>;
  return (
    <table class="attributes">
      <tbody>
        {names.map((name) => (
          <tr key={name}>
            <th scope="row">{name}</th>
            <td>{format.attribute(attributes[name] ?? null)}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function Logs({ logs, start, chosen, choose }: { logs: Log[]; start: string; chosen: string | null; choose: (id: string) => void }) {
  return (
    <section class="logs" aria-label="Logs">
      <h3>
        Logs <small>{logs.length === 0 ? "none written in this trace" : logs.length}</small>
      </h3>
      <ol>
        {logs.map((log, index) => (
          <li key={index} class={`${level(log.severity)} ${log.span_id !== null && log.span_id === chosen ? "chosen" : ""}`} onClick={() => log.span_id !== null && choose(log.span_id)}>
            <time title={log.timestamp}>+{format.duration(Number((BigInt(log.time_ns) - BigInt(start)) / 1000n) / 1000)}</time>
            <b>{log.severity_text ?? format.DASH}</b>
            <span>{format.attribute(log.body)}</span>
          </li>
        ))}
      </ol>
    </section>
  );
}

function level(severity: number | null): string {
  return severity === null ? "" : severity >= 17 ? "error" : severity >= 13 ? "warn" : "";
}
