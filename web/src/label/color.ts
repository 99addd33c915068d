// Colours of classes, as the server gives them: "#rrggbb".

import { textOn, type Rgb } from "../labels";

const GREY: Rgb = [160, 160, 160];

export function rgbOf(color: string): Rgb {
  const [, red, green, blue] = /^#([0-9a-f]{2})([0-9a-f]{2})([0-9a-f]{2})$/i.exec(color) ?? [];
  return red && green && blue ? [parseInt(red, 16), parseInt(green, 16), parseInt(blue, 16)] : GREY;
}

/** Black or white on this colour. */
export function inkOn(color: string): "#000" | "#fff" {
  return textOn(rgbOf(color));
}
