// Optional: without this script the page has the same content, and the matrix cells are plain links.
"use strict";
(() => {
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const make = (name, properties = {}, ...children) => {
    const element = Object.assign(document.createElement(name), properties);
    element.append(...children);
    return element;
  };

  // Following a link opens the collapsed sections around its target.
  const unfold = (hash) => {
    const target = document.getElementById(decodeURIComponent(hash.slice(1)));
    for (let at = target; at; at = at.parentElement) if (at.tagName === "DETAILS") at.open = true;
    return target;
  };
  addEventListener("click", (event) => {
    const link = event.target.closest?.('a[href^="#"]');
    if (link) unfold(link.hash);
  });
  addEventListener("hashchange", () => unfold(location.hash)?.scrollIntoView());
  if (location.hash) unfold(location.hash)?.scrollIntoView();

  // Tables: header buttons sort (ascending, descending, original order), a field filters. Rows stay in their group.
  const numberOf = (text) => {
    const found = text.replaceAll("−", "-").match(/-?\d+(\.\d+)?(e-?\d+)?/);
    return found ? Number(found[0]) : NaN;
  };
  const leaves = (table) => {
    const found = [];
    const rows = [...table.tHead.rows];
    const taken = rows.map(() => []);
    rows.forEach((row, y) => {
      let x = 0;
      for (const cell of row.cells) {
        while (taken[y][x]) x += 1;
        for (let dy = 0; dy < cell.rowSpan; dy += 1)
          for (let dx = 0; dx < cell.colSpan; dx += 1) (taken[y + dy] ||= [])[x + dx] = true;
        if (y + cell.rowSpan === rows.length && cell.colSpan === 1) found.push([cell, x]);
        x += cell.colSpan;
      }
    });
    return found;
  };
  const groups = (body) => {
    const found = [];
    for (const row of body.rows) {
      const heads = row.classList.contains("gt_group_heading_row");
      if (heads || !found.length) found.push({ heading: heads ? row : null, rows: [] });
      if (!heads) found.at(-1).rows.push(row);
    }
    return found;
  };
  const textOf = (row, column) => row.cells[column]?.textContent.trim() ?? "";

  for (const table of all("table[data-rows]")) {
    const body = table.tBodies[0];
    const whole = groups(body);
    const count = whole.reduce((sum, group) => sum + group.rows.length, 0);
    for (const [header, column] of leaves(table)) {
      const button = make("button", { type: "button", className: "sort" });
      button.append(...header.childNodes);
      header.append(button);
      button.addEventListener("click", () => {
        const next = { none: "ascending", ascending: "descending", descending: "none" }[header.ariaSort ?? "none"];
        for (const [other] of leaves(table)) other.removeAttribute("aria-sort");
        if (next !== "none") header.setAttribute("aria-sort", next);
        const sign = next === "descending" ? -1 : 1;
        const named = column === 0 || whole.every(({ rows }) => rows.every((row) => Number.isNaN(numberOf(textOf(row, column)))));
        const order = (a, b) => {
          const [left, right] = [textOf(a, column), textOf(b, column)];
          if (named) return sign * left.localeCompare(right, "en", { numeric: true });
          const [x, y] = [numberOf(left), numberOf(right)];
          return Number.isNaN(x) || Number.isNaN(y) ? Number.isNaN(x) - Number.isNaN(y) : sign * (x - y);
        };
        for (const group of whole) {
          const rows = next === "none" ? group.rows : [...group.rows].sort(order);
          body.append(...(group.heading ? [group.heading] : []), ...rows);
        }
      });
    }
    if (count < 8) continue;
    const said = make("span", { className: "note" });
    said.setAttribute("role", "status");
    const field = make("input", { type: "search", autocomplete: "off" });
    const say = (left) => { said.textContent = `${left} of ${count}`; };
    field.addEventListener("input", () => {
      const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
      let left = 0;
      for (const { heading, rows } of whole) {
        let here = 0;
        for (const row of rows) {
          const text = `${heading?.textContent ?? ""} ${row.textContent}`.toLowerCase();
          row.hidden = !words.every((word) => text.includes(word));
          here += !row.hidden;
        }
        if (heading) heading.hidden = !here;
        left += here;
      }
      say(left);
    });
    say(count);
    const filter = make("p", { className: "filter" }, make("label", {}, `Filter ${table.dataset.rows} `, field), " ", said);
    (table.closest(".scroll") ?? table).before(filter);
  }

  // The matrix: a cell shows its two personas' responses, copied from the list of all responses on the page.
  const reader = document.getElementById("reader");
  const cells = all("#matrix a");
  if (!reader || !cells.length) return;
  for (const hint of all(".scripted")) hint.hidden = false;
  const heading = document.getElementById("reader-pair");
  const select = reader.querySelector("select");
  const options = [...select.options];
  const asked = options.map((option) => option.textContent);
  const columns = all(".beside > div", reader);
  const said = new Map(all("[data-said]").map((element) => [element.dataset.said, element]));
  let shown = null;
  let kept = null;
  let chosen = false;

  // Marks the first word at which two texts differ, if neither contains markup.
  const mark = (slots) => {
    const texts = slots.map((slot) => {
      const holder = slot.querySelector(".response > bdi");
      return holder && !holder.children.length ? holder : null;
    });
    if (texts.some((text) => !text)) return;
    const words = texts.map((holder) => holder.textContent.match(/\s*\S+|\s+$/g) ?? []);
    let alike = 0;
    while (alike < words[0].length && words[0][alike] === words[1][alike]) alike += 1;
    texts.forEach((holder, side) => {
      const [before, after] = [words[side].slice(0, alike), words[side].slice(alike + 1)];
      if (words[side][alike] === undefined) return;
      holder.replaceChildren(before.join(""), make("mark", { className: "part" }, words[side][alike]), after.join(""));
    });
  };
  const fill = () => {
    const names = shown.dataset.pair.split(" ");
    const slots = columns.map((column, side) => {
      const [label, slot] = column.children;
      label.textContent = names[side].replaceAll("_", " ");
      const response = said.get(`${names[side]} ${select.value}`)?.cloneNode(true);
      response?.removeAttribute("data-said");
      slot.replaceChildren(response ?? make("p", { className: "note" }, "no response"));
      return slot;
    });
    mark(slots);
  };
  const show = (cell) => {
    shown = cell;
    for (const each of cells) {
      each.tabIndex = each === cell ? 0 : -1;
      each.classList.toggle("shown", each === cell);
      each.classList.toggle("kept", each === kept);
    }
    heading.textContent = cell.getAttribute("aria-label") + (kept ? " · pinned" : "");
    const js = cell.dataset.byQuestion.split(" ").filter(Boolean);
    options.forEach((option, place) => {
      option.textContent = js[place] ? `${js[place]} · ${asked[place]}` : asked[place];
    });
    if (!chosen && js.length) {
      select.value = String(js.map(Number).reduce((best, value, place, every) => (value > every[best] ? place : best), 0));
    }
    fill();
  };
  const place = (cell) => [cell.closest("tr").rowIndex, cell.closest("td").cellIndex];
  const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
  const table = document.getElementById("matrix");
  for (const cell of cells) {
    cell.addEventListener("pointerenter", (event) => { if (!kept && event.pointerType === "mouse") show(cell); });
    cell.addEventListener("focus", () => { kept = kept === cell ? cell : null; show(cell); });
    cell.addEventListener("click", (event) => {
      event.preventDefault();
      kept = kept === cell ? null : cell;
      show(cell);
      reader.scrollIntoView({ block: "nearest" });
    });
    cell.addEventListener("keydown", (event) => {
      if (event.key === "Escape") { kept = null; show(cell); }
      if (!step[event.key]) return;
      event.preventDefault();
      const [row, column] = place(cell);
      table.rows[row + step[event.key][0]]?.cells[column + step[event.key][1]]?.querySelector("a")?.focus();
    });
  }
  select.addEventListener("change", () => { chosen = true; fill(); });
  reader.hidden = false;
  show(cells.reduce((far, cell) => (numberOf(cell.textContent) > numberOf(far.textContent) ? cell : far)));
})();
