"use strict";
for (const figure of document.querySelectorAll("figure")) {
  const svg = figure.querySelector("svg");
  // A hover is x, y, the trace, and its text by position.
  const { texts, hovers } = JSON.parse(figure.querySelector("script").textContent);
  const traces = [...svg.querySelectorAll(".trace")];
  const tip = document.getElementById("tip");
  const ring = document.createElementNS(svg.namespaceURI, "circle");
  ring.setAttribute("r", 6.5);
  ring.setAttribute("fill", "none");
  ring.setAttribute("stroke", "#2a3f5f");
  ring.setAttribute("stroke-width", 2);
  ring.setAttribute("class", "hidden");
  svg.append(ring);
  const whole = svg.viewBox.baseVal;
  const start = [whole.x, whole.y, whole.width, whole.height];
  // The many lines of one plot are told apart by fading the others.
  const lines = traces.filter((trace) => trace.querySelector("polyline")).length > 2;

  const place = (event) => new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
  const forget = () => {
    tip.style.display = "none";
    ring.setAttribute("class", "hidden");
    for (const trace of traces) trace.classList.remove("dim");
  };
  const tell = (event) => {
    const at = place(event);
    let best = null;
    let nearest = 24 * (whole.width / start[2]);
    for (const hover of hovers) {
      const distance = Math.hypot(hover[0] - at.x, hover[1] - at.y);
      if (distance < nearest && !traces[hover[2]].classList.contains("hidden")) {
        nearest = distance;
        best = hover;
      }
    }
    forget();
    if (!best) return;
    ring.setAttribute("cx", best[0]);
    ring.setAttribute("cy", best[1]);
    ring.removeAttribute("class");
    if (lines) for (const [i, trace] of traces.entries()) trace.classList.toggle("dim", i !== best[2] && trace.querySelector("polyline") !== null);
    tip.textContent = texts[best[3]];
    tip.style.display = "block";
    const left = Math.min(event.pageX + 14, window.scrollX + document.documentElement.clientWidth - tip.offsetWidth - 8);
    tip.style.left = `${Math.max(left, 0)}px`;
    tip.style.top = `${event.pageY + 14}px`;
  };

  let drag = null;
  svg.addEventListener("pointerdown", (event) => {
    if (!event.target.closest(".legend")) drag = place(event);
  });
  svg.addEventListener("pointermove", (event) => {
    if (!drag) return tell(event);
    const at = place(event);
    whole.x += drag.x - at.x;
    whole.y += drag.y - at.y;
    forget();
  });
  for (const end of ["pointerup", "pointerleave"]) {
    svg.addEventListener(end, () => {
      drag = null;
      forget();
    });
  }
  svg.addEventListener("wheel", (event) => {
    event.preventDefault();
    const at = place(event);
    const factor = Math.exp(Math.sign(event.deltaY) * 0.15);
    if (factor > 1 && whole.width * factor > start[2]) return reset();
    whole.x = at.x - (at.x - whole.x) * factor;
    whole.y = at.y - (at.y - whole.y) * factor;
    whole.width *= factor;
    whole.height *= factor;
    tell(event);
  }, { passive: false });
  const reset = () => {
    [whole.x, whole.y, whole.width, whole.height] = start;
  };
  svg.addEventListener("dblclick", reset);
  for (const entry of svg.querySelectorAll(".legend")) {
    entry.addEventListener("click", () => {
      const off = entry.classList.toggle("off");
      for (const trace of traces) if (trace.dataset.name === entry.dataset.name) trace.classList.toggle("hidden", off);
      forget();
    });
  }
}
