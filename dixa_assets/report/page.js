"use strict";
// Shows one page at a time and draws its charts when they come into view.
(() => {
  const data = JSON.parse(document.getElementById("/data").textContent);
  const root = document.documentElement;
  const pages = [...document.querySelectorAll(".page")];
  const chooser = document.getElementById("/pages");
  const drawn = new Set();
  const DAY = 86400000;
  const SECONDS = { milliseconds: 0.001, seconds: 1, minutes: 60, hours: 3600 };
  const STATES = [
    ["missing", "×", "not loaded"],
    ["loaded", "", "loaded"],
    ["agrees", "", "loaded, equal to the rows behind it"],
    ["doubtful", "≠", "loaded, but something differs"],
  ];
  const PAPER = 690;

  const css = (name) => getComputedStyle(root).getPropertyValue(`--${name}`).trim();
  // Plotly reads tags in its texts, and these come from outside.
  const plain = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  const dayParts = (day) => {
    const [, weekday, number, month, year] = /(...), (..) (...) (....)/.exec(new Date(day).toUTCString());
    return { weekday, date: `${Number(number)} ${month}`, year };
  };
  const dayName = (day) => {
    const { weekday, date, year } = dayParts(day);
    return `${weekday} ${date} ${year}`;
  };

  const duration = (seconds, parts) => {
    const sign = seconds < 0 ? "-" : "";
    const size = Math.abs(seconds);
    const pad = (number) => String(number).padStart(2, "0");
    const join = (big, bigUnit, small, smallUnit) =>
      parts === "few" && !small ? `${sign}${big} ${bigUnit}` : `${sign}${big} ${bigUnit} ${pad(small)} ${smallUnit}`;
    const whole = Math.round(size);
    if (whole < 60) return `${sign}${Math.round(size * 10) / 10} s`;
    if (whole < 3600) return join(Math.floor(whole / 60), "min", whole % 60, "s");
    const minutes = Math.round(size / 60);
    return join(Math.floor(minutes / 60).toLocaleString("en"), "h", minutes % 60, "min");
  };

  const shown = (value, unit) => {
    if (value === null) return "no value";
    if (SECONDS[unit]) return duration(value * SECONDS[unit]);
    const digits = Math.abs(value) >= 1 || !value
      ? { maximumFractionDigits: unit === "percent" ? 1 : 2 } : { maximumSignificantDigits: 3 };
    return value.toLocaleString("en", digits) + (unit === "percent" ? "%" : "");
  };

  const base = (height) => ({
    height,
    autosize: true,
    margin: { l: 6, r: 20, t: 22, b: 6 },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: "system-ui, sans-serif", size: 12, color: css("ink") },
    hoverlabel: { bgcolor: css("panel"), bordercolor: css("line"), font: { color: css("ink") } },
    dragmode: false,
    showlegend: false,
  });

  // Ticks of a time axis at round minutes or hours, which no number format knows.
  const timeTicks = (low, high, unit, most) => {
    const span = (high - low) * SECONDS[unit];
    let step = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800].find((one) => span / one <= most);
    for (let hours = 1; !step; hours *= 10) {
      step = [1, 2, 5].map((one) => one * hours * 3600).find((one) => span / one <= most);
    }
    const values = [];
    for (let at = Math.ceil((low * SECONDS[unit]) / step) * step; at <= high * SECONDS[unit]; at += step) values.push(at);
    return { tickvals: values.map((at) => at / SECONDS[unit]), ticktext: values.map((at) => (at ? duration(at, "few") : "0")) };
  };

  const stretches = (states) => {
    const found = [];
    states.forEach((state, at) => {
      if (state !== 0) return;
      if (found.length && found.at(-1)[1] === at - 1) found.at(-1)[1] = at;
      else found.push([at, at]);
    });
    return found;
  };

  const around = (day, hours) => new Date(Date.parse(day) + hours * 3600000).toISOString().slice(0, 16);

  const marks = (page, small) => {
    const shapes = stretches(page.states).map(([first, last]) => ({
      type: "rect", yref: "paper", y0: 0, y1: 1, layer: "below", line: { width: 0 },
      x0: around(data.days[first], -12), x1: around(data.days[last], 12), fillcolor: css("missing"), opacity: 0.22,
    }));
    const annotations = [];
    for (const [day, hours] of Object.entries(data.odd_days)) {
      shapes.push({ type: "line", yref: "paper", y0: 0, y1: 1, x0: day, x1: day, layer: "below",
        line: { color: css("soft"), width: 1, dash: "dot" } });
      if (!small) annotations.push({ x: day, yref: "paper", y: 1, yanchor: "bottom", text: `${hours} h`,
        showarrow: false, font: { size: 11, color: css("soft") } });
    }
    return { shapes, annotations };
  };

  const byDay = (div) => {
    const { kind, at, part } = div.dataset;
    const page = data.pages[div.dataset.page];
    const small = div.classList.contains("small");
    const group = kind === "part" ? page.breakdowns[part] : [page.charts[at]];
    const chart = kind === "part" ? group[at] : group[0];
    const isRows = chart.measure === "Rows";
    const traces = chart.series.map((series, number) => ({
      type: isRows ? "bar" : "scatter",
      mode: "lines+markers",
      x: data.days,
      y: series.values,
      text: series.values.map((value) => shown(value, chart.unit)),
      textposition: "none",
      name: plain(series.status ?? chart.measure),
      hovertemplate: chart.series.length > 1 ? "%{fullData.name}: %{text}<extra></extra>" : "%{text}<extra></extra>",
      line: { width: small ? 1.3 : 1.8 },
      marker: { size: small ? 2.5 : 4.5, color: css(`series-${number % 8}`) },
    }));
    const latest = page.latest.filter((one) => one.measure === chart.measure);
    if (!small && latest.length === 1 && latest[0].usual !== null) {
      const { day, usual, weeks } = latest[0];
      traces.push({ type: "scatter", mode: "markers", x: [day], y: [usual], cliponaxis: false,
        marker: { symbol: "diamond-open", size: 11, color: css("ink"), line: { width: 1.5 } },
        hovertemplate: `${shown(usual, chart.unit)}, the median of ${weeks} such weekdays before<extra></extra>` });
    }
    const values = group.flatMap((one) => one.series.flatMap((series) => series.values)).filter((v) => v !== null);
    const fromZero = !["percent", "number"].includes(chart.unit) || kind === "part";
    let low = Math.min(...values), high = Math.max(...values);
    if (fromZero) [low, high] = [Math.min(low, 0), Math.max(high, 0)];
    const room = (high - low || Math.abs(high) || 1) * 0.06;
    const range = [low === 0 ? 0 : low - room, high + room];
    const layout = {
      ...base(small ? 130 : 320),
      ...marks(page, small),
      hovermode: "x unified",
      xaxis: {
        type: "date", range: [around(data.days[0], -14), around(data.days.at(-1), 14)], fixedrange: true,
        tickformat: "%-d %b", hoverformat: "%a %-d %b %Y", nticks: small ? 3 : Math.max(3, Math.round(div.clientWidth / 90)),
        showgrid: false, linecolor: css("line"), ticks: "outside", tickcolor: css("line"), automargin: true,
        tickangle: 0, ticklabeloverflow: "allow", spikedash: "solid", spikethickness: 1, spikecolor: css("soft"), tickfont: { size: small ? 10 : 12 },
      },
      yaxis: {
        range, fixedrange: true, gridcolor: css("line"), zerolinecolor: css("line"), automargin: true,
        nticks: small ? 4 : 7, tickfont: { size: small ? 10 : 12 }, ticksuffix: chart.unit === "percent" ? "%" : "",
        ...(SECONDS[chart.unit] ? timeTicks(...range, chart.unit, small ? 3 : 6) : { tickformat: ",~r" }),
        ...(chart.unit === "count" && high < 4 ? { dtick: 1 } : {}),
      },
      bargap: 0.3,
    };
    if (small) Object.assign(layout.margin, { t: 6, r: 14 });
    if (chart.series.length > 1 && !small) {
      Object.assign(layout, { showlegend: true, height: 380, legend: { orientation: "h", y: -0.12, yanchor: "top", x: 0 } });
      traces.forEach((trace) => { trace.showlegend = trace.mode !== "markers"; });
    }
    return { traces, layout };
  };

  const colours = STATES.flatMap((_, at) => [at / STATES.length, (at + 1) / STATES.length].map((edge) => [edge, at]));
  const stateCells = () => ({
    type: "heatmap", zmin: -0.5, zmax: STATES.length - 0.5, showscale: false, xgap: 2, ygap: 2, hoverongaps: false,
    colorscale: colours.map(([edge, at]) => [edge, css(STATES[at][0])]),
    texttemplate: "%{text}", hovertemplate: "%{customdata}<extra></extra>",
  });
  const stateText = (state) => (state === null ? "" : STATES[state][1]);

  // Values by day as weekdays by weeks.
  const calendar = (div, page, values, cells, text, words) => {
    const monday = (day) => Date.parse(day) - ((new Date(day).getUTCDay() + 6) % 7) * DAY;
    const start = monday(data.days[0]);
    const weeks = Math.round((monday(data.days.at(-1)) - start) / (7 * DAY)) + 1;
    const grid = (empty) => Array.from({ length: 7 }, () => Array(weeks).fill(empty));
    const [z, texts, hover] = [grid(null), grid(""), grid("")];
    data.days.forEach((day, at) => {
      const offset = Math.round((Date.parse(day) - start) / DAY);
      const [row, column] = [offset % 7, Math.floor(offset / 7)];
      z[row][column] = values[at];
      texts[row][column] = text(values[at]);
      const odd = data.odd_days[day] ? `, ${data.odd_days[day]} hours` : "";
      hover[row][column] = `${dayName(day)}${odd}<br>${words(at)}`;
    });
    // A week is 30 pixels wide, a date more.
    const every = Math.max(2, Math.ceil(weeks / 5));
    const ticks = Array.from({ length: weeks }, (_, week) => week).filter((week) => week % every === 0);
    div.style.maxWidth = `${weeks * 30 + 56}px`;
    return {
      // In half a year's cells and more a figure has no room.
      traces: [{ ...cells, z, text: texts, customdata: hover, ...(weeks > 26 ? { texttemplate: "" } : {}) }],
      layout: {
        ...base(190),
        margin: { l: 36, r: 20, t: 4, b: 24 },
        xaxis: { fixedrange: true, showgrid: false, zeroline: false, tickvals: ticks, tickangle: 0, ticklabeloverflow: "allow",
          ticktext: ticks.map((week) => dayParts(start + week * 7 * DAY).date) },
        yaxis: { fixedrange: true, showgrid: false, zeroline: false, autorange: "reversed",
          tickvals: [0, 1, 2, 3, 4, 5, 6], ticktext: ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"] },
      },
    };
  };

  const lagText = (lag) => (lag === null ? "" : lag > 99 ? "99+" : String(lag));
  const kinds = {
    days: byDay,
    part: byDay,
    states: (div) => {
      const page = data.pages[div.dataset.page];
      return calendar(div, page, page.states, stateCells(), stateText, (at) => (page.states[at] === null ? "not expected" : STATES[page.states[at]][2]));
    },
    lags: (div) => {
      const page = data.pages[div.dataset.page];
      const cells = { type: "heatmap", zmin: 0, zmax: 10, showscale: false, xgap: 2, ygap: 2, hoverongaps: false,
        colorscale: [[0, css("least")], [1, css("most")]], texttemplate: "%{text}", textfont: { size: 10 },
        hovertemplate: "%{customdata}<extra></extra>" };
      return calendar(div, page, page.lags, cells, lagText, (at) => `last loaded ${page.lags[at]} days after it ended`);
    },
    all: (div) => {
      const all = Object.values(data.pages);
      const rows = all.map((_, at) => at);
      div.style.minWidth = `${data.days.length * 9 + 240}px`;
      return {
        traces: [{ ...stateCells(), xgap: 1, x: data.days, y: rows, z: all.map((page) => page.states),
          text: all.map((page) => page.states.map(stateText)), textfont: { size: 9 },
          customdata: all.map((page) => page.states.map((state, at) =>
            `${plain(page.title)}<br>${dayName(data.days[at])}: ${state === null ? "not expected" : STATES[state][2]}`)) }],
        layout: {
          ...base(all.length * 18 + 40),
          margin: { l: 4, r: 4, t: 4, b: 30 },
          xaxis: { type: "date", tickformat: "%-d %b", fixedrange: true, showgrid: false, tickangle: 0, automargin: true },
          yaxis: { fixedrange: true, showgrid: false, zeroline: false, autorange: "reversed", side: "right", automargin: true,
            tickvals: rows, ticktext: all.map((page) => plain(page.title)), tickfont: { size: 11 }, ticklen: 3 },
        },
      };
    },
  };

  const draw = (div, width) => {
    drawn.add(div);
    const { traces, layout } = kinds[div.dataset.kind](div);
    if (width) Object.assign(layout, { width, autosize: false });
    Plotly.react(div, traces, layout, { displayModeBar: false, responsive: true });
  };
  const seen = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      seen.unobserve(target);
      draw(target);
      if (target.dataset.kind === "all") target.parentElement.scrollLeft = target.parentElement.scrollWidth;
    }
  }, { rootMargin: "200px" });
  document.querySelectorAll(".chart").forEach((div) => seen.observe(div));

  const isVisible = (div) => div.offsetParent !== null;
  const redraw = () => drawn.forEach((div) => (isVisible(div) ? draw(div) : (drawn.delete(div), seen.observe(div))));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);

  addEventListener("beforeprint", () => {
    root.classList.add("printing");
    document.querySelectorAll(".chart").forEach((div) => {
      if (!isVisible(div)) return;
      seen.unobserve(div);
      const { kind } = div.dataset;
      draw(div, div.classList.contains("small") ? PAPER / 3 - 14 : ["states", "lags"].includes(kind) ? PAPER / 2 - 20 : PAPER);
    });
  });
  addEventListener("afterprint", () => {
    root.classList.remove("printing");
    redraw();
  });

  const show = () => {
    const wanted = location.hash.slice(1) || "/";
    root.classList.toggle("everything", wanted === "/all");
    const page = pages.find((one) => one.id === wanted) ?? pages[0];
    pages.forEach((one) => one.classList.toggle("current", one === page));
    chooser.value = page.id;
    document.title = page.id === "/" ? "Dixa report" : `${page.querySelector("h1").textContent} - Dixa report`;
    scrollTo(0, 0);
    if (location.hash) page.focus({ preventScroll: true });
  };
  addEventListener("hashchange", show);
  chooser.addEventListener("change", () => { location.hash = chooser.value; });
  document.getElementById("/filter")?.addEventListener("input", (event) => {
    const words = event.target.value.toLowerCase().split(/\s+/);
    document.querySelectorAll(".overview tbody tr").forEach((row) => {
      row.hidden = !words.every((word) => row.textContent.toLowerCase().includes(word));
    });
  });
  show();
})();
