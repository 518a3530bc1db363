"use strict";
// Everything works without this file; with it, images are previewed, and results come without a
// new page. The results themselves are always the server's, so that there is one way to show them.

document.documentElement.classList.add("js");

document.addEventListener("DOMContentLoaded", () => {
  const form = document.getElementById("form");
  if (!form) return;
  const input = document.getElementById("image");
  const drop = document.getElementById("drop");
  const previews = document.getElementById("previews");
  const problem = document.getElementById("form-problem");
  const submit = document.getElementById("submit");
  const clear = document.getElementById("clear");
  const results = document.getElementById("results");
  const limits = {
    bytes: Number(form.dataset.maxBytes),
    images: Number(form.dataset.maxImages),
  };

  function complain(text) {
    problem.textContent = text;
    problem.hidden = !text;
  }

  function objection(files) {
    if (files.length > limits.images) {
      return `${files.length} images were chosen, at most ${limits.images} go at once: choose fewer.`;
    }
    const bytes = files.reduce((sum, file) => sum + file.size, 0);
    // The form's own fields take a little of the limit too.
    if (bytes + 2048 * files.length > limits.bytes) {
      const size = (bytes / 1024 ** 2).toFixed(1);
      return `That is ${size} MB, at most ${form.dataset.maxMb} MB go at once: choose fewer or smaller images.`;
    }
    return "";
  }

  function preview(file) {
    const item = document.createElement("span");
    item.className = "preview";
    const picture = document.createElement("img");
    picture.alt = "";
    picture.addEventListener("load", () => URL.revokeObjectURL(picture.src));
    picture.addEventListener("error", () => {
      // Some formats that the server reads, a browser can't show.
      URL.revokeObjectURL(picture.src);
      const sign = document.createElement("span");
      sign.className = "preview__none";
      sign.textContent = "no preview";
      picture.replaceWith(sign);
    });
    picture.src = URL.createObjectURL(file);
    const name = document.createElement("span");
    name.className = "file";
    name.textContent = file.name;
    item.append(picture, name);
    return item;
  }

  function show() {
    const files = [...input.files];
    previews.replaceChildren(...files.map(preview));
    drop.classList.toggle("drop--filled", files.length > 0);
    previews.classList.toggle("drop__previews--many", files.length > 1);
    clear.hidden = files.length === 0;
    complain(objection(files));
    submit.textContent = files.length > 1 ? `Classify ${files.length} images` : "Classify";
  }

  function choose(files) {
    const transfer = new DataTransfer();
    for (const file of files) transfer.items.add(file);
    input.files = transfer.files;
    show();
    submit.focus();
  }

  function working(on) {
    form.setAttribute("aria-busy", String(on));
    submit.disabled = on;
    clear.disabled = on;
    drop.classList.toggle("drop--working", on);
    if (on) submit.textContent = "Classifying…";
  }

  function fallback(text) {
    const title = document.createElement("h2");
    title.id = "results-title";
    title.className = "results__title";
    title.textContent = "Nothing was classified";
    const words = document.createElement("p");
    words.className = "lead";
    words.textContent = text;
    results.replaceChildren(title, words);
  }

  async function send() {
    const response = await fetch(form.action, {
      method: "POST",
      body: new FormData(form),
      headers: { "X-Lesion-Fragment": "results" },
    });
    results.innerHTML = await response.text();
    return response.ok;
  }

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const objected = objection([...input.files]);
    if (objected) {
      complain(objected);
      return;
    }
    working(true);
    let classified = false;
    try {
      classified = await send();
    } catch (error) {
      fallback("The server can't be reached. Is it still running? Nothing was lost: try again.");
    } finally {
      working(false);
    }
    if (classified) form.reset();
    show();
    results.focus({ preventScroll: true });
    const calm = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
    results.scrollIntoView({ block: "nearest", behavior: calm ? "auto" : "smooth" });
  });

  input.addEventListener("change", show);
  clear.addEventListener("click", () => {
    form.reset();
    show();
    input.focus();
  });

  // Anywhere on the page, so that a file dropped beside the field doesn't replace the page.
  let depth = 0;
  const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");
  document.addEventListener("dragenter", (event) => {
    if (carriesFiles(event) && ++depth === 1) drop.classList.add("drop--over");
  });
  document.addEventListener("dragleave", (event) => {
    if (carriesFiles(event) && --depth <= 0) {
      depth = 0;
      drop.classList.remove("drop--over");
    }
  });
  document.addEventListener("dragover", (event) => {
    if (carriesFiles(event)) event.preventDefault();
  });
  document.addEventListener("drop", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    depth = 0;
    drop.classList.remove("drop--over");
    if (!submit.disabled) choose(event.dataTransfer.files);
  });
  document.addEventListener("paste", (event) => {
    if (event.clipboardData?.files.length && !submit.disabled) choose(event.clipboardData.files);
  });

  // A page that comes back from the history may hold a choice already.
  if (input.files.length) show();
});
