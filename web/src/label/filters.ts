// What of the folder is listed, and in which order.

import { element, show } from "../dom";
import type { Filters, Project } from "./api";
import { nameText } from "./listing";

const PAUSE_MS = 250;
const ORDERS: Record<string, string> = { useful: "useful", name: "by name" };

export class FilterForm {
  private readonly form = element<HTMLFormElement>("filters");
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor(changed: () => void) {
    this.form.addEventListener("submit", (event) => event.preventDefault());
    this.form.addEventListener("input", () => {
      clearTimeout(this.timer);
      this.timer = setTimeout(changed, PAUSE_MS);
    });
  }

  offer({ orders, filters }: Project): void {
    this.options("order", orders.map((name) => [name, ORDERS[name] ?? name]));
    this.options("class", [["", "all"], ...filters.classes.map((name) => [name, nameText(name)] as [string, string])]);
    this.options("size", [["", "all"], ...filters.sizes.map((name) => [name, name] as [string, string])]);
    this.options("split", [["", "all"], ...filters.splits.map((name) => [name, name] as [string, string])]);
    show(element("split-choice"), filters.splits.length > 0);
  }

  get values(): Filters {
    const text = (name: string) => String(new FormData(this.form).get(name) ?? "");
    return {
      order: text("order"), state: text("state"), class: text("class"),
      split: text("split"), size: text("size"), q: text("q").trim(),
    };
  }

  search(): void {
    this.form.querySelector<HTMLInputElement>("[name=q]")?.focus();
  }

  private options(name: string, pairs: readonly (readonly [string, string])[]): void {
    this.form.querySelector(`[name=${name}]`)?.replaceChildren(...pairs.map(([value, text]) => new Option(text, value)));
  }
}
