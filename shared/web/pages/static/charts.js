// Draws every <figure data-chart="URL"> with uPlot: lines over time from {"items": [{"at": …, …}, …]}, newest first.
// data-lines='[{"key", "label", "unit", "color", "scale"}]': scale divides the figure (2**20 for MiB); color is a custom
// property of the stylesheet. data-items names the list in the answer, if it is not `items`; data-marks a list whose `at`
// become dotted vertical lines. Without scripts the figures beside the chart tell the same.
(() => {
  const EVERY_MS = 10000;
  const charts = new Map();
  const marks = new Map();

  const color = (name) => {
    const probe = document.createElement("i");
    probe.style.color = `var(${name})`;
    document.body.append(probe);
    const value = getComputedStyle(probe).color;
    probe.remove();
    return value;
  };

  // `marks` is called each time, because a chart is kept while its figures change.
  const marking = (marks) => (u) => {
    const { ctx, bbox } = u;
    ctx.save();
    ctx.strokeStyle = color("--ink");
    ctx.setLineDash([2, 4]);
    for (const mark of marks()) {
      const x = Math.round(u.valToPos(Date.parse(mark.at) / 1000, "x", true));
      if (x < bbox.left || x > bbox.left + bbox.width) continue;
      ctx.beginPath();
      ctx.moveTo(x, bbox.top);
      ctx.lineTo(x, bbox.top + bbox.height);
      ctx.stroke();
    }
    ctx.restore();
  };

  const options = (figure, lines) => ({
    width: figure.clientWidth,
    height: 160,
    legend: { live: true },
    hooks: { draw: [marking(() => marks.get(figure) || [])] },
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

  const ask = async (url) => {
    const answer = await fetch(url, { headers: { Accept: "application/json" } });
    return answer.ok ? answer.json() : null;
  };

  // `answers`: URL → answer, because several charts may show the same one.
  const refresh = async (figure, answers) => {
    const lines = JSON.parse(figure.dataset.lines);
    const url = figure.dataset.chart;
    if (!answers.has(url)) answers.set(url, ask(url));
    const answer = await answers.get(url);
    if (!answer) return;
    const items = [...answer[figure.dataset.items || "items"]].reverse();
    marks.set(figure, figure.dataset.marks ? answer[figure.dataset.marks] : []);
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
      marks.delete(figure);
    }
    const answers = new Map();
    for (const figure of document.querySelectorAll("figure[data-chart]")) {
      const open = !figure.closest("details") || figure.closest("details").open;
      if (open && near(figure) && document.visibilityState === "visible") refresh(figure, answers).catch(() => {});
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
