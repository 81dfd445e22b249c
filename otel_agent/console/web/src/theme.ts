/** Dark, light, or as the system has it. */

import { signal } from "@preact/signals";

export type Theme = "system" | "light" | "dark";
const KEY = "otel-llm-theme";
const ORDER: readonly Theme[] = ["system", "light", "dark"];

export const theme = signal<Theme>(kept());
/** Changes whenever colours may have changed: canvases do not follow style sheets. */
export const painted = signal(0);

function kept(): Theme {
  try {
    const value = localStorage.getItem(KEY);
    return ORDER.find((one) => one === value) ?? "system";
  } catch {
    return "system"; // storage switched off: the choice lasts as long as the page
  }
}

export function apply(): void {
  document.documentElement.style.colorScheme = theme.value === "system" ? "light dark" : theme.value;
  painted.value += 1;
}

export function next(): void {
  theme.value = ORDER[(ORDER.indexOf(theme.value) + 1) % ORDER.length]!;
  try {
    localStorage.setItem(KEY, theme.value);
  } catch {
    // as above
  }
  apply();
}

export function follow(): void {
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", apply);
  apply();
}

/** Resolves a colour of the style sheet for a canvas. */
export function colour(element: HTMLElement, name: string): string {
  const probe = document.createElement("i");
  probe.style.color = `var(${name})`;
  element.append(probe);
  const resolved = getComputedStyle(probe).color;
  probe.remove();
  return resolved;
}
