/** The keyboard, and the card that explains it. */

import { helpOpen, keyOf, openTrace, requests, selectedRequest } from "./state";
import { next } from "./theme";

const KEYS: readonly (readonly [string, string])[] = [
  ["j  k", "next and previous request; in a trace, span"],
  ["Enter", "open the trace of a request"],
  ["Esc", "close"],
  ["t", "dark, light, or as the system has it"],
  ["?", "this card"],
];

export function listen(): void {
  window.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target instanceof HTMLInputElement) return;
    const rows = requests.value ?? [];
    const place = Math.max(0, rows.findIndex((row) => keyOf(row) === selectedRequest.value));
    const select = (next: number): void => {
      event.preventDefault();
      const row = rows[Math.max(0, Math.min(rows.length - 1, next))];
      if (row !== undefined) selectedRequest.value = keyOf(row);
    };
    switch (event.key) {
      case "j":
        return select(place + 1);
      case "k":
        return select(place - 1);
      case "Enter": {
        const row = rows[place];
        if (row === undefined || event.target instanceof HTMLButtonElement) return undefined;
        openTrace.value = { trace: row.trace_id, span: row.span_id };
        return undefined;
      }
      case "Escape":
        if (helpOpen.value) helpOpen.value = false;
        else openTrace.value = null;
        return undefined;
      case "t":
        return next();
      case "?":
        helpOpen.value = !helpOpen.value;
        return undefined;
      default:
        return undefined;
    }
  });
}

export function Help() {
  if (!helpOpen.value) return null;
  return (
    <div class="veil" onClick={() => (helpOpen.value = false)}>
      <section class="help" role="dialog" aria-label="Keyboard">
        <h2>Keyboard</h2>
        <dl>
          {KEYS.map(([key, text]) => (
            <div key={key}>
              <dt>
                <kbd>{key}</kbd>
              </dt>
              <dd>{text}</dd>
            </div>
          ))}
        </dl>
        <p>A dash means unknown: nobody measured it. It is never a zero.</p>
      </section>
    </div>
  );
}
