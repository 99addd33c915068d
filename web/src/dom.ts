/** The element with this id; the page has it, or the page is broken. */
export function element<T extends HTMLElement>(id: string): T {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no element #${id}`);
  return found as T;
}

export function show(node: HTMLElement, shown: boolean): void {
  node.hidden = !shown;
}

/** A new element with a text, which is never read as HTML. */
export function made<K extends keyof HTMLElementTagNameMap>(tag: K, text = ""): HTMLElementTagNameMap[K] {
  const node = document.createElement(tag);
  node.textContent = text;
  return node;
}

/** Hands a file to the user. */
export function save(content: Blob, name: string): void {
  const link = made("a");
  link.href = URL.createObjectURL(content);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000); // the browser reads it a little later
}

export function stem(name: string): string {
  return name.replace(/\.[^.]*$/, "") || "picture";
}

export function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Shows what went wrong, or nothing any more. */
export function trouble(text: string): void {
  const place = element("trouble");
  place.textContent = text;
  show(place, text !== "");
}
