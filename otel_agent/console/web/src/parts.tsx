/** Small pieces that every panel is made of. */

import type { ComponentChildren } from "preact";
import { DASH } from "./format";
import { sourceNamed, sources } from "./state";

/** A value, or a dash that says it is unknown. */
export function Value({ text, title }: { text: string; title?: string | undefined }) {
  return text === DASH ? (
    <span class="unknown" title={title ?? "unknown"}>
      {DASH}
    </span>
  ) : (
    <span title={title}>{text}</span>
  );
}

export function Panel({ title, aside, children, id }: { title: string; aside?: ComponentChildren; children: ComponentChildren; id: string }) {
  return (
    <section class="panel" aria-labelledby={`${id}-title`} id={id}>
      <header>
        <h2 id={`${id}-title`}>{title}</h2>
        <div class="aside">{aside}</div>
      </header>
      {children}
    </section>
  );
}

/** Why a source gives nothing, and what helps. Nothing where all is well. */
export function SourceNotice({ name }: { name: string }) {
  const source = sourceNamed(name);
  if (sources.value.length === 0) return <Notice state="starting" reason="Asking the agent …" />;
  if (source === undefined) return <Notice state="off" reason="This source is switched off." remedy={`Add ${name} to OTEL_LLM_SOURCES.`} />;
  if (source.state === "ok") return null;
  if (source.state === "starting") return <Notice state="starting" reason="The first reading is on its way." />;
  return <Notice state={source.state} reason={sentence(source.reason ?? source.state)} remedy={source.remedy === null ? undefined : sentence(source.remedy)} />;
}

export function Notice({ state, reason, remedy }: { state: string; reason: string; remedy?: string | undefined }) {
  return (
    <div class={`notice ${state}`} role="status">
      <p class="reason">{reason}</p>
      {remedy === undefined ? null : <p class="remedy">{remedy}</p>}
    </div>
  );
}

function sentence(text: string): string {
  const first = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(first) ? first : `${first}.`;
}

/** How full something is; nothing is drawn where that is unknown. */
export function Meter({ part, whole, tone }: { part: number | null; whole: number | null; tone: string }) {
  if (part === null || whole === null || whole <= 0) return <div class="meter empty" />;
  const share = Math.min(1, part / whole);
  return (
    <div class="meter" role="meter" aria-valuemin={0} aria-valuemax={100} aria-valuenow={Math.round(100 * share)}>
      <i class={tone} style={{ width: `${100 * share}%` }} />
    </div>
  );
}
