import { describe, expect, it } from "vitest";
import * as format from "../src/format";

const seen = (text: string): string => text.replaceAll("\u202f", " ");

describe("unknown is a dash and never a zero", () => {
  it.each([format.percent, format.bytes, format.rate, format.count, format.plain, format.duration, format.cost])("%o", (write) => {
    expect(write(null)).toBe("–");
    expect(write(0)).not.toBe("–");
  });
});

it.each([
  [0, "0 B"],
  [1023, "1023 B"],
  [1536, "1.50 KiB"],
  [150_754_820_096, "140 GiB"],
])("%d bytes read %s", (value, text) => expect(seen(format.bytes(value))).toBe(text));

it.each([
  [0.004, "4 µs"],
  [5.25, "5.3 ms"],
  [842.4, "842 ms"],
  [1840, "1.84 s"],
  [125_000, "2 min 5 s"],
  [3_600_000, "1 h 0 min"],
  [90_000_000, "1 d 1 h"],
])("%d ms read %s", (value, text) => expect(seen(format.duration(value))).toBe(text));

it.each([
  [0, "$0"],
  [0.00001234, "$0.000012"],
  [0.0049, "$0.0049"],
  [12.345, "$12.35"],
])("%d dollars read %s", (value, text) => expect(format.cost(value)).toBe(text));

it("a total is told with its unit, and left out where it is unknown", () => {
  expect(seen(format.ofTotal(64 * 2 ** 30, 140 * 2 ** 30))).toBe("64.0 of 140 GiB");
  expect(seen(format.ofTotal(512 * 2 ** 20, 2 * 2 ** 30))).toBe("512 MiB of 2.00 GiB");
  expect(seen(format.ofTotal(1024, null))).toBe("1.00 KiB");
});

it.each([
  [[], ""],
  [[3], "3"],
  [[1, 0], "0, 1"],
  [[0, 1, 2, 3, 6], "0–3, 6"],
])("%j reads %s", (numbers, text) => expect(format.ranges(numbers)).toBe(text));
