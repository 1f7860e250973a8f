"use strict";
for (const button of document.querySelectorAll("button.copy")) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    const code = button.parentElement.querySelector("code");
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "copied";
    } catch {
      getSelection().selectAllChildren(code);
      button.textContent = "selected";
    }
  });
}
addEventListener("beforeprint", () => { // on paper nothing can be unfolded
  for (const folded of document.querySelectorAll("details:not([open])")) folded.open = true;
});
const graph = document.querySelector(".unfolded");
if (graph) graph.parentElement.scrollLeft = graph.parentElement.scrollWidth; // where the loss is
const text = document.querySelector(".text");
if (text) {
  const rows = JSON.parse(document.getElementById("text-rows").textContent);
  const spans = [...text.querySelectorAll("span")];
  const said = document.getElementById("text-said");
  const show = (at) => {
    let row = 0;
    rows.positions.forEach((position, i) => { if (position <= at) row = i; });
    const position = rows.positions[row];
    let first = -1;
    spans.forEach((span, i) => {
      const shade = rows.shades[row][i] || 0;
      const strong = i < rows.shades[row].length && shade >= rows.strong;
      if (strong && first < 0) first = i;
      span.style.setProperty("--w", shade / 100);
      span.classList.toggle("strong", strong);
      span.classList.toggle("at", i === position);
      span.tabIndex = i === at ? 0 : -1;
      span.setAttribute("aria-selected", String(i === at));
    });
    said.textContent = `Prediction of symbol ${position + 1}: ` + (first < 0
      ? "nothing before it counts."
      : `the farthest symbol with 1 % of the strongest lies ${position - first} back.`);
  };
  const at = (event) => spans.indexOf(event.target);
  text.addEventListener("pointerover", (event) => { if (at(event) >= 0) show(at(event)); });
  text.addEventListener("focusin", (event) => { if (at(event) >= 0) show(at(event)); });
  text.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -20, ArrowDown: 20 }[event.key];
    const to = spans[Math.min(spans.length - 1, Math.max(0, at(event) + step))];
    if (step && at(event) >= 0) { event.preventDefault(); show(spans.indexOf(to)); to.focus(); }
  });
  spans[spans.length - 1].tabIndex = 0;
}
