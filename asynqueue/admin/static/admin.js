// Shows the page anew when the program says that something has changed. htmx fetches and merges it,
// so that the focus and what is unfolded stay. Without this file the page works all the same.
"use strict";
(() => {
  const events = document.body.dataset.events;
  const button = document.getElementById("switch");
  const live = () => document.getElementById("live");
  let source = null, isDue = false, chart = null;

  document.documentElement.classList.add("js");

  // What somebody fills in or chooses is not to move under their hands.
  const isHeld = () => {
    const element = document.activeElement;
    const isTyping = element && element.matches("#live input[type=number]");
    return isTyping || live().querySelector("input[name=chosen]:checked") !== null;
  };

  const say = text => { if (button && button.textContent !== text) button.textContent = text; };

  const refresh = () => {
    if (!source || document.hidden) return;
    if (isHeld()) {
      isDue = true;
      say("Held while you choose");
      return;
    }
    isDue = false;
    say("Live");
    live().dispatchEvent(new CustomEvent("refresh"));
  };

  const listen = () => {
    say("Connecting");
    source = new EventSource(events);
    source.addEventListener("changed", refresh);
    source.addEventListener("open", () => say("Live"));
    source.addEventListener("error", () => say("Not connected"));
  };

  const draw = () => {
    const figure = document.getElementById("rates"), place = document.getElementById("chart");
    if (!figure || !place || !window.uPlot) return;
    const rates = JSON.parse(figure.dataset.rates);
    const data = [rates.map((_, second) => second - rates.length + 1), rates];
    if (chart && chart.root.isConnected) {
      chart.setData(data);
      return;
    }
    const root = getComputedStyle(document.documentElement), accent = root.getPropertyValue("--accent").trim();
    const ink = root.getPropertyValue("--faint").trim(), line = root.getPropertyValue("--line").trim();
    const axis = { stroke: ink, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1 } };
    place.replaceChildren();
    chart = new uPlot({
      width: place.clientWidth,
      height: place.clientHeight,
      legend: { show: false },
      cursor: { show: false },
      scales: { x: { time: false }, y: { range: (_, least, most) => [0, Math.max(4, most * 1.1)] } },
      axes: [
        { ...axis, size: 26, values: (_, seconds) => seconds.map(each => (each ? each + " s" : "now")) },
        { ...axis, size: 46 },
      ],
      series: [
        {},
        { stroke: accent, fill: accent + "33", width: 2, points: { show: false } },
      ],
    }, data, place);
  };

  const redraw = () => {
    if (chart) chart.destroy();
    chart = null;
    draw();
  };

  draw();
  addEventListener("resize", redraw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  document.addEventListener("htmx:after:swap", draw);
  // What was seen last stays. A task may be forgotten, or the login may be over.
  document.addEventListener("htmx:response:error", event => {
    say(event.detail.ctx.response.status === 401 ? "Logged out" : "Not there any more");
  });

  if (!events || !button || !window.htmx) return;
  button.hidden = false;
  button.addEventListener("click", () => {
    const isPaused = source !== null;
    button.setAttribute("aria-pressed", String(isPaused));
    if (isPaused) {
      source.close();
      source = null;
      say("Paused");
    } else {
      listen();
      refresh();
    }
  });
  for (const kind of ["change", "focusout"])
    document.addEventListener(kind, () => setTimeout(() => { if (isDue) refresh(); }, 0));
  document.addEventListener("visibilitychange", refresh);
  listen();
})();
