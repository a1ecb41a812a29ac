// <pre data-follow> stays at its end while it grows, unless somebody has scrolled up to read.
(() => {
  const NEAR = 24;
  let atEnd = true;
  const toEnd = () => {
    if (atEnd) for (const log of document.querySelectorAll("pre[data-follow]")) log.scrollTop = log.scrollHeight;
  };
  addEventListener("DOMContentLoaded", () => {
    toEnd();
    document.addEventListener("htmx:afterSwap", toEnd);
    document.addEventListener(
      "scroll",
      ({ target: log }) => {
        if (log.matches?.("pre[data-follow]")) atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < NEAR;
      },
      true,
    );
  });
})();
