/** What the page knows, as signals; how it comes to know it stands in `live`. */

import { computed, signal } from "@preact/signals";
import { ApiError } from "./api";
import type { Columns, GpuHistory, Now, Request, Source, SystemField } from "./types";

export const WINDOW_S = 15 * 60;
const SPANS_S = [3 * 60, 6 * 60, WINDOW_S];
export const ROWS = 100;
const GAP_STEPS = 2; // points further apart than this many steps have a gap between them

export type Connection = "connecting" | "live" | "polling" | "lost" | "signed-out";
export type SystemHistory = Columns<SystemField>;

export const connection = signal<Connection>("connecting");
export const trouble = signal<ApiError | null>(null);
export const now = signal<Now | null>(null);
export const systemHistory = signal<SystemHistory | null>(null);
export const gpuHistory = signal<GpuHistory[]>([]);
export const requests = signal<Request[] | null>(null);
/** The present time in ms by the browser's clock; moves once a second. */
export const clock = signal(Date.now());
/** The moment under the pointer on the strips, in seconds since the epoch. */
export const cursor = signal<number | null>(null);
/** The request that j, k and Enter act on, by its key; the newest where none was chosen. */
export const selectedRequest = signal<string | null>(null);
export const keyOf = (row: Request): string => `${row.trace_id}/${row.span_id}`;
export const openTrace = signal<{ trace: string; span: string | null } | null>(null);
export const helpOpen = signal(false);

export const sources = computed<Source[]>(() => now.value?.sources ?? []);
/** The right edge of every strip, in seconds by the agent's clock. */
export const edge = computed(() => now.value?.time_s ?? clock.value / 1000);

/** How much of the window the strips show, in seconds: no more than there is something to show in. */
export const span = computed(() => spanOf(edge.value, firstKnown(systemHistory.value), requests.value ?? []));

function firstKnown(columns: SystemHistory | null): number | null {
  const index = columns?.memory_used_bytes.findIndex((value) => value !== null) ?? -1;
  return index < 0 ? null : columns!.time_s[index]!;
}

/** The shortest span that reaches from `edge` back to the first reading and to every request inside the window. */
export function spanOf(to: number, first: number | null, rows: Pick<Request, "timestamp">[]): number {
  const begun = rows.map((row) => Date.parse(row.timestamp) / 1000).filter((time) => time > to - WINDOW_S);
  const oldest = Math.min(...(first === null ? [] : [first]), ...begun);
  return SPANS_S.find((span) => oldest >= to - span && oldest < Infinity) ?? WINDOW_S;
}

export function sourceNamed(name: string): Source | undefined {
  return sources.value.find((source) => source.name === name);
}

/** Adds a reading to the columns, drops what has left the window, and marks a gap where readings are missing. */
export function extended<F extends string>(columns: Columns<F>, time_s: number, values: Record<F, number | null>, names: readonly F[]): Columns<F> {
  const last = columns.time_s.at(-1);
  if (last !== undefined && time_s <= last) return columns;
  const step = columns.step_s;
  const gap = last !== undefined && time_s - last > GAP_STEPS * step;
  const from = columns.time_s.findIndex((time) => time >= time_s - WINDOW_S - step);
  const keep = from < 0 ? columns.time_s.length : from;
  const grown = { step_s: step, time_s: [...columns.time_s.slice(keep), ...(gap ? [last + step] : []), time_s] } as Columns<F>;
  for (const name of names) {
    (grown as Record<F, (number | null)[]>)[name] = [...(columns[name] ?? []).slice(keep), ...(gap ? [null] : []), values[name] ?? null];
  }
  return grown;
}

/** Puts new rows among the known ones, newest first, each request once. */
export function merged(known: Request[], fresh: Request[]): Request[] {
  const byId = new Map<string, Request>();
  for (const row of [...known, ...fresh]) byId.set(keyOf(row), row);
  return [...byId.values()].sort((a, b) => (a.timestamp < b.timestamp ? 1 : a.timestamp > b.timestamp ? -1 : 0)).slice(0, ROWS);
}
