/** The last LLM requests; a row leads to its trace. */

import { useEffect, useRef } from "preact/hooks";
import * as format from "./format";
import { Panel, Value } from "./parts";
import { clock, keyOf, now, openTrace, requests, ROWS, selectedRequest } from "./state";
import type { Request } from "./types";

export function RequestsPanel() {
  const rows = requests.value;
  const failed = rows?.filter((row) => !row.success).length ?? 0;
  return (
    <Panel
      id="requests"
      title="LLM requests"
      aside={rows === null || rows.length === 0 ? null : `${rows.length >= ROWS ? `the newest ${ROWS}` : format.count(rows.length)}${failed > 0 ? ` · ${failed} failed` : ""}`}
    >
      {rows === null ? <p class="waiting">Asking the store …</p> : rows.length === 0 ? <Empty /> : <Table rows={rows} />}
    </Panel>
  );
}

function Table({ rows }: { rows: Request[] }) {
  const today = new Date(clock.value);
  return (
    <div class="scroll">
      <table class="requests">
        <thead>
          <tr>
            <th>Time</th>
            <th>Service</th>
            <th>Model</th>
            <th class="number">Duration</th>
            <th class="number" title="time until the first chunk of a streamed answer">
              First chunk
            </th>
            <th class="number" title="input tokens">
              In
            </th>
            <th class="number" title="output tokens">
              Out
            </th>
            <th class="number">Cost</th>
            <th>Status</th>
          </tr>
        </thead>
        <tbody>
          {rows.map((row, index) => (
            <RequestRow key={keyOf(row)} row={row} newest={index === 0} today={today} />
          ))}
        </tbody>
      </table>
    </div>
  );
}

function RequestRow({ row, newest, today }: { row: Request; newest: boolean; today: Date }) {
  const element = useRef<HTMLTableRowElement>(null);
  const key = keyOf(row);
  const chosen = selectedRequest.value === key;
  const selected = chosen || (newest && selectedRequest.value === null);
  const shown = openTrace.value?.trace === row.trace_id;
  useEffect(() => {
    if (chosen) element.current?.scrollIntoView({ block: "nearest" });
  }, [chosen]);
  const open = () => {
    selectedRequest.value = key;
    openTrace.value = { trace: row.trace_id, span: row.span_id };
  };
  return (
    <tr
      ref={element}
      class={`${selected ? "selected" : ""} ${shown ? "shown" : ""} ${row.success ? "" : "failed"}`}
      onClick={open}
      tabIndex={0}
      onFocus={() => (selectedRequest.value = key)}
      data-trace={row.trace_id}
    >
      <td class="time" title={row.timestamp}>
        {format.when(row.timestamp, today)}
      </td>
      <td class="service">
        <Value text={row.service ?? format.DASH} />
      </td>
      <td class="model">
        <Value text={row.model_name ?? format.DASH} title={row.provider === null ? undefined : `${row.provider} · ${row.operation ?? ""}`} />
      </td>
      <td class="number strong">
        <Value text={format.duration(row.response_time_ms)} />
      </td>
      <td class="number">
        <Value text={format.duration(row.time_to_first_chunk_ms)} title={row.time_to_first_chunk_ms === null ? "unknown: not streamed, or not told" : undefined} />
      </td>
      <td class="number">
        <Value text={format.count(row.prompt_tokens)} title={tokensTitle(row)} />
      </td>
      <td class="number">
        <Value text={format.count(row.completion_tokens)} title={row.tokens_per_second === null ? undefined : `${format.plain(row.tokens_per_second)} tokens per second`} />
      </td>
      <td class="number">
        <Value text={format.cost(row.cost_usd)} />
      </td>
      <td class="status">
        <span class={row.success ? "state ok" : "state error"} title={row.error_message ?? undefined}>
          {row.success ? (row.finish_reasons.join(", ") || "ok") : shortError(row)}
        </span>
      </td>
    </tr>
  );
}

function tokensTitle(row: Request): string | undefined {
  if (row.prompt_tokens === null) return "unknown: the server did not report its usage";
  return row.cached_tokens === null ? undefined : `${format.count(row.cached_tokens)} of them from the cache`;
}

function shortError(row: Request): string {
  return (row.error_type ?? "error").split(".").at(-1) ?? "error";
}

function Empty() {
  const port = now.value?.agent.otlp_grpc_port ?? null; // the launcher speaks gRPC unless told otherwise
  return (
    <div class="empty-state">
      <p>No LLM request has arrived yet. Start an application that uses LiteLLM, with no line changed:</p>
      <pre>
        {`pip install 'otel-llm[auto]'\n`}
        {port === null ? "" : `export OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:${port}\n`}
        {"opentelemetry-instrument python app.py"}
      </pre>
    </div>
  );
}
