
(function () {
  "use strict";
  const get = (id) => document.getElementById(id);
  const contents = get("contents"), wide = window.matchMedia("(min-width: 64rem)");
  const fold = () => { contents.open = wide.matches; };  // a phone's reader sees the findings first
  wide.addEventListener("change", fold);
  fold();
  const search = get("search"), measure = get("measure"), outcome = get("outcome"), count = get("count");
  if (!search) return;
  const rows = Array.from(document.querySelectorAll(".sample"));
  const texts = rows.map((row) => row.textContent.toLowerCase());
  function apply() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    rows.forEach((row, k) => {
      const found = words.every((word) => texts[k].includes(word));
      const kept = !outcome || !outcome.value || row.dataset[measure.value] === outcome.value;
      row.hidden = !(found && kept);
      if (!row.hidden) shown += 1;
    });
    count.textContent = shown + " of " + rows.length;
  }
  ["input", "change"].forEach((event) =>
    [search, measure, outcome].forEach((one) => one && one.addEventListener(event, apply)));
  apply();
})();
