// Edits that the server has not acknowledged, kept in this browser: they outlive the tab and the server.

import type { LabelBox } from "./annotation";
import type { ModelBox, SavedBox } from "./api";

/** A box of a draft: as it is sent, and the name that it has in this window. */
export type DraftBox = SavedBox & Pick<LabelBox, "key">;

/** All boxes of one picture as they should be saved. */
export interface Draft {
  image_id: string;
  /** Of the picture that was edited. */
  revision: string;
  boxes: DraftBox[];
  empty: boolean;
  /** Proposals left to decide; with none, the picture is done. */
  undecided: ModelBox[];
  refused: ModelBox[];
}

/** The part of `Storage` that is used. */
export type Store = Pick<Storage, "getItem" | "setItem" | "removeItem" | "key" | "length">;

const PREFIX = "maskwatch.label";

export class Drafts {
  /**
   * @param folder that is labelled; drafts of others are left alone.
   * @param window that writes them: two windows may edit the same picture.
   */
  constructor(
    private readonly store: Store,
    private readonly folder: string,
    private readonly window: string,
  ) {}

  /** False where the browser has no room; the edit is then only in this tab. */
  keep(draft: Draft): boolean {
    try {
      this.store.setItem(this.name(this.window, draft.image_id), JSON.stringify(draft));
      return true;
    } catch {
      return false;
    }
  }

  drop(imageId: string): void {
    this.store.removeItem(this.name(this.window, imageId));
  }

  /** Takes over what windows left that are not open any more. */
  takeOver(open: readonly string[]): Draft[] {
    const found: Draft[] = [];
    for (const { name, window } of this.ofFolder()) {
      if (window === this.window || open.includes(window)) continue;
      const draft = parsed(this.store.getItem(name));
      this.store.removeItem(name);
      if (!draft) continue;
      this.keep(draft);
      found.push(draft);
    }
    return found;
  }

  private ofFolder(): { name: string; window: string }[] {
    const names = Array.from({ length: this.store.length }, (_, i) => this.store.key(i) ?? "");
    return names.flatMap((name) => {
      const [prefix, folder, window] = name.split("|");
      return prefix === PREFIX && window && folder === encodeURIComponent(this.folder) ? [{ name, window }] : [];
    });
  }

  private name(window: string, imageId: string): string {
    return [PREFIX, encodeURIComponent(this.folder), window, encodeURIComponent(imageId)].join("|");
  }
}

function parsed(text: string | null): Draft | null {
  try {
    const draft = JSON.parse(text ?? "null") as Draft | null;
    if (!draft || !Array.isArray(draft.boxes) || typeof draft.revision !== "string") return null;
    return { ...draft, undecided: draft.undecided ?? [], refused: draft.refused ?? [] }; // of an older page
  } catch {
    return null;
  }
}
