/** What stands in this machine: its GPUs and its containers. */

import * as format from "./format";
import { Meter, Panel, SourceNotice, Value } from "./parts";
import { clock, now, sourceNamed } from "./state";
import type { ContainerMetrics, GpuMetrics } from "./types";

export function GpusPanel() {
  const gpus = now.value?.gpus ?? [];
  const names = new Set(gpus.map((gpu) => gpu.gpu_name));
  const shared = names.size === 1 ? (gpus[0]?.gpu_name ?? null) : null;
  return (
    <Panel id="gpus" title={gpus.length === 1 ? "GPU" : "GPUs"} aside={gpus.length === 0 ? null : shared === null ? format.count(gpus.length) : `${gpus.length > 1 ? `${gpus.length} × ` : ""}${shared}`}>
      {gpus.length === 0 ? (
        <Missing name="gpu" none="No GPU is in the store yet." />
      ) : (
        <table class="gpus">
          <thead>
            <tr>
              <th />
              <th class="number" title="share of time in which a kernel ran">
                Busy
              </th>
              <th>Memory</th>
              <th class="number">Temp.</th>
              <th class="number">Power</th>
            </tr>
          </thead>
          <tbody>
            {gpus.map((gpu) => (
              <Gpu key={gpu.gpu_uuid} gpu={gpu} named={shared === null} />
            ))}
          </tbody>
        </table>
      )}
    </Panel>
  );
}

function Gpu({ gpu, named }: { gpu: GpuMetrics; named: boolean }) {
  return (
    <tr>
      <th scope="row" title={`${gpu.gpu_name ?? "name unknown"} · ${gpu.gpu_uuid} · graphics ${format.plain(gpu.clock_graphics_mhz, "MHz")}, memory ${format.plain(gpu.clock_memory_mhz, "MHz")}`}>
        {gpu.gpu_id ?? format.DASH}
        {named ? <span class="name"> {gpu.gpu_name}</span> : null}
      </th>
      <td class="number strong">
        <Value text={format.percent(gpu.utilization_percent)} />
      </td>
      <td class="memory">
        <Value text={format.ofTotal(gpu.memory_used_bytes, gpu.memory_total_bytes)} title={processes(gpu)} />
        <Meter part={gpu.memory_used_bytes} whole={gpu.memory_total_bytes} tone="gpu" />
      </td>
      <td class="number">
        <Value text={gpu.temperature_celsius === null ? format.DASH : `${Math.round(gpu.temperature_celsius)}\u202f°C`} />
      </td>
      <td class="number">
        <Value text={gpu.power_watts === null ? format.DASH : `${Math.round(gpu.power_watts)}\u202fW`} />
      </td>
    </tr>
  );
}

function processes(gpu: GpuMetrics): string {
  if (gpu.processes === null) return "processes unknown";
  return gpu.processes.length === 0 ? "no process" : gpu.processes.map((one) => `${one.name ?? "process"} ${one.pid ?? ""}: ${format.bytes(one.memory_used_bytes)}`).join("\n");
}

export function ContainersPanel() {
  const containers = now.value?.containers ?? [];
  const running = containers.filter((one) => one.status === "running").length;
  return (
    <Panel id="containers" title="Containers" aside={containers.length > 0 ? `${running} of ${containers.length} running` : null}>
      {containers.length === 0 ? <Missing name="containers" none="The engine has no containers." /> : null}
      <ul class="containers">
        {containers.map((container) => (
          <Container key={container.container_id} container={container} />
        ))}
      </ul>
    </Panel>
  );
}

function Container({ container }: { container: ContainerMetrics }) {
  const gpus = container.gpu_indices !== null && container.gpu_indices.length > 0 ? `GPU ${format.ranges(container.gpu_indices)}` : container.gpu_enabled ? "GPU" : null;
  return (
    <li class="card">
      <div class="head">
        <span class={`dot ${container.status ?? "unknown"}`} title={container.status ?? "state unknown"} />
        <b>{container.container_name ?? container.container_id.slice(0, 12)}</b>
        <span class="name" title={container.container_id}>
          <Value text={container.image ?? format.DASH} />
        </span>
        {gpus === null ? null : <span class="chip">{gpus}</span>}
        <b class="end">{container.status === "running" ? <Value text={format.percent(container.cpu_usage_percent)} /> : container.status}</b>
      </div>
      {container.status === "running" ? (
        <dl>
          <Fact name="memory" text={format.ofTotal(container.memory_used_bytes, container.memory_limit_bytes)} />
          <Fact name="received" text={format.bytes(container.network_rx_bytes)} />
          <Fact name="sent" text={format.bytes(container.network_tx_bytes)} />
          <Fact name={container.restart_count === 1 ? "restart" : "restarts"} text={format.count(container.restart_count)} />
          <Fact name="created" text={format.ago(container.created_at, clock.value)} />
        </dl>
      ) : null}
    </li>
  );
}

function Fact({ name, text }: { name: string; text: string }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>
        <Value text={text} />
      </dd>
    </div>
  );
}

function Missing({ name, none }: { name: string; none: string }) {
  return sourceNamed(name)?.state === "ok" ? <p class="waiting">{none}</p> : <SourceNotice name={name} />;
}
