// The camera, or a video file: frames go to the engine, as many as it can take.

import { element, show, textOf, trouble } from "./dom";
import type { Engine } from "./engine";
import type { FrameFinder, LookedAt } from "./frames";

export type OnLooked = (name: string, looked: LookedAt) => void;

const PACE_FRAMES = 20; // over which the pace is averaged
const NEVER = -1; // no time of a video

export class Live {
  private readonly video = document.createElement("video");
  private finder: FrameFinder | null = null;
  private stream: MediaStream | null = null;
  private name = "";
  private run = 0;
  private sentTime = NEVER;
  private facing: "environment" | "user" = "user";
  private readonly times: number[] = [];

  constructor(
    private readonly engine: () => Promise<Engine>,
    private readonly onLooked: OnLooked,
  ) {
    this.video.muted = true;
    this.video.playsInline = true;
    this.video.addEventListener("timeupdate", () => this.showPosition());
    this.video.addEventListener("play", () => (element("pause").textContent = "Pause"));
    this.video.addEventListener("pause", () => (element("pause").textContent = "Play"));
    element("seek").addEventListener("input", () => this.seek());
    element("pause").addEventListener("click", () => void (this.video.paused ? this.play() : this.video.pause()));
    element("stop").addEventListener("click", () => this.stop());
    element("flip").addEventListener("click", () => void this.flip());
  }

  get running(): boolean {
    return this.name !== "";
  }

  async camera(): Promise<void> {
    this.stop();
    if (!("mediaDevices" in navigator)) {
      trouble("browsers open a camera only over https or on this computer itself; ask for an address with https");
      return;
    }
    try {
      this.stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: this.facing }, audio: false });
    } catch (error) {
      trouble(`the camera cannot be opened (${textOf(error)}); allow it for this page, and see that it is free`);
      return;
    }
    this.video.srcObject = this.stream;
    this.stream.getTracks().forEach((track) => track.addEventListener("ended", () => this.stop()));
    const devices = await navigator.mediaDevices.enumerateDevices();
    show(element("flip"), devices.filter((device) => device.kind === "videoinput").length > 1);
    await this.begin("camera");
  }

  async file(file: Blob, name: string): Promise<void> {
    this.stop();
    this.video.src = URL.createObjectURL(file);
    const reason = await this.readable();
    if (reason) {
      this.stop();
      trouble(`${name}: this browser cannot play it; convert it to MP4 (H.264), or use: maskwatch detect`);
      return;
    }
    show(element("seek-row"), true);
    show(element("pause"), true);
    await this.begin(name);
  }

  /** Goes on with another engine. */
  async again(): Promise<void> {
    if (this.running) await this.begin(this.name, !this.video.paused);
  }

  stop(): void {
    this.run++;
    this.name = "";
    this.finder?.close();
    this.finder = null;
    this.stream?.getTracks().forEach((track) => track.stop());
    this.stream = null;
    this.video.srcObject = null;
    if (this.video.src) URL.revokeObjectURL(this.video.src);
    this.video.removeAttribute("src");
    for (const id of ["flip", "stop", "pause", "pace", "seek-row"]) show(element(id), false);
    element("camera").textContent = "Use the camera";
  }

  private async begin(name: string, play = true): Promise<void> {
    const run = ++this.run;
    this.name = name;
    this.times.length = 0;
    this.sentTime = NEVER;
    show(element("stop"), true);
    this.finder?.close();
    this.finder = null;
    try {
      const engine = await this.engine();
      const finder = await engine.frames((looked) => this.looked(run, looked), (text) => this.failed(run, text));
      if (run !== this.run) return finder.close();
      this.finder = finder;
      if (play) await this.play();
    } catch (error) {
      this.failed(run, textOf(error));
      return;
    }
    this.next(run);
  }

  private next(run: number): void {
    if (run !== this.run) return;
    const { finder, video } = this;
    const hasFrame = video.readyState >= HTMLMediaElement.HAVE_CURRENT_DATA && video.videoWidth > 0;
    // A paused video is processed once.
    if (finder?.ready && hasFrame && !video.seeking && video.currentTime !== this.sentTime) {
      this.sentTime = video.currentTime;
      finder.send(video).then(
        (sent) => {
          if (!sent) this.sentTime = NEVER;
        },
        (error: unknown) => this.failed(run, textOf(error)),
      );
    }
    requestAnimationFrame(() => this.next(run));
  }

  private looked(run: number, looked: LookedAt): void {
    if (run !== this.run) return looked.frame.close();
    this.times.push(performance.now());
    if (this.times.length > PACE_FRAMES) this.times.shift();
    const span = (this.times.at(-1) ?? 0) - (this.times[0] ?? 0);
    const pace = span > 0 ? `${((1000 * (this.times.length - 1)) / span).toFixed(1)} frames a second, ` : "";
    show(element("pace"), true);
    element("pace").textContent = `${pace}${Math.round(looked.delayMs)} ms ${this.finder?.delay ?? ""}`;
    this.onLooked(this.name, looked);
  }

  private failed(run: number, text: string): void {
    if (run !== this.run) return;
    this.stop();
    trouble(text);
  }

  private async play(): Promise<void> {
    await this.video.play().catch((error: unknown) => {
      if (!(error instanceof DOMException && error.name === "AbortError")) throw error; // stopped meanwhile
    });
  }

  private async flip(): Promise<void> {
    this.facing = this.facing === "user" ? "environment" : "user";
    await this.camera();
  }

  private readable(): Promise<boolean> {
    return new Promise((resolve) => {
      this.video.addEventListener("loadeddata", () => resolve(false), { once: true });
      this.video.addEventListener("error", () => resolve(true), { once: true });
    });
  }

  private seek(): void {
    const share = Number(element<HTMLInputElement>("seek").value) / 1000;
    if (Number.isFinite(this.video.duration)) this.video.currentTime = share * this.video.duration;
  }

  private showPosition(): void {
    const seek = element<HTMLInputElement>("seek");
    const { currentTime, duration, paused } = this.video;
    seek.setAttribute("aria-valuetext", `${currentTime.toFixed(1)} s`);
    if (document.activeElement === seek && paused) return; // the user moves it
    if (duration > 0) seek.value = String(Math.round((1000 * currentTime) / duration));
  }
}
