// Colours of the classes: Okabe and Ito's palette in the order of src/maskwatch/labels.py.

export type Rgb = readonly [number, number, number];

const PALETTE: readonly Rgb[] = [
  [0, 158, 115],
  [213, 94, 0],
  [240, 228, 66],
  [86, 180, 233],
  [204, 121, 167],
  [230, 159, 0],
  [0, 114, 178],
];

export function colorOf(classId: number): Rgb {
  return PALETTE[((classId % PALETTE.length) + PALETTE.length) % PALETTE.length];
}

export function css([red, green, blue]: Rgb): string {
  return `rgb(${red}, ${green}, ${blue})`;
}

/** Black or white, whichever has more contrast (WCAG 2.2, relative luminance). */
export function textOn(background: Rgb): "#000" | "#fff" {
  const [red, green, blue] = background.map((value) => {
    const part = value / 255;
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  });
  const luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  return (luminance + 0.05) / 0.05 >= 1.05 / (luminance + 0.05) ? "#000" : "#fff";
}
