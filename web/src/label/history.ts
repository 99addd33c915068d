// Undo and redo of whole states, which are never changed in place.

const STEPS = 200;

export class History<T> {
  private past: T[] = [];
  private future: T[] = [];

  constructor(private state: T) {}

  get current(): T {
    return this.state;
  }

  get canUndo(): boolean {
    return this.past.length > 0;
  }

  get canRedo(): boolean {
    return this.future.length > 0;
  }

  /**
   * Takes a state as the newest; what was undone is gone. The same state is no step.
   * @param continues the step before, with which it is undone.
   */
  push(state: T, continues = false): boolean {
    if (state === this.state) return false;
    if (!continues) this.past = [...this.past, this.state].slice(-STEPS);
    this.future = [];
    this.state = state;
    return true;
  }

  /** Changes all states alike: what became known is no step of its own. */
  amend(change: (state: T) => T): void {
    this.past = this.past.map(change);
    this.future = this.future.map(change);
    this.state = change(this.state);
  }

  undo(): boolean {
    const before = this.past.pop();
    if (before === undefined) return false;
    this.future.push(this.state);
    this.state = before;
    return true;
  }

  redo(): boolean {
    const after = this.future.pop();
    if (after === undefined) return false;
    this.past.push(this.state);
    this.state = after;
    return true;
  }
}
