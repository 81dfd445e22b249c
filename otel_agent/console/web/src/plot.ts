/** One line chart without axes, legend or cursor of its own: the strips share theirs. */

import uPlot from "uplot";

export interface Line {
  values: (number | null)[];
  /** A CSS colour, resolved. */
  stroke: string;
  fill?: string;
  width?: number;
  dash?: number[];
}

export interface Scale {
  from: number;
  to: number;
  /** Upper end of the vertical scale; null for the largest value. */
  max: number | null;
}

/** Draws into `box`; a plot cannot change its colours, so another set of lines makes a new one. */
export class Plot {
  private plot: uPlot | null = null;
  private look = "";

  constructor(private readonly box: HTMLElement) {}

  draw(times: number[], lines: Line[], scale: Scale): void {
    const { clientWidth: width, clientHeight: height } = this.box;
    if (width === 0 || height === 0) return;
    const look = JSON.stringify([lines.map(({ stroke, fill, width: weight, dash }) => [stroke, fill, weight, dash]), scale.max === null]);
    if (this.plot === null || look !== this.look) {
      this.look = look;
      this.plot?.destroy();
      this.plot = new uPlot(options(width, height, lines), [times, ...lines.map((line) => line.values)] as uPlot.AlignedData, this.box);
    } else {
      if (this.plot.width !== width || this.plot.height !== height) this.plot.setSize({ width, height });
      this.plot.setData([times, ...lines.map((line) => line.values)] as uPlot.AlignedData, false);
    }
    const top = scale.max ?? largest(lines);
    this.plot.batch(() => {
      this.plot!.setScale("x", { min: scale.from, max: scale.to });
      this.plot!.setScale("y", { min: 0, max: top > 0 ? top : 1 });
    });
  }

  destroy(): void {
    this.plot?.destroy();
    this.plot = null;
  }
}

export function largest(lines: Line[]): number {
  let top = 0;
  for (const line of lines) for (const value of line.values) if (value !== null && value > top) top = value;
  return top;
}

function options(width: number, height: number, lines: Line[]): uPlot.Options {
  return {
    width,
    height,
    padding: [2, 0, 1, 0],
    cursor: { show: false },
    legend: { show: false },
    axes: [{ show: false }, { show: false }],
    scales: { x: { time: true, auto: false }, y: { auto: false } },
    series: [
      {},
      ...lines.map((line) => ({
        stroke: line.stroke,
        width: line.width ?? 1.5,
        points: { show: false },
        spanGaps: false,
        ...(line.fill === undefined ? {} : { fill: line.fill }),
        ...(line.dash === undefined ? {} : { dash: line.dash }),
      })),
    ],
  };
}
