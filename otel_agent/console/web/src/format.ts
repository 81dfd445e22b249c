/** Numbers as people read them. Unknown is a dash, never a zero; the unit always stands with the number. */

import type { Attribute, Known } from "./types";

export const DASH = "–";
const GAP = "\u202f"; // narrow no-break space

const grouped = new Intl.NumberFormat("en");

function sized(value: number): string {
  const size = Math.abs(value);
  return value.toFixed(size >= 100 || size === 0 ? 0 : size >= 10 ? 1 : 2);
}

function scaled(value: number, base: number, units: readonly string[]): string {
  let power = 0;
  let rest = value;
  while (Math.abs(rest) >= base && power < units.length - 1) {
    rest /= base;
    power += 1;
  }
  return `${power === 0 ? Math.round(rest) : sized(rest)}${GAP}${units[power]}`;
}

export const percent = (value: Known<number>): string => (value === null ? DASH : `${value < 99.95 ? value.toFixed(1) : value.toFixed(0)}${GAP}%`);
export const bytes = (value: Known<number>): string => (value === null ? DASH : scaled(value, 1024, ["B", "KiB", "MiB", "GiB", "TiB", "PiB"]));
export const rate = (value: Known<number>): string => (value === null ? DASH : scaled(value, 1000, ["B/s", "kB/s", "MB/s", "GB/s"]));
export const count = (value: Known<number>): string => (value === null ? DASH : grouped.format(value));
export const plain = (value: Known<number>, unit = ""): string => (value === null ? DASH : `${sized(value)}${unit && GAP + unit}`);

export function ofTotal(used: Known<number>, total: Known<number>): string {
  if (used === null || total === null) return bytes(used);
  const [value, unit] = bytes(used).split(GAP);
  const [whole, wholeUnit] = bytes(total).split(GAP);
  return unit === wholeUnit ? `${value} of ${whole}${GAP}${unit}` : `${value}${GAP}${unit} of ${whole}${GAP}${wholeUnit}`;
}

/** A length of time given in milliseconds. */
export function duration(ms: Known<number>): string {
  if (ms === null) return DASH;
  if (ms < 1) return `${Math.round(ms * 1000)}${GAP}µs`;
  if (ms < 1000) return `${ms < 10 ? ms.toFixed(1) : Math.round(ms)}${GAP}ms`;
  if (ms < 60_000) return `${(ms / 1000).toFixed(2)}${GAP}s`;
  const seconds = Math.round(ms / 1000);
  if (seconds < 3600) return `${Math.floor(seconds / 60)}${GAP}min ${seconds % 60}${GAP}s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 1440) return `${Math.floor(minutes / 60)}${GAP}h ${minutes % 60}${GAP}min`;
  return `${Math.floor(minutes / 1440)}${GAP}d ${Math.floor((minutes % 1440) / 60)}${GAP}h`;
}

/** Whole numbers in order, neighbours joined: 0–3, 6. */
export function ranges(numbers: readonly number[]): string {
  const runs: [number, number][] = [];
  for (const number of [...numbers].sort((a, b) => a - b)) {
    const last = runs.at(-1);
    if (last !== undefined && number <= last[1] + 1) last[1] = number;
    else runs.push([number, number]);
  }
  return runs.map(([from, to]) => (from === to ? `${from}` : to === from + 1 ? `${from}, ${to}` : `${from}–${to}`)).join(", ");
}

/** Dollars, with as many digits as a small amount needs to be told from nothing. */
export function cost(usd: Known<number>): string {
  if (usd === null) return DASH;
  if (usd === 0) return "$0";
  const digits = usd >= 1 ? 2 : Math.min(8, 1 - Math.floor(Math.log10(usd)));
  return `$${usd.toFixed(digits)}`;
}

const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
const short = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", hour12: false });
const dated = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", hour12: false });

export const clockTime = (date: Date): string => clock.format(date);
export const minuteTime = (date: Date): string => short.format(date);

/** The time of day, with the date before it when that is another day. */
export function when(timestamp: string, now: Date): string {
  const date = new Date(timestamp);
  return date.toDateString() === now.toDateString() ? clock.format(date) : dated.format(date);
}

export const ago = (timestamp: Known<string>, now: number): string => (timestamp === null ? DASH : `${duration(Math.max(0, now - Date.parse(timestamp)))} ago`);

export function attribute(value: Attribute): string {
  return typeof value === "string" ? value : JSON.stringify(value);
}
