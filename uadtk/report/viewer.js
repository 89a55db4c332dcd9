"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const settings = JSON.parse($("settings").textContent);
  const { thresholds, findings, voxels, listed, start } = settings;
  const plural = (n, word) => `${n.toLocaleString("en")} ${word}${n === 1 ? "" : "s"}`;
  let nv = null; // niivue, where there is WebGL
  let at = -1; // index of the chosen finding in `listed`
  let unsaved = false;
  const verdicts = new Map(); // label -> { verdict, comment }

  // ---- threshold ----

  const slider = $("threshold");
  function recount() {
    const k = Number(slider.value);
    const ml = voxels[k] * settings.voxel_ml;
    $("count").textContent =
      `score > ${thresholds[k].toPrecision(4)}: ${plural(findings[k], "finding")}, ${ml.toFixed(3)} ml` +
      (k === start ? ` (${settings.point})` : "");
    slider.setAttribute("aria-valuetext", $("count").textContent);
    $("back").disabled = k === start;
    draw();
  }
  slider.max = thresholds.length - 1;
  slider.value = start;
  $("lowest").textContent = thresholds[0].toPrecision(3);
  $("highest").textContent = thresholds.at(-1).toPrecision(3);
  slider.addEventListener("input", recount);
  $("back").addEventListener("click", () => { slider.value = start; recount(); });

  // ---- verdicts ----

  const rows = new Map([...document.querySelectorAll("tr[data-label]")].map((row) => [Number(row.dataset.label), row]));
  function judge(label, change) {
    const now = { verdict: "", comment: "", ...verdicts.get(label), ...change };
    verdicts.set(label, now);
    unsaved = true;
    const row = rows.get(label);
    row.dataset.verdict = now.verdict;
    row.querySelector("select").value = now.verdict;
    const judged = [...verdicts.values()];
    const count = (word) => judged.filter((one) => one.verdict === word).length;
    $("judged").textContent = `${count("accepted")} accepted, ${count("rejected")} rejected of ${listed.length} listed`;
  }
  for (const [label, row] of rows) {
    row.querySelector("select").addEventListener("change", (event) => judge(label, { verdict: event.target.value }));
    row.querySelector("input").addEventListener("input", (event) => judge(label, { comment: event.target.value }));
    row.querySelector("button").addEventListener("click", () => {
      go(listed.findIndex((one) => one.label === label));
      if (nv) $("viewer").scrollIntoView({ block: "nearest" });
    });
  }

  function review() {
    return listed.map((one) => {
      const { verdict = "", comment = "" } = verdicts.get(one.label) ?? {};
      const [x, y, z] = one.peak_mm;
      return {
        label: one.label, rank: one.rank, verdict, comment, volume_ml: one.volume_ml, peak: one.peak, mean: one.mean,
        peak_x_mm: x, peak_y_mm: y, peak_z_mm: z,
      };
    });
  }
  function save(suffix, kind, text) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: kind }));
    link.download = settings.name.replace(/[^\p{L}\p{N}._-]+/gu, "_") + suffix;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    unsaved = false;
  }
  const cell = (value) => {
    if (typeof value !== "string") return String(value);
    const text = value.replace(/\s+/g, " ").trim().replace(/^[=+@-](?=.)/, "'$&"); // no formula of a spreadsheet
    return text.includes('"') ? `"${text.replaceAll('"', '""')}"` : text;
  };
  $("tsv").addEventListener("click", () => {
    const table = review();
    const columns = ["label", "rank", "verdict", "comment", "volume_ml", "peak", "mean", "peak_x_mm", "peak_y_mm", "peak_z_mm"];
    const lines = [columns, ...table.map((one) => columns.map((key) => cell(one[key])))];
    save("_review.tsv", "text/tab-separated-values", lines.map((line) => line.join("\t") + "\n").join(""));
  });
  $("json").addEventListener("click", () => {
    const record = {
      scan: settings.name, sha256: settings.sha256, checkpoint: settings.checkpoint, operating_point: settings.point,
      threshold: thresholds[start], reviewed: new Date().toISOString(), findings: review(),
      use: "For research use only. Not a medical device.",
    };
    save("_review.json", "application/json", JSON.stringify(record, null, 2) + "\n");
  });
  addEventListener("beforeunload", (event) => { if (unsaved) event.preventDefault(); });

  // ---- the three planes ----

  const bytes = (text) => Uint8Array.from(atob(text.trim()), (char) => char.charCodeAt(0));
  const inflated = (id) =>
    new Response(new Blob([bytes($(id).textContent)]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();

  async function load() {
    const code = URL.createObjectURL(new Blob([await inflated("niivue")], { type: "text/javascript" }));
    await new Promise((done, failed) => {
      const script = Object.assign(document.createElement("script"), { src: code, onload: done, onerror: failed });
      document.head.append(script);
    });
    const { Niivue, NVImage } = globalThis.niivue;
    const made = new Niivue({
      backColor: [0, 0, 0, 1], crosshairColor: [1, 1, 1, 0.6], crosshairWidth: 0.3, crosshairWidthUnit: "percent",
      crosshairGap: 3, isRadiologicalConvention: true, showAllOrientationMarkers: true, isOrientCube: false,
      isColorbar: false, multiplanarShowRender: 0, multiplanarEqualSize: true, fontMinPx: 16, fontSizeScaling: 0,
      dragAndDropEnabled: false, viewModeHotKey: "", clipPlaneHotKey: "", cycleClipPlaneHotKey: "", logLevel: "silent",
      loadingText: "", isSliceMM: false,
    });
    await made.attachToCanvas($("canvas"));
    const shades = settings.colours;
    const ends = shades.map((_, i) => Math.round((i * 255) / (shades.length - 1)));
    const channel = (c) => [shades[0][c], ...shades.map((rgb) => rgb[c])];
    ends[0] = 1; // level 0 is transparent, all others are opaque
    made.addColormap("uadtk-heat", {
      R: channel(0), G: channel(1), B: channel(2), A: [0, ...ends.map(() => 255)], I: [0, ...ends],
    });
    made.addColormap("uadtk-mask", { R: [60, 60], G: [175, 175], B: [255, 255], A: [0, 255], I: [0, 255] });
    const volume = async (id, colormap, opacity, low, high, below) =>
      NVImage.new(await inflated(id), `${id}.nii`, colormap, opacity, null, low, high, true, 0.02, false, false, "", 0,
        undefined, NaN, NaN, false, null, below, null);
    made.addVolume(await volume("scan", "gray", 1, 0, 255, 0));
    made.addVolume(await volume("score", "uadtk-heat", 0.75, start + 1, thresholds.length, 2)); // transparent below
    made.addVolume(await volume("mask", "uadtk-mask", 0, 0, 1, 0));
    made.onLocationChange = ({ mm, values }) => {
      const level = values[1]?.value ?? 0;
      const score = level < 1 ? `below ${thresholds[0].toPrecision(3)}` : thresholds[Math.min(level, thresholds.length) - 1].toPrecision(3);
      const [x, y, z] = mm.map((one) => Math.round(one) || 0); // no -0; no L or R: 0 need not be the midline
      $("where").textContent = `x ${x}, y ${y}, z ${z} mm · score ${score}`;
    };
    return made;
  }

  function draw() {
    if (!nv) return;
    const overlay = document.querySelector("input[name=overlay]:checked").value;
    nv.volumes[1].cal_min = Number(slider.value) + 1; // level k + 1 is the first above threshold k
    nv.volumes[1].opacity = overlay === "score" ? Number($("opacity").value) : 0;
    nv.volumes[2].opacity = overlay === "mask" ? Number($("opacity").value) : 0;
    nv.updateGLVolume();
  }

  function page(axis, by) {
    if (!nv) return;
    nv.moveCrosshairInVox(...[0, 1, 2].map((one) => (one === axis ? by : 0)));
  }

  function go(index) {
    if (!listed.length) return;
    at = (index + listed.length) % listed.length;
    const { label, rank, peak_mm, volume_ml, peak } = listed[at];
    for (const [other, row] of rows) row.classList.toggle("chosen", other === label);
    rows.get(label).closest("details")?.setAttribute("open", "");
    $("chosen").textContent = `Finding ${label} (rank ${rank}): ${volume_ml.toPrecision(3)} ml, peak ${peak.toPrecision(3)}`;
    if (!nv) return;
    nv.scene.crosshairPos = nv.mm2frac(peak_mm);
    nv.createOnLocationChange();
    nv.drawScene();
  }

  function view(kind) {
    const types = { axial: 0, coronal: 1, sagittal: 2, all: 3 };
    for (const button of document.querySelectorAll("button[data-view]"))
      button.setAttribute("aria-pressed", String(button.dataset.view === kind));
    $("stage").dataset.view = kind;
    if (!nv) return;
    nv.setSliceType(types[kind]);
    nv.resizeListener?.();
  }

  const verdictOfChosen = (verdict) => { if (at >= 0) judge(listed[at].label, { verdict }); };
  const next = { score: "mask", mask: "none", none: "score" };
  const keys = {
    ArrowUp: () => page(2, 1), ArrowDown: () => page(2, -1), PageUp: () => page(2, 5), PageDown: () => page(2, -5),
    ArrowRight: () => page(0, -1), ArrowLeft: () => page(0, 1), // the picture's right is the patient's left
    w: () => page(1, 1), s: () => page(1, -1),
    n: () => go(at + 1), p: () => go(at < 0 ? -1 : at - 1),
    a: () => verdictOfChosen("accepted"), r: () => verdictOfChosen("rejected"), u: () => verdictOfChosen(""),
    o: () => {
      const now = document.querySelector("input[name=overlay]:checked").value;
      document.querySelector(`input[name=overlay][value=${next[now]}]`).click();
    },
    "[": () => { slider.stepDown(); recount(); }, "]": () => { slider.stepUp(); recount(); },
  };
  addEventListener("keydown", (event) => {
    const typing = event.target.matches?.("input[type=text], select, textarea, input[type=range]");
    if (typing || event.ctrlKey || event.metaKey || event.altKey || !keys[event.key]) return;
    if (event.key.length > 1 && !$("viewer").contains(document.activeElement)) return; // arrows scroll the page elsewhere
    event.preventDefault();
    event.stopPropagation();
    keys[event.key]();
  }, true);
  $("previous").addEventListener("click", keys.p);
  $("next").addEventListener("click", keys.n);
  $("up").addEventListener("click", () => page({ coronal: 1, sagittal: 0 }[$("stage").dataset.view] ?? 2, 1));
  $("down").addEventListener("click", () => page({ coronal: 1, sagittal: 0 }[$("stage").dataset.view] ?? 2, -1));
  $("opacity").addEventListener("input", draw);
  for (const radio of document.querySelectorAll("input[name=overlay]")) radio.addEventListener("change", draw);
  for (const button of document.querySelectorAll("button[data-view]")) button.addEventListener("click", () => view(button.dataset.view));

  document.documentElement.classList.add("js");
  $("viewer").hidden = false;
  recount();
  const narrow = matchMedia("(max-width: 640px)").matches;
  const webgl = document.createElement("canvas").getContext("webgl2");
  const state = (word) => { document.documentElement.dataset.viewer = word; };
  if (!webgl || !globalThis.DecompressionStream) {
    document.documentElement.classList.add("flat");
    return state("flat");
  }
  webgl.getExtension("WEBGL_lose_context")?.loseContext(); // browsers allow few
  load().then((made) => {
    nv = made;
    view(narrow ? "axial" : "all");
    draw();
    if (listed.length) go(0);
    else { nv.scene.crosshairPos = nv.mm2frac(settings.highest_mm); nv.createOnLocationChange(); nv.drawScene(); }
    globalThis.viewer = nv;
    state("ready");
  }).catch((error) => {
    console.error(error);
    document.documentElement.classList.add("flat");
    state("flat");
  });
})();
