"use strict";
// Drawing: Plotly comes compressed; colours are those of the style sheet, in the scheme that is shown.
const figures = JSON.parse(document.getElementById("figures").textContent);
const colours = (dark) => {
  const style = getComputedStyle(document.documentElement);
  return (name) => style.getPropertyValue(name).match(/#\w{6}/g)[dark ? 1 : 0];
};

async function load() {
  const packed = document.getElementById("plotly").textContent;
  if (!packed) return;
  const bytes = Uint8Array.from(atob(packed), (letter) => letter.charCodeAt(0));
  const library = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const script = document.createElement("script");
  script.src = URL.createObjectURL(new Blob([await new Response(library).text()], { type: "text/javascript" }));
  await new Promise((done, failed) => { script.onload = done; script.onerror = failed; document.head.append(script); });
}

async function draw(dark = isDark()) {
  if (!window.Plotly) return;
  const colour = colours(dark);
  const axis = {
    gridcolor: colour("--rule"), linecolor: colour("--muted"), zerolinecolor: colour("--muted"), tickcolor: colour("--muted"),
    automargin: true, fixedrange: true,
  };
  const common = {
    autosize: true, paper_bgcolor: colour("--surface"), plot_bgcolor: colour("--surface"), hovermode: "x unified",
    font: { color: colour("--ink"), size: 12, family: "system-ui, sans-serif" }, margin: { l: 60, r: 16, t: 16, b: 44 },
    hoverlabel: { bgcolor: colour("--raised"), bordercolor: colour("--muted"), font: { color: colour("--ink") }, namelength: -1 },
    legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom" }, xaxis: axis, yaxis: axis, yaxis2: axis, yaxis3: axis,
  };
  for (const [name, figure] of Object.entries(figures)) {
    const { data, layout } = JSON.parse(JSON.stringify(figure).replace(/var\((--[\w-]+)\)/g, (_, found) => colour(found)));
    const whole = { ...common, ...layout, legend: { ...common.legend, ...layout.legend } };
    for (const key of ["xaxis", "yaxis", "yaxis2", "yaxis3"]) {
      if (key in layout || key.length === 5) whole[key] = { ...axis, ...layout[key] }; else delete whole[key];
    }
    const place = document.querySelector(`#${CSS.escape(name)} .plot`);
    place.style.height = `${layout.height}px`;
    await Plotly.react(place, data, whole, { responsive: true, displayModeBar: false });
  }
}

// Colour scheme: the button sets the one that is not shown.
const root = document.documentElement;
const scheme = document.getElementById("scheme");
const prefersDark = matchMedia("(prefers-color-scheme: dark)");
const isDark = () => (root.dataset.scheme ? root.dataset.scheme === "dark" : prefersDark.matches);
const nameScheme = () => { scheme.textContent = isDark() ? "Light" : "Dark"; draw(); };
scheme.addEventListener("click", () => { root.dataset.scheme = isDark() ? "light" : "dark"; nameScheme(); });
prefersDark.addEventListener("change", nameScheme);
scheme.hidden = false;
addEventListener("beforeprint", () => draw(false));
addEventListener("afterprint", () => draw());
load().then(nameScheme);

// Copying; where the browser forbids it, the command is selected for Ctrl+C.
for (const button of document.querySelectorAll(".copy")) {
  const code = button.parentElement.querySelector("code");
  button.hidden = false;
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(code);
      button.textContent = "Selected";
    }
  });
}

