// Send images one by one, a few at a time, and show each answer as soon as it is there.

const AT_ONCE = 3;
const TRIES = 6;
const LONGEST_WAIT_SECONDS = 10;

const byId = (id) => document.getElementById(id);

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text) made.textContent = text;
  return made;
}

function parsed(html) {
  const holder = document.createElement("template");
  holder.innerHTML = html;
  return holder.content;
}

function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, 1000 * seconds);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    }, { once: true });
  });
}

export class Results {
  #form;
  #history;
  #cards = byId("cards");
  #status = byId("status");
  #progress = byId("progress");
  #bar = byId("progress-bar");
  #section = byId("results");
  #stopping = null;
  // Maps are made one after the other, so that they don't hold up verdicts.
  #looking = Promise.resolve();

  constructor(form, history) {
    this.#form = form;
    this.#history = history;
    byId("stop").addEventListener("click", () => this.#stopping?.abort());
    byId("print").addEventListener("click", () => window.print());
    byId("sweep").addEventListener("click", () => {
      this.#cards.replaceChildren();
      this.#status.textContent = "";
      byId("results-tools").hidden = true;
      byId("image").focus();
    });
    this.#cards.addEventListener("input", (event) => {
      if (!event.target.matches("[data-dial]")) return;
      const stack = event.target.closest(".look").querySelector(".look__stack");
      stack.style.setProperty("--strength", event.target.value / 100);
    });
    this.#cards.addEventListener("submit", (event) => {
      if (!event.target.matches("[data-review]")) return;
      event.preventDefault();
      this.#review(event.target, event.submitter);
    });
  }

  // Gives the files that were not sent, because somebody stopped.
  async run(files, asked = new FormData(this.#form)) {
    this.#stopping = new AbortController();
    const { signal } = this.#stopping;
    byId("guide")?.remove();
    byId("results-title").textContent = "Results";
    byId("results-tools").hidden = false;
    const waiting = files.map((file) => ({ file, place: this.#placeholder(file) }));
    this.#cards.prepend(...waiting.map(({ place }) => place));
    const left = [];
    let done = 0;
    const count = (said = "") => {
      this.#bar.max = files.length;
      this.#bar.value = done;
      this.#status.textContent = `${done} of ${files.length} done${said}`;
    };
    count();
    this.#progress.hidden = files.length === 1;
    this.#section.focus({ preventScroll: true });
    const calm = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.#section.scrollIntoView({ block: "nearest", behavior: calm ? "auto" : "smooth" });
    const work = async () => {
      for (let next = waiting.shift(); next; next = waiting.shift()) {
        const { file, place } = next;
        if (signal.aborted) {
          place.remove();
          left.push(file);
          continue;
        }
        place.classList.add("card--working");
        place.querySelector(".lead").textContent = "Being classified …";
        try {
          const said = await this.#classify(file, place, asked, signal);
          done += 1;
          count(`. ${file.name}: ${said}`);
        } catch (error) {
          if (error.name !== "AbortError") throw error;
          place.remove();
          left.push(file);
        }
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, work));
    this.#progress.hidden = true;
    this.#stopping = null;
    return left;
  }

  #placeholder(file) {
    const place = element("article", "card card--waiting");
    place.append(element("p", "file", file.name), element("p", "lead", "Waits for its turn"));
    return place;
  }

  // Gives what is said of it in a word.
  async #classify(file, place, asked, signal) {
    let card = null;
    try {
      card = parsed(await this.#ask(file, asked, signal)).querySelector(".card");
    } catch (error) {
      // What fetch throws where there is no connection.
      if (!(error instanceof TypeError)) throw error;
    }
    // A proxy in between may have answered with a page of its own.
    if (!card) {
      this.#unreachable(file, place, asked);
      return "the server can't be reached";
    }
    if (!card.querySelector(".file")) card.querySelector("h3").after(element("p", "file", file.name));
    place.replaceWith(card);
    this.#keep(card);
    const later = card.querySelector("[data-look]");
    if (later) this.#looking = this.#looking.then(() => this.#look(file, later, asked, signal));
    return card.dataset.said;
  }

  async #look(file, later, asked, signal) {
    // Somebody may have cleared the results meanwhile.
    if (!later.isConnected) return;
    const body = new FormData();
    body.set("csrf_token", asked.get("csrf_token"));
    body.set("model", later.dataset.model);
    let told = "";
    try {
      const answer = parsed(await this.#ask(file, body, signal, later.dataset.look));
      const look = answer.querySelector(".look");
      if (look) {
        later.replaceWith(look);
        return;
      }
      told = answer.querySelector(".lead")?.textContent ?? "the server can't be reached.";
    } catch (error) {
      if (error.name !== "AbortError" && !(error instanceof TypeError)) throw error;
      told = error.name === "AbortError" ? "it was stopped." : "the server can't be reached.";
    }
    later.removeAttribute("aria-busy");
    later.querySelector(".look__wait").textContent = `There is no map: ${told}`;
  }

  async #ask(file, asked, signal, address = this.#form.action) {
    for (let tried = 1; ; tried++) {
      const body = new FormData();
      for (const [name, value] of asked) if (name !== "image") body.append(name, value);
      body.set("image", file);
      const response = await fetch(address, {
        method: "POST",
        body,
        signal,
        headers: { "X-Lesion-Fragment": "results" },
      });
      const later = response.status === 503 || response.status === 429;
      if (!later || tried === TRIES) return response.text();
      const seconds = Number(response.headers.get("Retry-After")) || tried;
      await pause(Math.min(seconds, LONGEST_WAIT_SECONDS), signal);
    }
  }

  #unreachable(file, place, asked) {
    const card = element("article", "card card--rejected");
    card.setAttribute("aria-label", file.name);
    const again = element("button", "button button--quiet button--small", "Try again");
    again.type = "button";
    again.addEventListener("click", async () => {
      card.remove();
      await this.run([file], asked);
    });
    card.append(
      element("h3", "decision", "Not classified"),
      element("p", "file", file.name),
      element("p", "lead", "The server can't be reached. Is it still running? Nothing was lost."),
      again,
    );
    place.replaceWith(card);
  }

  #keep(card) {
    if (card.dataset.case) this.#history.add(JSON.parse(card.dataset.case));
  }

  async #review(form, button) {
    const body = new FormData(form, button);
    const said = element("p", "review__said");
    said.setAttribute("role", "status");
    for (const each of form.querySelectorAll("button")) each.disabled = true;
    try {
      const response = await fetch(form.action, {
        method: "POST",
        body,
        headers: { "X-Lesion-Fragment": "review" },
      });
      if (response.ok) {
        said.textContent = `Recorded: ${button.value}.`;
        form.replaceWith(said);
        return;
      }
      const told = parsed(await response.text()).querySelector(".lead");
      said.textContent = told?.textContent ?? "Not recorded.";
    } catch {
      said.textContent = "Not recorded: the server can't be reached.";
    }
    form.querySelector(".review__said")?.remove();
    form.append(said);
    for (const each of form.querySelectorAll("button")) each.disabled = false;
  }
}
