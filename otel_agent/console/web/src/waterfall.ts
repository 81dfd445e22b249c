/** Where each span of a trace stands in the waterfall: order, depth, left edge and width. Pure. */

import type { Span } from "./types";

export interface Row {
  span: Span;
  depth: number;
  /** Left edge and width as shares of the trace, 0 to 1. */
  left: number;
  width: number;
  /** Share of the bar before the first chunk came, where the span tells. */
  firstChunk: number | null;
  /** True where the parent is named but not among the spans: it has not arrived, or was not sampled. */
  orphan: boolean;
}

const FIRST_CHUNK = "gen_ai.response.time_to_first_chunk";

export function layOut(spans: Span[], totalNs: number): Row[] {
  const byId = new Map(spans.map((span) => [span.span_id, span]));
  const children = new Map<string | null, Span[]>();
  for (const span of spans) {
    const parent = span.parent_id !== null && byId.has(span.parent_id) && span.parent_id !== span.span_id ? span.parent_id : null;
    const siblings = children.get(parent);
    if (siblings) siblings.push(span);
    else children.set(parent, [span]);
  }
  const rows: Row[] = [];
  const placed = new Set<string>();
  const total = Math.max(1, totalNs);
  const place = (first: Span[]): void => {
    // A stack of our own: a broken or very deep trace must not end in a recursion error.
    const stack = first.map((span) => ({ span, depth: 0 })).reverse();
    while (stack.length > 0) {
      const { span, depth } = stack.pop()!;
      if (placed.has(span.span_id)) continue;
      placed.add(span.span_id);
      const chunk = span.attributes[FIRST_CHUNK];
      rows.push({
        span,
        depth,
        left: span.offset_ns / total,
        width: span.duration_ns / total,
        firstChunk: typeof chunk === "number" && span.duration_ns > 0 ? Math.min(1, (chunk * 1e9) / span.duration_ns) : null,
        orphan: span.parent_id !== null && !byId.has(span.parent_id),
      });
      const own = byStart(children.get(span.span_id) ?? []);
      for (let index = own.length - 1; index >= 0; index -= 1) stack.push({ span: own[index]!, depth: depth + 1 });
    }
  };
  place(byStart(children.get(null) ?? []));
  place(byStart(spans.filter((span) => !placed.has(span.span_id)))); // parents that form a ring
  return rows;
}

function byStart(spans: Span[]): Span[] {
  return [...spans].sort((a, b) => a.offset_ns - b.offset_ns || b.duration_ns - a.duration_ns);
}

/** Round times in milliseconds for an axis over this many, at most `most` of them. */
export function ticks(totalMs: number, most: number): number[] {
  if (!(totalMs > 0)) return [0];
  const rough = totalMs / most;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= rough)!;
  const found: number[] = [];
  for (let index = 0; index * step <= totalMs * 1.0001; index += 1) found.push(index * step);
  return found;
}
