// Puts the labelling page together: server → list → editor → saver → server.

import { element, show, textOf, trouble } from "../dom";
import { merged, type LabelBox } from "./annotation";
import { Conflict, LabelApi, type PictureItem, type PictureRecord, type Project, type Saved } from "./api";
import { sizeText } from "./boxes";
import { askConflict, openHelp, prepareHelp, singleKeys } from "./dialogs";
import { Drafts, type Draft } from "./drafts";
import { Editor } from "./editor";
import { FilterForm } from "./filters";
import { commandOf, isSingleCharacter, type Command, type Simple } from "./keys";
import { PictureListBox } from "./list";
import { boxesTitle, endOfList, neighbour, nextWhere } from "./listing";
import { isDone, OpenPicture, over } from "./open_picture";
import { Saver } from "./saver";
import { say, showProgress, showSaveState } from "./status";
import { listenForChanges, openWindows } from "./windows";

const KEPT_PICTURES = 50; // with their history
const PROJECT_PAUSE_MS = 1000;

class Labeller {
  private readonly api = new LabelApi();
  private readonly filters = new FilterForm(() => this.attempt(() => this.loadList()));
  private readonly list = new PictureListBox(
    (id) => this.api.thumbnailUrl(id),
    (id) => this.attempt(() => this.openFromList(id)),
  );
  private readonly editor = new Editor(
    (picture) => this.edited(picture),
    (at, box) => (element("point").textContent = box ? sizeText(box) : at ? `${Math.floor(at.x)}, ${Math.floor(at.y)}` : ""),
    (scale) => (element("zoom").textContent = `${Math.round(scale * 100)}%`),
  );
  private readonly opened = new Map<string, OpenPicture>();
  private project!: Project;
  private saver!: Saver;
  private items: PictureItem[] = [];
  private current: OpenPicture | null = null;
  private before: OpenPicture | null = null;
  private wanted = "";
  private projectTimer: ReturnType<typeof setTimeout> | undefined;

  async begin(): Promise<void> {
    this.project = await this.api.project();
    const { folder } = this.project;
    element("folder").textContent = folder;
    document.title = `${folder.split(/[\\/]/).filter(Boolean).at(-1) ?? folder} · Label pictures`;
    this.editor.prepare(this.project);
    this.filters.offer(this.project);
    showProgress(this.project);
    await this.startSaving(folder);
    prepareHelp();
    this.listen();
    await this.loadList();
    const first = this.items.find((one) => one.image_id === decodeURIComponent(location.hash.slice(1))) ?? this.items[0];
    if (first) {
      await this.open(first.image_id);
      this.editor.stage.focus();
    } else say("No picture in this folder. Put pictures there and reload the page.");
    this.watch();
  }

  private async startSaving(folder: string): Promise<void> {
    const drafts = new Drafts(localStorage, folder, this.api.window);
    this.saver = new Saver({
      put: (id, body, revision) => this.api.put(id, body, revision),
      saved: (id, saved, sent) => {
        this.opened.get(id)?.acknowledge(saved, sent);
        this.pictureChanged(id, { state: saved.state, boxes: saved.boxes.length, undecided: saved.undecided });
        this.projectSoon();
      },
      conflict: (draft, current) => void this.decide(draft, current),
      changed: () => this.showState(),
    }, drafts);
    const left = drafts.takeOver(await openWindows(this.api.window));
    for (const draft of left) this.saver.resolve(draft);
    if (left.length > 0) say(`Edits of ${left.length} pictures from before are sent now`);
  }

  private async loadList(): Promise<void> {
    this.items = await this.api.pictures(this.filters.values);
    this.list.show(this.items);
    if (this.current) this.list.select(this.current.imageId);
    element("found").textContent = this.items.length === 1 ? "1 picture" : `${this.items.length} pictures`;
  }

  /** Opens a picture; edits that wait are sent first, and the newest opened wins. */
  private async open(imageId: string): Promise<void> {
    this.wanted = imageId;
    trouble(this.project.read_only_reason ?? "");
    if (this.current?.imageId !== imageId) element<HTMLInputElement>("reason").value = ""; // written for another one
    this.saver.flush();
    const record = await this.api.picture(imageId);
    if (this.wanted !== imageId) return;
    if (this.current && this.current.imageId !== imageId) this.before = this.current;
    this.current = this.openedOf(record);
    history.replaceState(null, "", `#${encodeURIComponent(imageId)}`);
    element("name").textContent = imageId;
    element("point").textContent = ""; // what stood there was of the picture before
    const note = record.note ?? (record.proposals === null && this.project.model ? "The model has not come to this picture yet." : "");
    element("note").textContent = note;
    show(element("note"), note !== "");
    this.editor.show(this.current, this.api.imageUrl(imageId));
    this.list.select(imageId);
    this.sayOpened(this.current);
    this.enable();
    this.preload();
  }

  private sayOpened({ imageId, record, annotation: { boxes, proposals, empty } }: OpenPicture): void {
    const at = this.items.findIndex((one) => one.image_id === imageId);
    const place = at === -1 ? "" : `${at + 1} of ${this.items.length}: `;
    const waiting = record.proposals === null && this.project.model !== null ? "; the model is still looking" : "";
    say(`${place}${imageId}, ${boxesTitle(boxes.length, proposals.length, empty).toLowerCase()}${waiting}`);
  }

  /** On a phone the list is below the picture. */
  private async openFromList(imageId: string): Promise<void> {
    await this.open(imageId);
    element("stage").scrollIntoView({ block: "nearest" });
  }

  private openedOf(record: PictureRecord): OpenPicture {
    const kept = this.opened.get(record.image_id);
    const draft = this.saver.pending(record.image_id);
    const picture = kept && (draft || kept.revision === record.revision) ? kept : new OpenPicture(record, draft);
    picture.record = { ...record, revision: picture.revision };
    if (record.proposals) picture.propose(record.proposals);
    this.opened.delete(record.image_id);
    this.opened.set(record.image_id, picture);
    for (const id of this.opened.keys()) {
      if (this.opened.size <= KEPT_PICTURES) break;
      if (!this.saver.pending(id)) this.opened.delete(id);
    }
    return picture;
  }

  private preload(): void {
    const next = neighbour(this.items, this.current?.imageId ?? null, 1);
    if (next) new Image().src = this.api.imageUrl(next.image_id);
  }

  private edited(picture: OpenPicture): void {
    this.saver.edit(picture.draft());
    this.enable();
  }

  private enable(): void {
    const able: Record<string, boolean> = {
      undo: this.editor.canUndo,
      redo: this.editor.canRedo,
      next: neighbour(this.items, this.current?.imageId ?? null, 1) !== null,
      previous: neighbour(this.items, this.current?.imageId ?? null, -1) !== null,
    };
    for (const [id, on] of Object.entries(able)) element<HTMLButtonElement>(id).disabled = !on;
  }

  private showState(): void {
    showSaveState(this.saver.states());
  }

  private go(step: number): void {
    const next = neighbour(this.items, this.current?.imageId ?? null, step);
    if (next) return this.attempt(() => this.open(next.image_id));
    this.saver.flush();
    say(endOfList(step, this.todo()));
  }

  /** How many pictures of the list are not done; what was decided in the open one may not be saved yet. */
  private todo(): number {
    const { boxes, proposals, empty } = this.editor.annotation;
    const open = empty || (boxes.length > 0 && proposals.length === 0) ? this.current?.imageId : undefined;
    return this.items.filter((item) => !isDone(item) && item.image_id !== open).length;
  }

  private goWhere(test: (item: PictureItem) => boolean, none: string): void {
    const next = nextWhere(this.items, this.current?.imageId ?? null, test);
    if (next) this.attempt(() => this.open(next.image_id));
    else say(none);
  }

  private acceptAndGo(): void {
    if (this.editor.acceptAll()) this.go(1);
    else say("No box here: press E for “nothing to find here”, or . to leave the picture as it is");
  }

  private async copyPrevious(): Promise<void> {
    const item = neighbour(this.items, this.current?.imageId ?? null, -1);
    const source = this.before ?? (item && new OpenPicture(await this.api.picture(item.image_id)));
    const boxes: readonly LabelBox[] = source?.annotation.boxes ?? [];
    if (boxes.length === 0) return say("The picture before has no box to copy");
    this.editor.copy(boxes);
  }

  /** A suspect: the label or the model's answer stays; the server remembers it. */
  private async decideSuspect(decision: "label" | "answer"): Promise<void> {
    const { current } = this;
    const { suspect } = this.editor;
    if (!current || !suspect) return say("No suspect in this picture");
    if (this.saver.pending(current.imageId)) {
      this.saver.flush();
      return say("The picture is being saved; press the key again");
    }
    let saved: Saved;
    try {
      const reason = element<HTMLInputElement>("reason");
      saved = await this.api.decide(suspect, decision, reason.value, current.revision);
      reason.value = "";
    } catch (error) {
      if (!(error instanceof Conflict)) throw error;
      await this.open(current.imageId);
      return say(`${error.message}; here is the new version`);
    }
    say(decision === "label" ? "Label kept" : "Model’s answer taken");
    this.opened.delete(current.imageId);
    const left = current.record.suspects.length - 1;
    this.pictureChanged(current.imageId, { state: saved.state, boxes: saved.boxes.length, undecided: saved.undecided, suspects: left });
    this.projectSoon();
    if (left > 0) return this.open(current.imageId);
    this.goWhere((item) => item.suspects > 0, "No suspect is left");
    if (!nextWhere(this.items, current.imageId, (item) => item.suspects > 0)) await this.open(current.imageId);
  }

  private async decide(draft: Draft, current: PictureRecord): Promise<void> {
    if (element<HTMLDialogElement>("conflict").open) return;
    const colors = new Map(this.project.classes.map(({ name, color }) => [name, color]));
    const choice = await askConflict(draft, current, this.api.imageUrl(draft.image_id), colors);
    const state = this.saver.stateOf(draft.image_id);
    const mine = this.saver.pending(draft.image_id);
    if (choice === null || state?.kind !== "conflict" || !mine) return;
    this.opened.delete(draft.image_id);
    if (choice === "theirs") this.saver.forget(draft.image_id);
    else {
      const keyed = state.current.boxes.map((box, i) => ({ ...box, key: `theirs-${state.current.revision}-${i}` }));
      const boxes = choice === "both" ? merged(keyed, mine.boxes) : mine.boxes;
      this.saver.resolve(over(mine, boxes, state.current));
    }
    if (this.current?.imageId === draft.image_id) await this.open(draft.image_id);
    this.reopenConflict();
  }

  private reopenConflict(): void {
    const next = this.saver.states().find(({ state }) => state.kind === "conflict");
    const draft = next && this.saver.pending(next.imageId);
    if (draft && next.state.kind === "conflict") void this.decide(draft, next.state.current);
  }

  private pictureChanged(imageId: string, change: Partial<PictureItem>): void {
    const at = this.items.findIndex((one) => one.image_id === imageId);
    if (at === -1) return;
    Object.assign(this.items[at]!, change);
    this.list.refresh();
  }

  private projectSoon(): void {
    clearTimeout(this.projectTimer);
    this.projectTimer = setTimeout(() => {
      this.api.project().then((project) => showProgress((this.project = project)), () => {});
    }, PROJECT_PAUSE_MS);
  }

  private watch(): void {
    listenForChanges(this.api, {
      picture: (change) => {
        if (change.window === this.api.window) return;
        this.projectSoon();
        this.attempt(() => this.changedElsewhere(change.image_id));
      },
      proposals: (imageId) => this.attempt(() => this.proposed(imageId)),
      progress: ({ done, pictures, boxes_per_hour }) => {
        Object.assign(this.project.counts, { done, pictures });
        Object.assign(this.project, { boxes_per_hour });
        showProgress(this.project);
      },
      again: () => {
        this.saver.flush();
        this.projectSoon();
        this.attempt(() => this.loadList());
        const { current } = this;
        if (current) this.attempt(() => this.changedElsewhere(current.imageId));
      },
    });
  }

  private async changedElsewhere(imageId: string): Promise<void> {
    const record = await this.api.picture(imageId);
    const { state, boxes, undecided, suspects } = record;
    this.pictureChanged(imageId, { state, boxes: boxes.length, undecided, suspects: suspects.length });
    const { current } = this;
    if (current?.imageId !== imageId || this.saver.pending(imageId) || current.revision === record.revision) return;
    await this.open(imageId);
    say("Another window or program changed this picture; here is the new version");
  }

  private async proposed(imageId: string): Promise<void> {
    if (this.current?.imageId !== imageId) return;
    const { proposals } = await this.api.picture(imageId);
    if (!proposals || this.current.imageId !== imageId) return;
    this.current.record = { ...this.current.record, proposals };
    if (this.current.propose(proposals)) this.saver.edit(this.current.draft());
    show(element("note"), false);
    this.editor.refresh();
    this.sayOpened(this.current);
  }

  private attempt(task: () => Promise<void>): void {
    task().catch((error: unknown) => trouble(textOf(error)));
  }

  private run(command: Command): void {
    if (command.name === "class") return this.editor.classByIndex(command.index);
    if (command.name === "move" || command.name === "resize") {
      return this.editor.nudge(command.name, command.dx, command.dy);
    }
    this.actions[command.name]();
  }

  private readonly actions: Record<Simple, () => void> = {
    accept: () => this.editor.accept(),
    "accept-next": () => this.acceptAndGo(),
    refuse: () => this.editor.refuse(),
    new: () => this.editor.addInTheMiddle(),
    delete: () => this.editor.delete(),
    difficult: () => this.editor.toggle("difficult"),
    ignore: () => this.editor.toggle("ignore"),
    empty: () => this.editor.empty(),
    copy: () => this.attempt(() => this.copyPrevious()),
    undo: () => this.editor.undo(),
    redo: () => this.editor.redo(),
    next: () => this.go(1),
    previous: () => this.go(-1),
    "next-todo": () => this.goWhere((item) => !isDone(item), "Every picture of the list is done"),
    "zoom-in": () => this.editor.stage.zoom(1.25),
    "zoom-out": () => this.editor.stage.zoom(0.8),
    fit: () => this.editor.stage.fit(),
    actual: () => this.editor.stage.actualSize(),
    proposals: () => this.editor.toggleProposals(),
    crosshair: () => this.editor.toggleCrosshair(),
    "keep-label": () => this.attempt(() => this.decideSuspect("label")),
    "take-answer": () => this.attempt(() => this.decideSuspect("answer")),
    reason: () => {
      if (this.editor.suspect) element("reason").focus();
      else say("No suspect in this picture");
    },
    save: () => this.saver.flush(),
    search: () => this.filters.search(),
    help: () => openHelp(),
    deselect: () => {
      if (this.editor.stage.cancelGesture()) return;
      this.editor.select(null);
      this.editor.stage.focus();
    },
  };

  private listen(): void {
    const buttons: Simple[] = [
      "new", "undo", "redo", "zoom-in", "zoom-out", "fit", "actual", "previous", "next", "accept-next",
      "next-todo", "difficult", "ignore", "delete", "accept", "refuse", "copy", "empty", "keep-label", "take-answer",
    ];
    for (const name of buttons) element(name).addEventListener("click", () => this.run({ name }));
    element("help-button").addEventListener("click", () => openHelp());
    element("decide").addEventListener("click", () => this.reopenConflict());
    document.addEventListener("keydown", (event) => this.keyDown(event));
    document.addEventListener("keyup", (event) => {
      if (event.key === " ") this.editor.stage.spaceHeld = false;
    });
    window.addEventListener("beforeunload", (event) => {
      if (this.saver.states().length > 0) event.preventDefault();
    });
    window.addEventListener("pagehide", () => this.saver.flush());
    document.addEventListener("visibilitychange", () => this.saver.flush());
    window.addEventListener("online", () => this.saver.flush());
  }

  private keyDown(event: KeyboardEvent): void {
    const target = event.target as HTMLElement;
    if (document.querySelector("dialog[open]") || event.isComposing) return;
    const typing = target.matches("input, select, textarea");
    if (typing && !(event.ctrlKey || event.metaKey)) {
      const left = event.key === "Escape" || (event.key === "Enter" && target.id === "reason");
      if (left) this.editor.stage.focus();
      return;
    }
    if (typing && target.matches("[type=search], [type=text]") && event.key !== "s") return; // its own undo
    const inStage = target === document.body || this.editor.stage.focused;
    if (event.key === " " && inStage) {
      this.editor.stage.spaceHeld = true;
      return event.preventDefault();
    }
    if (isSingleCharacter(event) && !singleKeys()) return;
    const command = commandOf(event);
    if (!command || (event.key === "Enter" && !inStage)) return; // Enter presses buttons
    if ((command.name === "move" || command.name === "resize") && !inStage) return;
    event.preventDefault();
    this.run(command);
  }
}

const page = new Labeller();
page.begin().catch((error: unknown) => trouble(textOf(error)));
