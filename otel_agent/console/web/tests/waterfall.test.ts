import { expect, it } from "vitest";
import { lanesOf } from "../src/lanes";
import type { Span } from "../src/types";
import { layOut, ticks } from "../src/waterfall";

function span(id: string, parent: string | null, offset: number, duration: number, attributes = {}): Span {
  return { span_id: id, parent_id: parent, name: id, kind: "internal", service: null, scope: "", offset_ns: offset, duration_ns: duration, status: "unset", status_message: null, attributes, events: [], resource: {} };
}

const told = (spans: Span[], total: number) => layOut(spans, total).map((row) => [row.span.span_id, row.depth, row.left, row.width]);

it("children stand under their callers, by their start", () => {
  const spans = [span("late", "root", 60, 10), span("root", null, 0, 100), span("inner", "early", 15, 5), span("early", "root", 10, 20)];

  expect(told(spans, 100)).toEqual([
    ["root", 0, 0, 1],
    ["early", 1, 0.1, 0.2],
    ["inner", 2, 0.15, 0.05],
    ["late", 1, 0.6, 0.1],
  ]);
});

it("a span whose caller has not arrived is shown, and marked", () => {
  const [row] = layOut([span("orphan", "gone", 0, 10)], 10);

  expect([row!.depth, row!.orphan]).toEqual([0, true]);
});

it("spans that call each other in a ring are shown once each", () => {
  expect(told([span("a", "b", 0, 10), span("b", "a", 1, 5), span("self", "self", 2, 1)], 10).map(([id]) => id).sort()).toEqual(["a", "b", "self"]);
});

it("a trace a hundred thousand spans deep is laid out", () => {
  const spans = Array.from({ length: 100_000 }, (_, depth) => span(`${depth}`, depth === 0 ? null : `${depth - 1}`, depth, 1));

  expect(layOut(spans, 100_000).at(-1)!.depth).toBe(99_999);
});

it("the first chunk is marked where the span tells, within its bar", () => {
  const rows = layOut([span("a", null, 0, 2e9, { "gen_ai.response.time_to_first_chunk": 0.5 }), span("b", null, 1, 2e9)], 2e9);

  expect(rows.map((row) => row.firstChunk)).toEqual([0.25, null]);
});

it("a trace without length has a place to stand", () => expect(told([span("a", null, 0, 0)], 0)).toEqual([["a", 0, 0, 0]]));

it("ticks are round and few", () => {
  expect(ticks(1240, 5)).toEqual([0, 500, 1000]);
  expect(ticks(0, 5)).toEqual([0]);
});

it("bars that overlap go onto lanes of their own, as far as there are any", () => {
  const bars = [
    { start: 0, end: 10 },
    { start: 5, end: 8 },
    { start: 8, end: 12 },
    { start: 11, end: 12 },
  ];

  expect(lanesOf(bars, 5)).toEqual([0, 1, 1, 0]);
  expect(lanesOf(bars, 1)).toEqual([0, 0, 0, 0]);
});
