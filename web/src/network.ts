// The network on the first of several runtimes that works. One that fails is left for good, and the next one
// answers the same picture.

/** What the model gives for one picture, by the names of its outputs. */
export interface Outputs {
  boxes: Float32Array;
  scores: Float32Array;
  classes: BigInt64Array;
  num_detections: BigInt64Array;
}

/** A model that is loaded. */
export interface Runner {
  /** Rejects with what broke it, and never settles otherwise. */
  readonly broken: Promise<never>;
  /** Takes uint8 RGB, H×W×3 at the size of the network. */
  run(pixels: Uint8Array): Promise<Outputs>;
}

export interface Candidate {
  /** What it is, for people. */
  readonly words: string;
  open(): Promise<Runner>;
}

export class Network {
  /** Why candidates were left, the first one first. */
  readonly failures: string[] = [];
  private runner: Runner | null = null;
  private at = 0;

  constructor(private readonly candidates: readonly [Candidate, ...Candidate[]]) {}

  /** What runs. */
  get words(): string {
    return this.candidate.words;
  }

  /** Loads the model; without that, the first picture does. */
  async open(): Promise<void> {
    await this.attempt(() => Promise.resolve());
  }

  /** For one picture at a time. Errors: what the last candidate says. */
  run(pixels: Uint8Array): Promise<Outputs> {
    // What is broken may never finish a run, or answer it with zeros: its error comes first.
    return this.attempt((runner) => Promise.race([runner.broken, runner.run(pixels)]));
  }

  private get candidate(): Candidate {
    return this.candidates[this.at] ?? this.candidates[0];
  }

  private async attempt<T>(use: (runner: Runner) => Promise<T>): Promise<T> {
    for (;;) {
      try {
        this.runner ??= await this.candidate.open();
        return await use(this.runner);
      } catch (error) {
        if (this.at + 1 === this.candidates.length) throw error;
        this.failures.push(error instanceof Error ? error.message : String(error));
        this.runner = null; // not released: on a lost GPU, that would never return and block the worker
        this.at++;
      }
    }
  }
}
