// Server-sent events over fetch, which unlike EventSource can carry the token in a header.

export interface ServerEvent {
  event: string;
  id: string;
  data: string;
}

/** Cuts a stream of text into events (HTML standard, section 9.2); `push` takes what has come. */
export class EventCutter {
  private rest = "";

  push(text: string): ServerEvent[] {
    const blocks = (this.rest + text).replaceAll("\r\n", "\n").split("\n\n");
    this.rest = blocks.pop() ?? "";
    return blocks.map(parse).filter((one) => one.data !== "");
  }
}

function parse(block: string): ServerEvent {
  const found: ServerEvent = { event: "message", id: "", data: "" };
  const data: string[] = [];
  for (const line of block.split("\n")) {
    const [, field, value] = /^(event|id|data): ?(.*)$/.exec(line) ?? [];
    if (field === "data") data.push(value ?? "");
    else if (field === "event" || field === "id") found[field] = value ?? "";
  }
  return { ...found, data: data.join("\n") };
}

/** Calls `onEvent` until the stream ends. */
export async function readEvents(response: Response, onEvent: (event: ServerEvent) => void): Promise<void> {
  const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
  const cutter = new EventCutter();
  for (let next = await reader?.read(); next && !next.done; next = await reader?.read()) {
    cutter.push(next.value).forEach(onEvent);
  }
}
