// What a page does beyond what is in it: it draws each chart from the table beside
// it, shows times in the reader's zone, and renews itself. Nothing depends on it.

const every = 5000; // milliseconds between two looks
const plots = new Map(); // by figure

const colour = (n) => getComputedStyle(document.documentElement).getPropertyValue(n).trim();

function formatBytes(n) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let i = 0;
  for (; n >= 999.5 && i < units.length - 1; i++) n /= 1000;
  return `${+n.toPrecision(3)} ${units[i]}`;
}

function formatSeconds(s) {
  for (const [unit, size] of [["d", 86400], ["h", 3600], ["min", 60]]) {
    if (s >= size * 2 || s === size) return `${+(s / size).toPrecision(3)} ${unit}`;
  }
  return s >= 1 || s === 0 ? `${+s.toPrecision(3)} s` : `${Math.round(s * 1000)} ms`;
}

const axisFormats = {
  percent: (v) => `${Math.round(v * 100)}%`,
  bytes: formatBytes,
  seconds: formatSeconds,
  count: (v) => (v >= 1e6 ? `${+(v / 1e6).toPrecision(3)} M` : v >= 1e4 ? `${+(v / 1e3).toPrecision(3)} k` : `${v}`),
};

// Steps of an axis that people count in.
const increments = {
  percent: [0.1, 0.25, 0.5],
  bytes: [1, 2, 5, 10, 20, 50, 100, 200, 500].flatMap((n, _, all) => (n === 1 ? [0, 3, 6, 9, 12].flatMap((e) => all.map((m) => m * 10 ** e)) : [])),
  seconds: [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200,
    86400, 172800, 432000, 864000, 1728000, 4320000, 8640000],
  count: [1, 2, 5].flatMap((n) => [0, 1, 2, 3, 4, 5, 6, 7, 8, 9].map((e) => n * 10 ** e)).sort((a, b) => a - b),
};

// read takes the numbers out of a figure's table.
function read(figure) {
  const table = figure.querySelector("table");
  const heads = [...table.tHead.rows[0].cells].slice(1);
  const rows = [...table.tBodies[0].rows];
  return {
    times: rows.map((r) => Date.parse(r.cells[0].querySelector("time").dateTime) / 1000),
    columns: heads.map((head, i) => ({
      name: head.textContent,
      colour: `--c${head.dataset.color}`,
      values: rows.map((r) => (r.cells[i + 1].dataset.value === "" ? null : +r.cells[i + 1].dataset.value)),
      texts: rows.map((r) => r.cells[i + 1].textContent),
    })),
  };
}

// stacked sums columns up, the last one on top, so that drawing from the top down
// leaves of each what it adds.
function stacked(columns) {
  let below = columns[0].values.map(() => 0);
  return columns.map((c) => (below = c.values.map((v, i) => below[i] + (v ?? 0)))).reverse();
}

// alone are the indices of values without neighbours, which no line would show.
function alone(values) {
  return values.flatMap((v, i) => (v !== null && (values[i - 1] ?? null) === null && (values[i + 1] ?? null) === null ? [i] : []));
}

function draw(figure) {
  const host = figure.querySelector(".plot");
  if (!host || !window.uPlot) return;
  const { kind, unit } = figure.dataset;
  const { times, columns } = read(figure);
  const step = times.length > 1 ? times[1] - times[0] : 60;
  const bars = kind === "bars";
  const data = [times, ...(bars ? stacked(columns) : columns.map((c) => c.values))];
  const order = bars ? [...columns].reverse() : columns;
  const muted = colour("--muted");
  const grid = { stroke: colour("--soft"), width: 1 };
  const font = `12px ${getComputedStyle(document.body).fontFamily}`;
  const legend = [...figure.querySelectorAll(".legend b")];
  const sums = legend.map((b) => b.textContent);
  const at = figure.querySelector(".legend .at");
  const options = {
    width: host.clientWidth, height: host.clientHeight,
    legend: { show: false },
    padding: [8, 24, 0, 4],
    cursor: { y: false, drag: { setScale: false, x: false, y: false }, points: { show: !bars } },
    scales: {
      x: { time: true, range: () => [times[0], times.at(-1) + step] },
      y: { range: unit === "percent" ? [0, 1.02] : (_, __, max) => [0, max > 0 ? max * 1.06 : 1] },
    },
    axes: [
      { stroke: muted, grid: { show: false }, ticks: { stroke: colour("--line"), width: 1, size: 5 }, font, space: 64, size: 30, values: (_, ticks) => ticks.map(tick) },
      { stroke: muted, grid, ticks: { show: false }, font, size: 62, incrs: increments[unit], values: (_, ticks) => ticks.map(axisFormats[unit]) },
    ],
    series: [
      {},
      ...order.map((c, i) => ({
        label: c.name,
        stroke: colour(c.colour),
        width: bars ? 0 : 2,
        spanGaps: unit === "percent",
        fill: bars ? colour(c.colour) : kind === "area" && i === 0 ? colour(c.colour) + "33" : undefined,
        dash: kind === "area" && i > 0 ? [6, 5] : undefined,
        paths: bars ? uPlot.paths.bars({ size: [0.8, 40], align: 1 }) : undefined,
        points: bars ? { show: false } : { show: true, size: 5, fill: colour(c.colour), filter: () => alone(c.values) },
      })),
    ],
    hooks: {
      setCursor: [(u) => {
        const i = u.cursor.idx;
        const over = i != null && u.cursor.left >= 0;
        columns.forEach((c, n) => { legend[n].textContent = over ? c.texts[i] : sums[n]; });
        at.hidden = !over;
        if (over) at.textContent = stamp(new Date(times[i] * 1000));
      }],
    },
  };
  host.replaceChildren();
  plots.get(figure)?.destroy();
  plots.set(figure, new uPlot(options, data, host));
}

const resized = new ResizeObserver((entries) => {
  for (const { target } of entries) {
    const plot = plots.get(target.closest("figure"));
    if (plot && target.clientWidth > 0 && target.clientWidth !== plot.width) plot.setSize({ width: target.clientWidth, height: target.clientHeight });
  }
});

const stampParts = { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit" };
const stampNear = new Intl.DateTimeFormat(undefined, stampParts);
const stampFar = new Intl.DateTimeFormat(undefined, { year: "numeric", ...stampParts });
const stamp = (t) => (t.getFullYear() === new Date().getFullYear() ? stampNear : stampFar).format(t);

// tick is a time on an axis: a day where one begins.
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const date = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric" });
function tick(seconds) {
  const t = new Date(seconds * 1000);
  return t.getHours() === 0 && t.getMinutes() === 0 ? date.format(t) : clock.format(t);
}

// dress does to a part of the page what scripts do to it.
function dress(part) {
  for (const t of part.querySelectorAll("time")) t.textContent = stamp(new Date(t.dateTime));
  for (const z of part.querySelectorAll(".zone")) z.remove();
  for (const o of part.querySelectorAll(".origin")) o.textContent = location.origin;
  for (const figure of part.querySelectorAll("figure[data-kind]")) {
    draw(figure);
    const host = figure.querySelector(".plot");
    if (host) resized.observe(host);
  }
}

// A part is replaced only if the server says something else than before, and what
// the reader has opened, scrolled or focused in it stays so.
function keep(part) {
  const open = [...part.querySelectorAll("details")].map((d) => d.open);
  const scrolls = [...part.querySelectorAll(".scroll")].map((s) => [s.scrollLeft, s.scrollTop]);
  const active = document.activeElement;
  const focusable = (p) => [...p.querySelectorAll("a, button, summary, [tabindex]")];
  const index = part.contains(active) ? focusable(part).indexOf(active) : -1;
  const href = index >= 0 ? active.getAttribute("href") : null;
  return (fresh) => {
    fresh.querySelectorAll("details").forEach((d, i) => { d.open = open[i] ?? false; });
    fresh.querySelectorAll(".scroll").forEach((s, i) => { if (scrolls[i]) [s.scrollLeft, s.scrollTop] = scrolls[i]; });
    if (index < 0) return;
    const all = focusable(fresh);
    const same = href ? all.find((e) => e.getAttribute("href") === href) : null;
    (same ?? all[index] ?? fresh.querySelector("a"))?.focus({ preventScroll: true });
  };
}

const said = new Map(); // what the server said of each part
for (const part of document.querySelectorAll("[data-part]")) said.set(part.id, part.innerHTML);
dress(document);

function renew(text) {
  const next = new DOMParser().parseFromString(text, "text/html");
  for (const fresh of next.querySelectorAll("[data-part]")) {
    const part = document.getElementById(fresh.id);
    if (!part || said.get(fresh.id) === fresh.innerHTML) continue;
    const links = new Set([...part.querySelectorAll("tbody a")].map((a) => a.getAttribute("href")));
    said.set(fresh.id, fresh.innerHTML);
    const restore = keep(part);
    for (const figure of part.querySelectorAll("figure")) {
      plots.get(figure)?.destroy();
      plots.delete(figure);
    }
    part.replaceChildren(...fresh.childNodes);
    restore(part);
    dress(part);
    if (links.size > 0) {
      for (const a of part.querySelectorAll("tbody a")) {
        if (!links.has(a.getAttribute("href"))) a.closest("tr").classList.add("fresh");
      }
    }
  }
}

const status = document.getElementById("status");
let tag = null;

function say(text, lost) {
  if (status.textContent !== text) status.textContent = text;
  status.classList.toggle("lost", lost);
}

async function look() {
  if (document.hidden) return;
  try {
    const answer = await fetch(location.href, { headers: tag ? { "If-None-Match": tag } : {}, cache: "no-store", signal: AbortSignal.timeout(15000) });
    if (answer.redirected && new URL(answer.url).pathname === "/login") {
      location.assign("/login");
      return;
    }
    if (answer.status === 200) {
      const text = await answer.text();
      tag = answer.headers.get("ETag");
      renew(text);
    } else if (answer.status !== 304) {
      throw new Error(`status ${answer.status}`);
    }
    say("Live", false);
  } catch {
    say("The server does not answer; this page goes on when it does.", true);
  }
}

if ("live" in document.body.dataset) {
  let timer = 0;
  const loop = async () => {
    clearTimeout(timer);
    await look();
    timer = setTimeout(loop, every);
  };
  document.addEventListener("visibilitychange", () => { if (!document.hidden) loop(); });
  loop();
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const figure of document.querySelectorAll("figure[data-kind]")) draw(figure);
});
