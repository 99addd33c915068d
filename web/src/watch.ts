// What the service itself watches (`maskwatch serve --watch`): the stream, the numbers, the last events.

import { type Api, Problem, type WatchedSink, type WatchedSource, type WatchEvent, type Watching } from "./api";
import { element, made, show } from "./dom";
import { readEvents } from "./sse";
import { spoken } from "./threshold";

const NUMBERS_MS = 1000;
const AGAIN_MS = 3000;
const LAST_EVENTS = 20;

export class Watch {
  private readonly known = new Set<string>();
  private readonly streams = new Map<string, string>();
  private readonly rows = new Map<string, HTMLTableRowElement>();
  private shown = "";

  constructor(private readonly api: Api) {}

  /** Shows the section where the service watches something; gives whether it does. */
  async begin(): Promise<boolean> {
    const watching = await this.api.watching();
    show(element("watch"), watching !== null);
    if (!watching) return false;
    element<HTMLImageElement>("watch-stream").addEventListener("error", () => this.later(() => this.open(), AGAIN_MS));
    this.render(watching);
    this.later(() => this.numbers(), NUMBERS_MS);
    void this.listen();
    return true;
  }

  private later(task: () => Promise<void>, ms: number): void {
    setTimeout(() => void task().catch(() => this.later(task, AGAIN_MS)), ms);
  }

  private async numbers(): Promise<void> {
    const watching = await this.api.watching();
    if (watching) this.render(watching);
    this.later(() => this.numbers(), NUMBERS_MS);
  }

  private async listen(): Promise<void> {
    try {
      const response = await this.api.events();
      await readEvents(response, ({ data }) => this.add(JSON.parse(data) as WatchEvent));
    } catch (error) {
      if (error instanceof Problem && error.status === 401) return; // the numbers ask for the token
    }
    this.later(() => this.listen(), AGAIN_MS);
  }

  private render({ sources, sinks, events }: Watching): void {
    events.forEach((event) => this.add(event)); // the stream begins, and comes back, without what happened meanwhile
    renderSinks(sinks);
    for (const { name, stream } of sources) this.streams.set(name, stream);
    const current = sources.find((one) => one.name === this.shown) ?? sources[0];
    if (!current) return;
    if (current.name !== this.shown) {
      this.shown = current.name;
      void this.open();
    }
    sources.forEach((one) => this.row(one));
    const pace = current.state === "live" ? `${current.fps.toFixed(1)} frames a second` : current.reason;
    const caption = element("watch-caption");
    caption.textContent = [current.name, current.state, pace].filter(Boolean).join(", ");
    caption.classList.toggle("bad", isLost(current));
  }

  /** One stream at a time: a browser keeps six connections to a host, and a stream never gives one back. */
  private async open(): Promise<void> {
    const image = element<HTMLImageElement>("watch-stream");
    image.alt = `Live picture of ${this.shown}, with boxes and zones`;
    image.src = (await this.api.ticketed(this.streams.get(this.shown) ?? "")).href;
  }

  /** Rows stay, so that a button keeps its focus while the numbers change. */
  private row(source: WatchedSource): void {
    const row = this.rows.get(source.name) ?? this.newRow(source.name);
    const state = source.reason ? `${source.state}: ${source.reason}` : source.state;
    const texts = [state, tally(peopleByState(source)), tally(source.counts)];
    texts.forEach((text, i) => {
      const cell = row.cells[i + 1];
      if (cell && cell.textContent !== text) cell.textContent = text;
    });
    row.cells[1]?.classList.toggle("bad", isLost(source));
    row.querySelector("button")?.setAttribute("aria-pressed", String(source.name === this.shown));
  }

  private newRow(name: string): HTMLTableRowElement {
    const row = made("tr");
    const button = made("button", name);
    button.type = "button";
    button.className = "small";
    button.addEventListener("click", () => {
      this.shown = name;
      void this.open();
    });
    const cell = made("td");
    cell.append(button);
    row.append(cell, made("td"), made("td"), made("td"));
    element("watch-sources").append(row);
    this.rows.set(name, row);
    return row;
  }

  private add(event: WatchEvent): void {
    if (this.known.has(event.id) || event.kind === "minute") return;
    this.known.add(event.id);
    const list = element("watch-events");
    const item = made("li", sentence(event));
    const at = Date.parse(event.time);
    item.dataset.at = String(at);
    const older = [...list.querySelectorAll("li")].find((one) => Number(one.dataset.at) <= at);
    list.insertBefore(item, older ?? null);
    while (list.childElementCount > LAST_EVENTS) list.lastElementChild?.remove();
  }
}

function isLost({ state }: WatchedSource): boolean {
  return state === "waiting" || state === "failed";
}

function renderSinks(sinks: WatchedSink[]): void {
  const list = element("watch-sinks");
  show(element("sinks"), sinks.length > 0);
  sinks.forEach((sink, i) => {
    const item = list.children[i] ?? list.appendChild(made("li"));
    const text = delivery(sink);
    if (item.textContent !== text) item.textContent = text;
    item.classList.toggle("bad", sink.error !== null || sink.lost > 0);
  });
}

/** How the events get to a sink, as a line that a person reads. */
export function delivery({ name, sent, waiting, lost, error }: WatchedSink): string {
  const counts = [`${sent} sent`, waiting > 0 ? `${waiting} waiting` : "", lost > 0 ? `${lost} lost` : ""];
  return `${name}: ${[...counts, error ?? ""].filter(Boolean).join(", ")}`;
}

function peopleByState(source: WatchedSource): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { state } of source.people) counts[state] = (counts[state] ?? 0) + 1;
  return counts;
}

/** "2 mask, 1 no mask", or a dash. */
export function tally(counts: Record<string, number>): string {
  const parts = Object.entries(counts).filter(([, count]) => count > 0);
  return parts.map(([name, count]) => `${count} ${spoken(name)}`).join(", ") || "–";
}

/** An event as a line that a person reads. */
export function sentence(event: WatchEvent): string {
  const time = new Date(event.time).toLocaleTimeString();
  const who = event.track === null ? "" : `person ${event.track} `;
  const where = event.zone ? ` in ${event.zone}` : "";
  const state = spoken(event.state ?? "");
  const what: Record<string, string> = {
    alert: `alert: ${who}${state}${where}`,
    alert_end: `over: ${who}${state}${where}, ${event.reason ?? ""} after ${event.duration_s?.toFixed(0) ?? "?"} s`,
    crossing: `${who}crossed ${event.line ?? "a line"} (${event.direction ?? "?"})`,
    source: `${state}${event.reason ? `: ${event.reason}` : ""}`,
  };
  return `${time} ${event.source}, ${what[event.kind] ?? spoken(event.kind)}`;
}
