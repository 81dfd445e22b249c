/** One row per GPU, the darker the busier; where nothing was measured, nothing is drawn. */

import { useEffect, useRef } from "preact/hooks";
import { span } from "./state";
import { colour, painted } from "./theme";

interface HeatProps {
  times: number[];
  /** 0 to 100 by row and time. */
  rows: (number | null)[][];
  to: number;
  stepS: number;
  label: string;
}

const LEAST = 0.07; // an idle GPU is pale, not invisible

export function Heat({ times, rows, to, stepS, label }: HeatProps) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const paint = painted.value;
  const shown = span.value;
  const drawn = useRef<() => void>(() => undefined);
  drawn.current = () => {
    const element = canvas.current;
    const context = element?.getContext("2d");
    if (!element || !context) return;
    const ratio = devicePixelRatio;
    const { clientWidth: width, clientHeight: height } = element;
    element.width = width * ratio;
    element.height = height * ratio;
    context.scale(ratio, ratio);
    context.fillStyle = colour(element.parentElement!, "--gpu");
    const x = (time: number): number => (width * (time - to + shown)) / shown;
    const tall = (height - 6) / rows.length;
    rows.forEach((values, row) => {
      values.forEach((value, index) => {
        const from = times[index];
        if (value === null || from === undefined) return;
        const until = Math.min(times[index + 1] ?? to, from + 2 * stepS);
        context.globalAlpha = LEAST + ((1 - LEAST) * Math.min(100, value)) / 100;
        context.fillRect(x(from), 3 + row * tall, Math.max(1, x(until) - x(from)), Math.max(1, tall - (tall > 4 ? 1 : 0)));
      });
    });
  };
  useEffect(() => drawn.current(), [times, rows, to, paint, shown]);
  useEffect(() => {
    const observer = new ResizeObserver(() => drawn.current());
    if (canvas.current !== null) observer.observe(canvas.current);
    return () => observer.disconnect();
  }, []);
  return (
    <div class="plot" role="img" aria-label={label}>
      <canvas class="heat" ref={canvas} />
    </div>
  );
}
