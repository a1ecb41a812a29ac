// Draws every <figure data-chart="URL"> with uPlot: lines over time from {"items": [{"at": …, …}, …]}, newest first.
// data-lines='[{"key", "label", "unit", "color", "scale"}]': scale divides the figure (2**20 for MiB); color is a custom
// property of the stylesheet. Without scripts the figures beside the chart tell the same.
(() => {
  const EVERY_MS = 10000;
  const charts = new Map();

  const color = (name) => {
    const probe = document.createElement("i");
    probe.style.color = `var(${name})`;
    document.body.append(probe);
    const value = getComputedStyle(probe).color;
    probe.remove();
    return value;
  };

  const options = (figure, lines) => ({
    width: figure.clientWidth,
    height: 160,
    legend: { live: true },
    cursor: { points: { size: 6 } },
    scales: { y: { range: (u, low, high) => [0, Math.max(high || 0, 1) * 1.1] } },
    axes: [
      { stroke: color("--quiet"), grid: { stroke: color("--line") }, ticks: { stroke: color("--line") } },
      { stroke: color("--quiet"), grid: { stroke: color("--line") }, ticks: { stroke: color("--line") }, size: 56 },
    ],
    series: [
      { value: (u, at) => (at ? new Date(at * 1000).toLocaleTimeString() : "") },
      ...lines.map((line) => ({
        label: line.label,
        stroke: color(line.color),
        width: 2,
        dash: line.dash,
        value: (u, figure) => (figure == null ? "-" : `${figure.toFixed(1)} ${line.unit}`),
      })),
    ],
  });

  const refresh = async (figure) => {
    const lines = JSON.parse(figure.dataset.lines);
    const answer = await fetch(figure.dataset.chart, { headers: { Accept: "application/json" } });
    if (!answer.ok) return;
    const items = (await answer.json()).items.reverse();
    const data = [
      items.map((item) => Date.parse(item.at) / 1000),
      ...lines.map((line) => items.map((item) => (item[line.key] == null ? null : item[line.key] / (line.scale || 1)))),
    ];
    const known = charts.get(figure);
    if (known) known.setData(data);
    else charts.set(figure, new uPlot(options(figure, lines), data, figure));
  };

  // A page of fifty environments has hundreds of charts: those out of sight are asked for when they come near.
  const near = (figure) => {
    const { top, bottom } = figure.getBoundingClientRect();
    return bottom > -innerHeight && top < 2 * innerHeight;
  };

  const all = () => {
    for (const [figure, chart] of charts) {
      if (document.contains(figure)) continue;
      chart.destroy();
      charts.delete(figure);
    }
    for (const figure of document.querySelectorAll("figure[data-chart]")) {
      const open = !figure.closest("details") || figure.closest("details").open;
      if (open && near(figure) && document.visibilityState === "visible") refresh(figure).catch(() => {});
    }
  };

  const redraw = () => {
    for (const chart of charts.values()) chart.destroy();
    charts.clear();
    all();
  };

  addEventListener("DOMContentLoaded", () => {
    all();
    setInterval(all, EVERY_MS);
    let width = innerWidth;
    addEventListener("resize", () => {
      if (innerWidth !== width) redraw();
      width = innerWidth;
    });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
    document.addEventListener("toggle", all, true);
    addEventListener("scrollend", all);
    document.addEventListener("htmx:afterSettle", all);
  });
})();
