/** Bars that overlap in time go onto different lanes, the earliest free one first. Pure. */

export interface Bar {
  start: number;
  end: number;
}

/** Returns the lane of each bar; where all are taken, the one that comes free first. */
export function lanesOf(bars: readonly Bar[], most: number): number[] {
  const order = bars.map((_, index) => index).sort((a, b) => bars[a]!.start - bars[b]!.start);
  const free: number[] = [];
  const lanes = new Array<number>(bars.length).fill(0);
  for (const index of order) {
    const bar = bars[index]!;
    let lane = free.findIndex((end) => end <= bar.start);
    if (lane < 0 && free.length < most) lane = free.push(0) - 1;
    if (lane < 0) lane = free.indexOf(Math.min(...free));
    free[lane] = Math.max(free[lane] ?? 0, bar.end);
    lanes[index] = lane;
  }
  return lanes;
}
