// Frames of a camera or a video, one after the other, newest only: while enough frames are unanswered, none is
// sent, so that what is shown never falls behind.

import { scaleBox, type Size, within } from "./geometry";
import type { Finding } from "./records";

/** The result of a frame, in its own pixels, and the milliseconds since it was taken. */
export interface LookedAt {
  frame: ImageBitmap;
  finding: Finding;
  delayMs: number;
}

export type OnFrame = (looked: LookedAt) => void;

export interface FrameFinder {
  /** Whether a frame would be processed now. */
  readonly ready: boolean;
  /** What `delayMs` measures, for people. */
  readonly delay: string;
  /** Sends the frame that is shown; false where there was none. */
  send(video: HTMLVideoElement): Promise<boolean>;
  close(): void;
}

export class LocalFrames implements FrameFinder {
  readonly delay = "for a frame";
  private busy = false;
  private closed = false;

  constructor(
    private readonly detect: (bitmap: ImageBitmap) => Promise<Finding>,
    private readonly onFrame: OnFrame,
    private readonly onTrouble: (text: string) => void,
  ) {}

  get ready(): boolean {
    return !this.busy;
  }

  async send(video: HTMLVideoElement): Promise<boolean> {
    this.busy = true;
    try {
      const start = performance.now();
      const frame = await grabbed(video);
      if (!frame) return false;
      const finding = await this.detect(await createImageBitmap(frame));
      if (this.closed) frame.close();
      else this.onFrame({ frame, finding, delayMs: performance.now() - start });
    } catch (error) {
      if (!this.closed) this.onTrouble(error instanceof Error ? error.message : String(error));
    } finally {
      this.busy = false;
    }
    return true;
  }

  close(): void {
    this.closed = true;
  }
}

/** The frame that a video shows; null while it has none yet, or none any more. */
async function grabbed(video: HTMLVideoElement): Promise<ImageBitmap | null> {
  try {
    return await createImageBitmap(video);
  } catch (error) {
    if (error instanceof DOMException && error.name === "InvalidStateError") return null;
    throw error;
  }
}

interface StreamAnswer extends Partial<Finding> {
  seq?: number;
  problem?: { detail: string };
}

const UNANSWERED = 2; // one is processed while the next one travels
const LONGEST_SIDE = 960; // pixels; the network looks at 640 at most
const JPEG_QUALITY = 0.9;

export class ServerFrames implements FrameFinder {
  readonly delay = "round trip";
  private readonly sent = new Map<number, { frame: ImageBitmap; start: number }>();
  private next = 0;
  private taking = false;
  private closed = false;

  private constructor(
    private readonly socket: WebSocket,
    private readonly onFrame: OnFrame,
    private readonly onTrouble: (text: string) => void,
  ) {
    socket.addEventListener("message", (event: MessageEvent<string>) => this.take(event.data));
    socket.addEventListener("close", (event) => {
      if (!this.closed) onTrouble(closeReason(event));
    });
  }

  static open(url: URL, onFrame: OnFrame, onTrouble: (text: string) => void): Promise<ServerFrames> {
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(url);
    return new Promise((resolve, reject) => {
      socket.addEventListener("open", () => resolve(new ServerFrames(socket, onFrame, onTrouble)), { once: true });
      socket.addEventListener("error", () => reject(new Error("the service takes no stream; try again")), { once: true });
    });
  }

  get ready(): boolean {
    return !this.taking && this.sent.size < UNANSWERED && this.socket.readyState === WebSocket.OPEN;
  }

  async send(video: HTMLVideoElement): Promise<boolean> {
    this.taking = true;
    try {
      const start = performance.now();
      const frame = await grabbed(video);
      if (!frame) return false;
      const jpeg = await (await encoded(frame)).arrayBuffer();
      if (this.closed) {
        frame.close();
        return false;
      }
      const seq = this.next++;
      this.sent.set(seq, { frame, start });
      this.socket.send(message(seq, jpeg));
    } finally {
      this.taking = false;
    }
    return true;
  }

  close(): void {
    this.closed = true;
    this.socket.close();
    for (const { frame } of this.sent.values()) frame.close();
    this.sent.clear();
  }

  private take(text: string): void {
    const answer = JSON.parse(text) as StreamAnswer;
    if (answer.problem) this.onTrouble(answer.problem.detail);
    const looked = this.sent.get(answer.seq ?? -1);
    if (answer.seq !== undefined) this.forget(answer.seq, looked?.frame);
    if (!looked || this.closed) return;
    if (!answer.detections) return looked.frame.close();
    const { frame, start } = looked;
    const from = { width: answer.width ?? frame.width, height: answer.height ?? frame.height };
    const finding = inPixelsOf(frame, from, answer.detections);
    this.onFrame({ frame, finding, delayMs: performance.now() - start });
  }

  /** The service answers in order: what is older than an answer was dropped there. */
  private forget(seq: number, kept: ImageBitmap | undefined): void {
    for (const [old, { frame }] of this.sent) {
      if (old > seq) continue;
      if (frame !== kept) frame.close();
      this.sent.delete(old);
    }
  }
}

function inPixelsOf(frame: Size, from: Size, detections: Finding["detections"]): Finding {
  const scaled = detections.map((one) => ({ ...one, box: scaleBox(one.box, from, frame) }));
  return { width: frame.width, height: frame.height, detections: scaled };
}

/** 8 bytes sequence number, big-endian, then the JPEG. */
export function message(seq: number, jpeg: ArrayBuffer): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(8 + jpeg.byteLength);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(seq));
  bytes.set(new Uint8Array(jpeg), 8);
  return bytes;
}

function encoded(frame: ImageBitmap): Promise<Blob> {
  const size = within(frame, LONGEST_SIDE);
  const canvas = new OffscreenCanvas(size.width, size.height);
  canvas.getContext("2d")?.drawImage(frame, 0, 0, size.width, size.height);
  return canvas.convertToBlob({ type: "image/jpeg", quality: JPEG_QUALITY });
}

function closeReason(event: CloseEvent): string {
  if (event.code === 1001) return "the service stops; start it again";
  if (event.code === 1013) return "the service has too many streams; try again later";
  return `the stream broke off (${event.code}${event.reason && ` ${event.reason}`}); start it again`;
}
