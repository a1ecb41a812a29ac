// <pre data-follow> stays at its end while it grows, unless somebody has scrolled up to read.
(() => {
  const NEAR = 24;
  let atEnd = true;
  const logs = () => document.querySelectorAll("pre[data-follow]");
  const toEnd = () => {
    if (atEnd) for (const log of logs()) log.scrollTop = log.scrollHeight;
  };
  addEventListener("DOMContentLoaded", () => {
    toEnd();
    document.addEventListener("htmx:beforeSwap", () => {
      for (const log of logs()) atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < NEAR;
    });
    document.addEventListener("htmx:afterSettle", toEnd);
  });
})();
