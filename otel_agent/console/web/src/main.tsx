/** The page: header, strips, panels, and the drawer of an open trace. */

import { effect } from "@preact/signals";
import { render } from "preact";
import * as format from "./format";
import { Help, listen } from "./keys";
import { start } from "./live";
import { ContainersPanel, GpusPanel } from "./machine";
import { Notice } from "./parts";
import { RequestsPanel } from "./requests";
import { clock, connection, helpOpen, now, openTrace, trouble } from "./state";
import { Strips } from "./strips";
import { follow, next, theme } from "./theme";
import { TraceDrawer } from "./trace";

const SAID = { connecting: "connecting", live: "live", polling: "every 5 s", lost: "not connected", "signed-out": "signed out" } as const;
const STALE_S = 30;

function Header() {
  const present = now.value;
  const age = present === null ? null : Math.max(0, Math.round(clock.value / 1000 - present.time_s));
  const stale = age !== null && age > STALE_S;
  return (
    <header class="page">
      <h1>otel-llm</h1>
      <span class="host" title="this machine">
        {present?.system?.hostname ?? present?.agent.hostname ?? ""}
      </span>
      <span class={`connection ${connection.value} ${stale ? "stale" : ""}`} role="status" title={age === null ? "nothing received yet" : `last reading ${format.duration(1000 * age)} ago`}>
        {SAID[connection.value]}
        {stale ? ` · ${format.duration(1000 * age)} old` : ""}
      </span>
      <nav>
        <button type="button" class="plain" onClick={next} title={`Colours: ${theme.value} (t)`} aria-label={`Colours: ${theme.value}`}>
          {{ system: "◐", light: "○", dark: "●" }[theme.value]}
        </button>
        <button type="button" class="plain" onClick={() => (helpOpen.value = true)} title="Keyboard (?)" aria-label="Keyboard">
          ?
        </button>
      </nav>
    </header>
  );
}

function Trouble() {
  const known = trouble.value;
  if (known === null) return null;
  if (connection.value === "signed-out") return <Notice state="failing" reason="This browser is no longer signed in." remedy="Open the link that otel-agent printed." />;
  return <Notice state="failing" reason={known.message} remedy={known.remedy || undefined} />;
}

function Page() {
  return (
    <>
      <Header />
      <Trouble />
      <main class={openTrace.value === null ? "" : "beside"}>
        <Strips />
        <div class="panels">
          <RequestsPanel />
          <div class="column">
            <GpusPanel />
            <ContainersPanel />
          </div>
        </div>
      </main>
      <TraceDrawer />
      <Help />
    </>
  );
}

/** The open trace stands in the address, so that it can be copied and the back button closes it. */
function address(): void {
  const read = (): void => {
    const [, trace, span] = /^#\/trace\/([0-9a-f]{32})(?:\/([0-9a-f]{16}))?$/.exec(location.hash) ?? [];
    if (trace !== openTrace.value?.trace) openTrace.value = trace === undefined ? null : { trace, span: span ?? null };
  };
  read();
  window.addEventListener("hashchange", read);
  effect(() => {
    const open = openTrace.value;
    const hash = open === null ? "" : `#/trace/${open.trace}${open.span === null ? "" : `/${open.span}`}`;
    if (hash !== location.hash) history.pushState(null, "", hash === "" ? location.pathname : hash);
  });
}

follow();
address();
listen();
start();
render(<Page />, document.getElementById("app")!);
