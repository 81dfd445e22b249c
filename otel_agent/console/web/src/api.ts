/** Questions to the agent; every wait has a deadline, every failure is said in its own words. */

import type { Trouble } from "./types";

const DEADLINE_MS = 10_000;

export class ApiError extends Error {
  constructor(
    readonly status: number,
    message: string,
    readonly remedy: string,
  ) {
    super(message);
  }
}

export async function get<T>(path: string): Promise<T> {
  let response: Response;
  try {
    response = await fetch(path, { signal: AbortSignal.timeout(DEADLINE_MS), headers: { accept: "application/json" } });
  } catch (error) {
    const late = error instanceof DOMException && error.name === "TimeoutError";
    throw new ApiError(0, late ? `no answer within ${DEADLINE_MS / 1000} s` : "the agent cannot be reached", "is it still running?");
  }
  if (!response.ok) {
    const trouble = (await response.json().catch(() => ({ error: `status ${response.status}` }))) as Trouble;
    throw new ApiError(response.status, trouble.error, trouble.remedy ?? "");
  }
  return (await response.json()) as T;
}
