"use strict";
// Colour scheme: the button sets the one that is not shown.
const root = document.documentElement;
const scheme = document.getElementById("scheme");
const prefersDark = matchMedia("(prefers-color-scheme: dark)");
const isDark = () => (root.dataset.scheme ? root.dataset.scheme === "dark" : prefersDark.matches);
const nameScheme = () => { scheme.textContent = isDark() ? "Light" : "Dark"; };
scheme.addEventListener("click", () => { root.dataset.scheme = isDark() ? "light" : "dark"; nameScheme(); });
prefersDark.addEventListener("change", nameScheme);
scheme.hidden = false;
nameScheme();

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

// The figures under the pointer are a row of the plot's table: named by a mark, or the nearest along the plot.
const tip = document.getElementById("tip");
let cross = null;
const hide = () => { tip.hidden = true; cross?.remove(); cross = null; };

function show(row, event) {
  const headings = row.closest("table").querySelectorAll("thead th");
  tip.textContent = [...row.cells].map((cell, i) => `${headings[i].textContent}: ${cell.textContent}`).join("\n");
  tip.hidden = false;
  const left = event.clientX + 14 + tip.offsetWidth > innerWidth ? event.clientX - 14 - tip.offsetWidth : event.clientX + 14;
  tip.style.left = `${Math.max(left, 4)}px`;
  tip.style.top = `${Math.max(Math.min(event.clientY + 14, innerHeight - tip.offsetHeight - 4), 4)}px`;
}

function drawCross(svg, x) {
  cross ??= svg.appendChild(document.createElementNS("http://www.w3.org/2000/svg", "line"));
  const places = { class: "cross", x1: x, x2: x, y1: 20, y2: svg.viewBox.baseVal.height - 22 };
  for (const [name, value] of Object.entries(places)) cross.setAttribute(name, value);
}

for (const figure of document.querySelectorAll("figure")) {
  const rows = [...figure.querySelectorAll("tbody tr")];
  const shares = rows.map((row) => Number(row.dataset.at));
  for (const svg of figure.querySelectorAll("svg[role=img]")) {
    const left = Number(svg.dataset.left), right = Number(svg.dataset.right);
    const move = (event) => {
      if (svg.dataset.left === undefined) {
        const mark = event.target.closest("[data-row]");
        if (mark) show(rows[Number(mark.dataset.row)], event); else hide();
        return;
      }
      const box = svg.getBoundingClientRect();
      const share = (((event.clientX - box.left) / box.width) * svg.viewBox.baseVal.width - left) / (right - left);
      let nearest = 0;
      shares.forEach((at, i) => { if (Math.abs(at - share) < Math.abs(shares[nearest] - share)) nearest = i; });
      show(rows[nearest], event);
      drawCross(svg, left + shares[nearest] * (right - left));
    };
    svg.addEventListener("pointermove", move);
    svg.addEventListener("pointerdown", move);
    svg.addEventListener("pointerleave", hide);
  }
}
addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });
addEventListener("scroll", hide, { passive: true });
