"use strict";
// Writes CSV files, copies SQL, shows the values under the pointer. Everything else works without.
(() => {
  const { axes, figures } = JSON.parse(document.getElementById("/numbers").textContent);
  const SECONDS = { milliseconds: 0.001, seconds: 1, minutes: 60, hours: 3600 };
  const of = (element) => figures[element.closest("[data-figure]").dataset.figure];
  const columnsOf = (figure) =>
    figure.columns.map(([name, values]) => [name, Array.isArray(values) ? values : axes[values]]);

  const shown = (value, unit) => {
    if (value === null) return "no value";
    if (SECONDS[unit]) {
      const seconds = Math.round(value * SECONDS[unit]);
      if (Math.abs(seconds) < 60) return `${seconds} s`;
      const [small, units] = Math.abs(seconds) < 3600 ? [1, ["min", "s"]] : [60, ["h", "min"]];
      const whole = Math.round(seconds / small);
      return `${Math.trunc(whole / 60)} ${units[0]} ${Math.abs(whole % 60)} ${units[1]}`;
    }
    const text = value.toLocaleString("en", { maximumFractionDigits: unit === "percent" ? 1 : 2 });
    return text + ({ percent: "%", "hours worked": " h" }[unit] ?? "");
  };

  // A spreadsheet runs a text that begins like a formula.
  const cell = (value) => {
    if (value === null || typeof value === "number") return value ?? "";
    const text = String(value).replace(/^(?=[=+\-@\t\r])/, "'");
    return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  const toCsv = (figure) => {
    const columns = columnsOf(figure);
    const rows = columns[0][1].map((_, at) => columns.map(([, values]) => cell(values[at])).join());
    return [columns.map(([name]) => cell(name)).join(), ...rows, ""].join("\r\n");
  };

  const actions = {
    csv: (button) => {
      const figure = of(button);
      const link = document.createElement("a");
      // With the mark, Excel reads the file as UTF-8.
      link.href = URL.createObjectURL(new Blob(["\ufeff", toCsv(figure)], { type: "text/csv" }));
      link.download = `${figure.name.replace(/[^\w-]+/g, "-")}.csv`;
      link.click();
      URL.revokeObjectURL(link.href);
    },
    copy: (button) => {
      const sql = button.previousElementSibling;
      getSelection().selectAllChildren(sql);
      navigator.clipboard?.writeText(sql.textContent).catch(() => document.execCommand("copy"));
      button.textContent = "Copied";
    },
  };
  addEventListener("click", ({ target }) => actions[target.dataset?.do]?.(target));

  const tip = document.body.appendChild(document.createElement("div"));
  tip.className = "tip screen";
  tip.hidden = true;
  addEventListener("pointermove", ({ target, clientX, clientY }) => {
    const plot = target.closest?.(".plot");
    tip.hidden = !plot;
    if (!plot) return;
    const figure = of(plot);
    const [[, axis], ...columns] = columnsOf(figure);
    const box = plot.querySelector("svg").getBoundingClientRect();
    const share = (clientX - box.left) / box.width;
    const at = Math.min(Math.max(Math.floor(share * axis.length), 0), axis.length - 1);
    const lines = columns.filter(([name]) => figure.lines[name]);
    tip.textContent = [axis[at], ...lines.map(([name, values]) =>
      `${figure.lines[name]}: ${shown(values[at], figure.unit)}`)].join("\n");
    tip.style.left = `${Math.min(clientX + 14, innerWidth - tip.offsetWidth - 6)}px`;
    tip.style.top = `${clientY + 14}px`;
  });

  document.getElementById("/filter").addEventListener("input", (event) => {
    const words = event.target.value.toLowerCase().split(/\s+/);
    document.querySelectorAll(".overview tbody tr").forEach((row) => {
      row.hidden = !words.every((word) => row.textContent.toLowerCase().includes(word));
    });
  });
})();
