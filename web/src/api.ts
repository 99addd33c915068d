// The service's API, version 1: docs/service.md.

import { patiently } from "./patience";
import type { Detection, Finding, Model } from "./records";

const TOKEN_KEY = "maskwatch.token";

/** What the service refused, in its own words (RFC 9457). */
export class Problem extends Error {
  constructor(
    readonly status: number,
    detail: string,
  ) {
    super(detail);
  }
}

export interface Person {
  track: number;
  state: string;
  since_s: number;
}

export interface WatchedSource {
  name: string;
  state: string;
  reason: string;
  fps: number;
  dropped: number;
  width: number | null;
  height: number | null;
  people: Person[];
  counts: Record<string, number>;
  stream: string;
}

export interface WatchEvent {
  id: string;
  kind: string;
  time: string;
  source: string;
  state: string | null;
  zone: string | null;
  line: string | null;
  direction: string | null;
  duration_s: number | null;
  reason: string | null;
  track: number | null;
}

export interface WatchedSink {
  name: string;
  sent: number;
  waiting: number;
  lost: number;
  error: string | null;
}

export interface Watching {
  sources: WatchedSource[];
  sinks: WatchedSink[];
  events: WatchEvent[];
}

export class Api {
  // Of this tab alone, and gone when it is closed.
  private token = sessionStorage.getItem(TOKEN_KEY) ?? "";

  setToken(token: string): void {
    this.token = token;
    sessionStorage.setItem(TOKEN_KEY, token);
  }

  async models(): Promise<Model[]> {
    return ((await this.json("v1/models")) as { models: Model[] }).models;
  }

  /** The bytes of a model file; `progress` hears how many have come. */
  async modelFile(model: Model, progress: (bytes: number) => void): Promise<ArrayBuffer> {
    const response = await this.fetch(model.file);
    const reader = response.body?.getReader();
    if (!reader) return response.arrayBuffer();
    const parts: Uint8Array<ArrayBuffer>[] = [];
    let bytes = 0;
    for (let next = await reader.read(); !next.done; next = await reader.read()) {
      parts.push(next.value);
      progress((bytes += next.value.length));
    }
    return new Blob(parts).arrayBuffer();
  }

  /** Sends one picture to the service. */
  async detect(picture: Blob, model: string, threshold: number): Promise<Finding> {
    const query = new URLSearchParams({ model, threshold: String(threshold) });
    const headers = { "Content-Type": "application/octet-stream" };
    const answer = await this.json(`v1/detect?${query}`, { method: "POST", body: picture, headers });
    const [result] = (answer as { results: Finding[] }).results;
    if (!result) throw new Problem(422, "the service gave no answer for this picture; try again");
    return result;
  }

  /** Whether the service stores pictures whose answer is wrong. */
  async keepsFeedback(): Promise<boolean> {
    try {
      return ((await this.json("v1/feedback")) as { kept: boolean }).kept;
    } catch (error) {
      if (error instanceof Problem && error.status === 404) return false;
      throw error;
    }
  }

  /** Stores a picture and its wrong answer; false for one that is stored already. */
  async sendFeedback(data: string, name: string, model: string, detections: Detection[]): Promise<boolean> {
    const found = detections.map(({ class: name, score, box }) => ({ class: name, score, box }));
    const body = JSON.stringify({ data, name: name.slice(0, 200), model, detections: found });
    const headers = { "Content-Type": "application/json" };
    return ((await this.json("v1/feedback", { method: "POST", body, headers })) as { kept: boolean }).kept;
  }

  /** What is watched, or null where the service watches nothing. */
  async watching(): Promise<Watching | null> {
    try {
      return (await this.json("v1/watch")) as Watching;
    } catch (error) {
      if (error instanceof Problem && error.status === 404) return null;
      throw error;
    }
  }

  events(): Promise<Response> {
    return this.fetch("v1/watch/events", { headers: { Accept: "text/event-stream" } });
  }

  /** An address with a ticket, for a WebSocket or a picture, which send no headers. */
  async ticketed(path: string, query: Record<string, string> = {}): Promise<URL> {
    const { ticket } = (await this.json("v1/ticket", { method: "POST" })) as { ticket: string };
    const url = address(path);
    for (const [name, value] of Object.entries({ ...query, ticket })) url.searchParams.set(name, value);
    return url;
  }

  private async json(path: string, init: RequestInit = {}): Promise<unknown> {
    return (await this.fetch(path, init)).json();
  }

  private async fetch(path: string, init: RequestInit = {}): Promise<Response> {
    const headers = new Headers(init.headers);
    if (this.token) headers.set("Authorization", `Bearer ${this.token}`);
    let response: Response;
    try {
      response = await patiently(() => fetch(address(path), { ...init, headers }));
    } catch {
      throw new Problem(0, "the service does not answer; is it still running?");
    }
    if (!response.ok) throw await problem(response);
    return response;
  }
}

/** Below the page's own address, so that the service also works below a path of a proxy. */
function address(path: string): URL {
  return new URL(path.replace(/^\//, ""), document.baseURI);
}

async function problem(response: Response): Promise<Problem> {
  const body = (await response.json().catch(() => null)) as {
    detail?: string;
    failures?: { reason: string }[];
  } | null;
  const reason = body?.failures?.[0]?.reason ?? body?.detail;
  return new Problem(response.status, reason ?? `the service answered ${response.status}; try again`);
}
