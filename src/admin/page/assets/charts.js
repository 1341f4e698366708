// Curves over the last half hour, drawn by uPlot; colours follow the page's.

import { byId, seconds } from "./elements.js";

const HEIGHT = 170;
const COLOURS = 6;
const dark = matchMedia("(prefers-color-scheme: dark)");
/** The half hour that ends with the newest point, in seconds. */
const span = (end) => {
  const to = end ?? Date.now() / 1000;
  return [to - 1800, to];
};
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

/**
 * A chart in the element with that id. `show(at, curves)` draws `[[label, values], ..]` over moments in
 * milliseconds; `format` makes a text of a value, `logarithmic` spreads small values.
 */
export function chart(id, { format, logarithmic = false }) {
  const place = byId(id);
  let plot = null;
  let labels = "";
  let last = null;

  const draw = () => {
    if (!last || place.clientWidth === 0) return;
    const [at, curves] = last;
    const names = curves.map(([label]) => label);
    const data = [at.map((millis) => millis / 1000), ...curves.map(([, values]) => values)];
    if (plot && labels === names.join("\n")) {
      plot.setData(data);
      return;
    }
    plot?.destroy();
    labels = names.join("\n");
    plot = new uPlot(options(names), data, place);
  };

  const options = (names) => {
    const axis = { stroke: colour("soft"), grid: { stroke: colour("line"), width: 1 }, ticks: { stroke: colour("line"), width: 1 } };
    return {
      width: place.clientWidth,
      height: HEIGHT,
      cursor: { drag: { x: false, y: false } },
      scales: { x: { range: (_, low, high) => span(high) }, y: logarithmic ? { distr: 3 } : { range: (_, low, high) => [0, Math.max(high, 1) * 1.1] } },
      axes: [axis, { ...axis, size: 64, values: (_, ticks) => ticks.map((tick) => (tick == null ? "" : format(tick))) }],
      series: [
        { value: (_, at) => (at == null ? "–" : new Date(at * 1000).toLocaleTimeString()) },
        ...names.map((label, index) => ({
          label,
          stroke: colour(`curve-${(index % COLOURS) + 1}`),
          width: 2,
          dash: index < COLOURS ? undefined : [6, 4],
          value: (_, value) => (value == null ? "–" : format(value)),
        })),
      ],
    };
  };

  const again = () => {
    plot?.destroy();
    plot = null;
    draw();
  };
  dark.addEventListener("change", again);
  new ResizeObserver(() => {
    if (place.clientWidth === 0) return;
    if (plot) plot.setSize({ width: place.clientWidth, height: HEIGHT });
    else draw();
  }).observe(place);

  return (at, curves) => {
    last = [at, curves];
    const ends = curves.map(([label, values]) => `${label} ${values.length ? format(values.at(-1) ?? 0) : "–"}`);
    place.setAttribute("role", "img");
    place.setAttribute("aria-label", `Now: ${ends.join(", ")}`);
    draw();
  };
}

