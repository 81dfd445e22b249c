import { describe, expect, it } from "vitest";
import { extended, merged, spanOf, WINDOW_S } from "../src/state";
import type { Columns, Request } from "../src/types";

const columns = (time_s: number[], load: (number | null)[]): Columns<"load"> => ({ time_s, step_s: 10, load });
const request = (span_id: string, timestamp: string): Request => ({ trace_id: "t", span_id, timestamp }) as Request;

it("a reading is added once", () => {
  const grown = extended(columns([1000], [1]), 1010, { load: 2 }, ["load"]);

  expect(grown).toEqual({ time_s: [1000, 1010], step_s: 10, load: [1, 2] });
  expect(extended(grown, 1010, { load: 3 }, ["load"])).toBe(grown);
});

it("readings that are missing leave a gap, and unknown stays unknown", () => {
  expect(extended(columns([1000], [1]), 1060, { load: null }, ["load"])).toEqual({ time_s: [1000, 1010, 1060], step_s: 10, load: [1, null, null] });
});

it("what has left the window is dropped", () => {
  const grown = extended(columns([1000, 1000 + WINDOW_S], [1, 2]), 1020 + WINDOW_S, { load: 3 }, ["load"]);

  expect(grown).toEqual({ time_s: [1000 + WINDOW_S, 1020 + WINDOW_S], step_s: 10, load: [2, 3] });
});

it("requests stand newest first, each once", () => {
  const rows = merged([request("a", "2026-01-01T00:00:00Z")], [request("b", "2026-01-01T00:00:05Z"), request("a", "2026-01-01T00:00:00Z")]);

  expect(rows.map((row) => row.span_id)).toEqual(["b", "a"]);
});

describe("the span of the strips", () => {
  const to = 1_800_000_000;
  const request = (age: number) => ({ timestamp: new Date((to - age) * 1000).toISOString() });

  it("is short while there is little to show", () => {
    expect(spanOf(to, to - 20, [])).toBe(180);
    expect(spanOf(to, to - 200, [])).toBe(360);
    expect(spanOf(to, to - 400, [])).toBe(900);
  });

  it("reaches back to every request inside the window, and to none before it", () => {
    expect(spanOf(to, to - 20, [request(300)])).toBe(360);
    expect(spanOf(to, to - 20, [request(5000)])).toBe(180);
  });

  it("is the whole window where nothing is known", () => {
    expect(spanOf(to, null, [])).toBe(900);
  });
});
