/** The machine and its requests over the last quarter of an hour, one strip above the other on one time axis. */

import { useEffect, useRef } from "preact/hooks";
import * as format from "./format";
import { Heat } from "./heat";
import { lanesOf } from "./lanes";
import { SourceNotice, Value } from "./parts";
import { largest, type Line, Plot } from "./plot";
import { cursor, edge, gpuHistory, now, openTrace, requests, ROWS, sourceNamed, sources, span, systemHistory } from "./state";
import { colour, painted } from "./theme";
import type { Request } from "./types";

interface Trace {
  label: string;
  values: (number | null)[];
  tone: string;
  fill?: boolean;
  dash?: number[];
}

interface StripProps {
  name: string;
  hint?: string | undefined;
  times: number[];
  lines: Trace[];
  max: number | null;
  /** Words for the values at one moment; an index of -1 means now. */
  reading: (index: number) => string;
  note?: string | undefined;
  top: (max: number) => string;
}

const LANES = 5;
const MINUTE = 60;

export function Strips() {
  const history = systemHistory.value;
  const present = now.value?.system ?? null;
  const host = sourceNamed("host");
  const times = history?.time_s ?? [];
  const gpus = gpuHistory.value;
  const total = present?.memory_total_bytes ?? lastKnown(history?.memory_total_bytes);
  const disk = present?.disk_total_bytes ?? lastKnown(history?.disk_total_bytes);
  const at = (values: (number | null)[] | undefined, index: number, current: number | null | undefined): number | null =>
    index < 0 ? (current ?? null) : (values?.[index] ?? null);
  return (
    <section class="strips" aria-label="The last ${span.value / MINUTE} minutes" onPointerMove={track} onPointerLeave={() => (cursor.value = null)}>
      <Overlay />
      <RequestLane rows={requests.value ?? []} />
      {host !== undefined && host.state !== "ok" && times.length === 0 ? (
        <div class="strip blank">
          <div class="label">
            <h3>Host</h3>
          </div>
          <SourceNotice name="host" />
        </div>
      ) : (
        <>
          <Strip
            name="CPU"
            times={times}
            max={100}
            lines={[{ label: "cpu", values: history?.cpu_usage_percent ?? [], tone: "--cpu", fill: true }]}
            reading={(index) => format.percent(at(history?.cpu_usage_percent, index, present?.cpu_usage_percent))}
            top={() => "100 %"}
          />
          <Strip
            name="Memory"
            times={times}
            max={total ?? null}
            lines={[{ label: "used", values: history?.memory_used_bytes ?? [], tone: "--memory", fill: true }]}
            reading={(index) => format.bytes(at(history?.memory_used_bytes, index, present?.memory_used_bytes))}
            note={total === null ? undefined : `of ${format.bytes(total)}`}
            top={(max) => format.bytes(max)}
          />
          <Strip
            name="Network"
            hint="received over sent, per second"
            times={times}
            max={null}
            lines={[
              { label: "received", values: history?.network_rx_bytes ?? [], tone: "--network", fill: true },
              { label: "sent", values: history?.network_tx_bytes ?? [], tone: "--network-2", dash: [3, 2] },
            ]}
            reading={(index) => `↓ ${format.rate(at(history?.network_rx_bytes, index, present?.network_rx_bytes))}`}
            note={`↑ ${format.rate(present?.network_tx_bytes ?? null)}`}
            top={(max) => format.rate(max)}
          />
          <Strip
            name="Load"
            hint="tasks running or waiting: 1, 5 and 15 minutes"
            times={times}
            max={null}
            lines={[
              { label: "15 min", values: history?.load_15m ?? [], tone: "--load-3" },
              { label: "5 min", values: history?.load_5m ?? [], tone: "--load-2" },
              { label: "1 min", values: history?.load_1m ?? [], tone: "--load" },
            ]}
            reading={(index) => format.plain(at(history?.load_1m, index, present?.load_1m))}
            note={present === null ? undefined : `5 min ${format.plain(present.load_5m)} · 15 min ${format.plain(present.load_15m)}`}
            top={(max) => format.plain(max)}
          />
          <Strip
            name="Disk"
            hint="the root filesystem"
            times={times}
            max={disk ?? null}
            lines={[{ label: "used", values: history?.disk_used_bytes ?? [], tone: "--disk", fill: true }]}
            reading={(index) => format.bytes(at(history?.disk_used_bytes, index, present?.disk_used_bytes))}
            note={disk === null ? undefined : `of ${format.bytes(disk)}`}
            top={(max) => format.bytes(max)}
          />
        </>
      )}
      {gpus.length === 0 ? (
        <div class="strip blank">
          <div class="label">
            <h3>GPU</h3>
          </div>
          <p class="waiting">{gpuWords()}</p>
        </div>
      ) : (
        <GpuStrip />
      )}
      <Axis />
    </section>
  );
}

/** One line: the panel below says what helps. */
function gpuWords(): string {
  const source = sourceNamed("gpu");
  if (sources.value.length === 0) return "Asking the agent …";
  if (source === undefined) return "This source is switched off.";
  return source.state === "ok" || source.state === "starting" ? "The first points are on their way." : (source.reason ?? source.state);
}

function GpuStrip() {
  const gpus = gpuHistory.value;
  const times = gpus[0]!.time_s;
  const moment = cursor.value;
  const index = moment === null ? -1 : nearest(times, moment);
  const present = now.value?.gpus ?? [];
  const values = moment === null ? present.map((gpu) => gpu.utilization_percent) : gpus.map((gpu) => gpu.utilization_percent[index] ?? null);
  const known = values.filter((value) => value !== null);
  const reading = format.percent(mean(values));
  return (
    <div class="strip" data-strip="GPU">
      <div class="label">
        <h3 title="share of time in which a kernel ran, a row for each GPU">{gpus.length === 1 ? "GPU" : `${gpus.length} GPUs`}</h3>
        <div class="reading">
          <b>
            <Value text={reading} />
          </b>
          {known.length < 2 ? null : <span class="note">{`${Math.min(...known).toFixed(0)} to ${format.percent(Math.max(...known))}`}</span>}
        </div>
      </div>
      <Heat times={times} rows={gpus.map((gpu) => gpu.utilization_percent)} to={edge.value} stepS={gpus[0]!.step_s} label={`GPUs, last ${span.value / MINUTE} minutes: now ${reading} on average`} />
    </div>
  );
}

function Strip({ name, hint, times, lines, max, reading, note, top }: StripProps) {
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<Plot | null>(null);
  const to = edge.value;
  const paint = painted.value;
  const drawn = useRef<() => void>(() => undefined);
  drawn.current = () => {
    const element = box.current;
    if (element === null) return;
    plot.current ??= new Plot(element);
    const styled: Line[] = lines.map((line) => {
      const stroke = colour(element, line.tone);
      return { values: line.values, stroke, ...(line.fill ? { fill: faded(stroke) } : {}), ...(line.dash ? { dash: line.dash } : {}) };
    });
    plot.current.draw(times, styled, { from: to - span.value, to, max });
  };
  useEffect(() => drawn.current(), [times, to, paint, max, span.value]);
  useEffect(() => {
    const observer = new ResizeObserver(() => drawn.current());
    if (box.current !== null) observer.observe(box.current);
    return () => {
      observer.disconnect();
      plot.current?.destroy();
      plot.current = null;
    };
  }, []);
  const moment = cursor.value;
  const index = moment === null ? -1 : nearest(times, moment);
  const scaleTop = max ?? largest(lines.map((line) => ({ values: line.values, stroke: "" })));
  return (
    <div class="strip" data-strip={name}>
      <div class="label">
        <h3 title={hint}>{name}</h3>
        <div class="reading">
          <b>
            <Value text={reading(moment === null ? -1 : index)} />
          </b>
          {note === undefined || moment !== null ? null : <span class="note">{note}</span>}
        </div>
      </div>
      <div class="plot" ref={box} role="img" aria-label={`${name}, last ${span.value / MINUTE} minutes: now ${reading(-1)}, highest ${scaleTop > 0 ? top(largest(lines.map((line) => ({ values: line.values, stroke: "" })))) : "unknown"}`}>
      </div>
      {scaleTop > 0 ? <span class="top">{top(scaleTop)}</span> : null}
    </div>
  );
}

function RequestLane({ rows }: { rows: Request[] }) {
  const to = edge.value;
  const from = to - span.value;
  const shown = rows
    .map((row) => ({ row, start: Date.parse(row.timestamp) / 1000, end: Date.parse(row.timestamp) / 1000 + row.response_time_ms / 1000 }))
    .filter((bar) => bar.end >= from && bar.start <= to);
  const lanes = lanesOf(
    shown.map(({ start, end }) => ({ start, end: Math.max(end, start + 4) })),
    LANES,
  );
  const failed = shown.filter((bar) => !bar.row.success).length;
  const more = rows.length >= ROWS && shown.length === rows.length; // older ones of this span were not asked for
  return (
    <div class="strip lane" data-strip="Requests">
      <div class="label">
        <h3>LLM requests</h3>
        <div class="reading">
          <b>{requests.value === null ? <Value text={format.DASH} /> : format.count(shown.length)}</b>
          <span class="note">
            {more ? "the newest, " : ""}
            {failed > 0 ? <em>{failed} failed</em> : more ? "none failed" : `in ${span.value / MINUTE} min`}
          </span>
        </div>
      </div>
      <div class="plot">
        {shown.map((bar, index) => (
          <button
            type="button"
            key={`${bar.row.trace_id}/${bar.row.span_id}`}
            class={bar.row.success ? "request" : "request failed"}
            title={`${format.clockTime(new Date(bar.start * 1000))} · ${bar.row.model_name ?? "unknown model"} · ${format.duration(bar.row.response_time_ms)}${bar.row.success ? "" : " · failed"}`}
            tabIndex={-1}
            onClick={() => (openTrace.value = { trace: bar.row.trace_id, span: bar.row.span_id })}
            style={{
              left: `${(100 * (Math.max(bar.start, from) - from)) / span.value}%`,
              width: `${(100 * (Math.min(bar.end, to) - Math.max(bar.start, from))) / span.value}%`,
              top: `${4 + lanes[index]! * 8}px`,
            }}
          />
        ))}
      </div>
    </div>
  );
}

function marks(to: number): number[] {
  const step = span.value / 5 < MINUTE ? MINUTE : Math.round(span.value / 5 / MINUTE) * MINUTE;
  const first = Math.ceil((to - span.value) / step) * step;
  return Array.from({ length: 7 }, (_, index) => first + index * step).filter((mark) => mark <= to);
}

const place = (mark: number, to: number): string => `${(100 * (mark - to + span.value)) / span.value}%`;

function Overlay() {
  const to = edge.value;
  const moment = cursor.value;
  return (
    <div class="overlay" aria-hidden="true">
      {marks(to).map((mark) => (
        <i key={mark} class="grid" style={{ left: place(mark, to) }} />
      ))}
      {moment === null ? null : (
        <i class="cursor" style={{ left: place(moment, to) }}>
          <span>{format.clockTime(new Date(moment * 1000))}</span>
        </i>
      )}
    </div>
  );
}

function Axis() {
  const to = edge.value;
  return (
    <div class="axis" aria-hidden="true">
      {marks(to)
        .filter((mark) => mark - to + span.value > span.value / 45 && to - mark > span.value / 20)
        .map((mark) => (
          <span key={mark} style={{ left: place(mark, to) }}>
            {format.minuteTime(new Date(mark * 1000))}
          </span>
        ))}
      <span class="now">now</span>
    </div>
  );
}

function track(event: PointerEvent): void {
  const overlay = (event.currentTarget as HTMLElement).querySelector(".overlay")!.getBoundingClientRect();
  const share = (event.clientX - overlay.left) / overlay.width;
  cursor.value = share < 0 || share > 1 ? null : edge.value - span.value + share * span.value;
}

function nearest(times: number[], moment: number): number {
  let best = -1;
  for (let index = 0; index < times.length; index += 1) {
    if (best < 0 || Math.abs(times[index]! - moment) < Math.abs(times[best]! - moment)) best = index;
  }
  return best < 0 || Math.abs(times[best]! - moment) > 20 ? times.length : best; // beyond the end: unknown there
}

function lastKnown(values: (number | null)[] | undefined): number | null {
  return values?.findLast((value) => value !== null) ?? null;
}

function mean(values: (number | null)[]): number | null {
  const known = values.filter((value) => value !== null);
  return known.length === 0 ? null : known.reduce((sum, value) => sum + value, 0) / known.length;
}

function faded(resolved: string): string {
  return resolved.replace(/^rgb\((.*)\)$/, "rgba($1, 0.12)");
}
