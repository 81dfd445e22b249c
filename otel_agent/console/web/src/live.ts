/** Keeps the state up to date: server-sent events, and questions every few seconds where there are none. */

import { batch } from "@preact/signals";
import { ApiError, get } from "./api";
import { clock, connection, extended, gpuHistory, merged, now, requests, ROWS, type SystemHistory, systemHistory, trouble, WINDOW_S } from "./state";
import type { GpuHistory, Now, Request, Requests, Source, SystemField } from "./types";

const POLL_MS = 5_000;
const STREAM_AGAIN_MS = 30_000; // after the server refused the stream
const SILENCE_MS = 40_000; // more than two heartbeats: the stream is dead although nobody said so
const SYSTEM_FIELDS: readonly SystemField[] = [
  "cpu_usage_percent",
  "memory_used_bytes",
  "memory_total_bytes",
  "disk_used_bytes",
  "disk_total_bytes",
  "network_rx_bytes",
  "network_tx_bytes",
  "load_1m",
  "load_5m",
  "load_15m",
];
const GPU_FIELDS = ["utilization_percent", "memory_used_bytes"] as const;

let stream: EventSource | null = null;
let heardMs = 0;
let askedMs = 0;
let streamTriedMs = 0;

export function start(): void {
  void refresh();
  listen();
  setInterval(tick, 1_000);
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) void refresh();
  });
}

function tick(): void {
  clock.value = Date.now();
  if (stream !== null && Date.now() - heardMs > SILENCE_MS) hangUp();
  if (stream === null && Date.now() - streamTriedMs > STREAM_AGAIN_MS) listen();
  const streaming = stream !== null && stream.readyState === EventSource.OPEN;
  if (!streaming && Date.now() - askedMs > POLL_MS) void refresh();
}

function listen(): void {
  streamTriedMs = heardMs = Date.now();
  const opened = new EventSource("/api/live");
  stream = opened;
  const on = (name: string, take: (data: string) => void): void =>
    opened.addEventListener(name, (event) => {
      heardMs = Date.now();
      take((event as MessageEvent<string>).data);
    });
  opened.onopen = () => {
    heardMs = Date.now();
    connection.value = "live";
    void refresh(); // what came between the first question and now
  };
  opened.onerror = () => {
    if (opened.readyState === EventSource.CLOSED) hangUp();
    else if (connection.value === "live") connection.value = "polling";
  };
  on("points", (data) => takeNow(JSON.parse(data) as Now));
  on("requests", (data) => {
    requests.value = merged(requests.value ?? [], JSON.parse(data) as Request[]);
  });
  on("health", (data) => {
    if (now.value !== null) now.value = { ...now.value, sources: JSON.parse(data) as Source[] };
  });
  on("reset", () => void refresh());
}

function hangUp(): void {
  stream?.close();
  stream = null;
  if (connection.value === "live") connection.value = "polling";
}

/** Ask for everything the page shows. */
async function refresh(): Promise<void> {
  askedMs = Date.now();
  try {
    const span = `since=${WINDOW_S}s`;
    const [present, system, gpus, list] = await Promise.all([
      get<Now>("/api/v1/now"),
      get<SystemHistory>(`/api/v1/system/history?${span}`),
      get<GpuHistory[]>(`/api/v1/gpus/history?${span}`),
      get<Requests>(`/api/v1/requests?limit=${ROWS}`),
    ]);
    batch(() => {
      trouble.value = null;
      systemHistory.value = system;
      gpuHistory.value = gpus;
      requests.value = merged([], list.requests);
      now.value = present;
      if (connection.value !== "live") connection.value = stream?.readyState === EventSource.OPEN ? "live" : "polling";
    });
  } catch (error) {
    const known = error instanceof ApiError ? error : new ApiError(0, String(error), "");
    trouble.value = known;
    connection.value = known.status === 401 ? "signed-out" : known.status === 0 ? "lost" : "polling";
  }
}

function takeNow(present: Now): void {
  batch(() => {
    now.value = present;
    trouble.value = null;
    connection.value = "live";
    if (systemHistory.value !== null && present.system !== null) {
      systemHistory.value = extended(systemHistory.value, takenAt(present.system, present), present.system, SYSTEM_FIELDS);
    }
    gpuHistory.value = gpuHistory.value.map((history) => {
      const gpu = present.gpus.find((one) => one.gpu_uuid === history.gpu_uuid);
      return gpu === undefined ? history : { ...history, ...extended(history, takenAt(gpu, present), gpu, GPU_FIELDS) };
    });
  });
}

/** When a record was read, in seconds: an answer may repeat the last reading. */
function takenAt(record: { timestamp: string | null }, present: Now): number {
  return record.timestamp === null ? present.time_s : Date.parse(record.timestamp) / 1000;
}
