/** What the API answers with, as far as the page reads it. Unknown is null, never 0. */

export type Known<T> = T | null;

export interface SystemMetrics {
  timestamp: Known<string>;
  hostname: Known<string>;
  cpu_usage_percent: Known<number>;
  memory_used_bytes: Known<number>;
  memory_total_bytes: Known<number>;
  disk_used_bytes: Known<number>;
  disk_total_bytes: Known<number>;
  network_rx_bytes: Known<number>;
  network_tx_bytes: Known<number>;
  load_1m: Known<number>;
  load_5m: Known<number>;
  load_15m: Known<number>;
}

export type SystemField = Exclude<keyof SystemMetrics, "timestamp" | "hostname">;
export type Columns<F extends string> = { time_s: number[]; step_s: number } & Record<F, Known<number>[]>;

export interface GpuProcess {
  pid: Known<number>;
  name: Known<string>;
  memory_used_bytes: Known<number>;
}

export interface GpuMetrics {
  timestamp: Known<string>;
  gpu_id: Known<number>;
  gpu_uuid: string;
  gpu_name: Known<string>;
  utilization_percent: Known<number>;
  memory_used_bytes: Known<number>;
  memory_total_bytes: Known<number>;
  temperature_celsius: Known<number>;
  power_watts: Known<number>;
  clock_graphics_mhz: Known<number>;
  clock_memory_mhz: Known<number>;
  processes: Known<GpuProcess[]>;
}

export type GpuHistory = Columns<"utilization_percent" | "memory_used_bytes"> & { gpu_uuid: string; gpu_id: Known<number> };

export interface ContainerMetrics {
  container_id: string;
  container_name: Known<string>;
  image: Known<string>;
  status: Known<string>;
  cpu_usage_percent: Known<number>;
  memory_used_bytes: Known<number>;
  memory_limit_bytes: Known<number>;
  network_rx_bytes: Known<number>;
  network_tx_bytes: Known<number>;
  restart_count: Known<number>;
  created_at: Known<string>;
  gpu_enabled: Known<boolean>;
  gpu_indices: Known<number[]>;
}

export interface Source {
  name: string;
  state: "starting" | "ok" | "failing" | "stuck" | "unavailable";
  reason: Known<string>;
  remedy: Known<string>;
  age_s: Known<number>;
  failures: number;
}

export interface Agent {
  version: string;
  hostname: string;
  otlp_grpc_port: Known<number>;
  interval_s: number;
  /** Seconds between two points of a series in the store. */
  beat_s: number;
}

export interface Now {
  time_s: number;
  agent: Agent;
  system: Known<SystemMetrics>;
  gpus: GpuMetrics[];
  containers: ContainerMetrics[];
  sources: Source[];
}

export interface Request {
  request_id: string;
  timestamp: string;
  trace_id: string;
  span_id: string;
  service: Known<string>;
  operation: Known<string>;
  provider: Known<string>;
  model_name: Known<string>;
  prompt_tokens: Known<number>;
  completion_tokens: Known<number>;
  cached_tokens: Known<number>;
  response_time_ms: number;
  time_to_first_chunk_ms: Known<number>;
  tokens_per_second: Known<number>;
  cost_usd: Known<number>;
  success: boolean;
  error_type: Known<string>;
  error_message: Known<string>;
  finish_reasons: string[];
}

export interface Requests {
  requests: Request[];
  shown: number;
  limit: number;
  complete: boolean;
}

export type Attribute = null | boolean | number | string | Attribute[] | { [name: string]: Attribute };
export type Attributes = Record<string, Attribute>;

export interface Span {
  span_id: string;
  parent_id: Known<string>;
  name: string;
  kind: string;
  service: Known<string>;
  scope: string;
  offset_ns: number;
  duration_ns: number;
  status: "unset" | "ok" | "error";
  status_message: Known<string>;
  attributes: Attributes;
  events: { time_ns: string; name: string; attributes: Attributes }[];
  resource: Attributes;
}

export interface Trace {
  trace_id: string;
  timestamp: string;
  start_ns: string;
  duration_ns: number;
  services: string[];
  errors: number;
  spans: Span[];
}

export interface Log {
  timestamp: string;
  time_ns: string;
  severity: Known<number>;
  severity_text: Known<string>;
  service: Known<string>;
  body: Attribute;
  span_id: Known<string>;
  attributes: Attributes;
}

export interface Trouble {
  error: string;
  remedy?: string;
}
