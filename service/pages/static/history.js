// The cases that were classified in this browser: words and numbers, no pictures. In the tab's own
// store, which is gone when the tab is closed, unless somebody asks to keep them on the device.

const NAME = "lesion-cases";
const MOST = 500;
const COLUMNS = [
  "when", "file", "decision", "flagged", "probability", "threshold", "label",
  "reasons", "warnings", "classes", "model", "marks", "notice",
];

const byId = (id) => document.getElementById(id);

function percent(value) {
  return `${(100 * value).toFixed(1)}\u202f%`;
}

// A cell that begins like this, a spreadsheet would compute rather than show.
function cell(value) {
  let text = value ?? "";
  if (Array.isArray(text)) text = text.join("; ");
  else if (typeof text === "object") text = JSON.stringify(text);
  text = String(text);
  if (typeof value === "string" && /^[=+\-@\t\r]/.test(text)) text = `'${text}`;
  return /[",;\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

function save(name, type, text) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

export class History {
  #owner = document.body.dataset.owner;
  #cases = [];
  #kept = false;

  constructor() {
    // A browser may forbid either store: then the list lives as long as the page.
    for (const [store, kept] of [["localStorage", true], ["sessionStorage", false]]) {
      const found = this.#read(store);
      if (!found) continue;
      if (found.owner !== this.#owner) {
        this.#remove(store);
        continue;
      }
      this.#cases = found.cases;
      this.#kept = kept;
      break;
    }
  }

  show() {
    byId("keep").checked = this.#kept;
    byId("keep").addEventListener("change", (event) => {
      this.#kept = event.target.checked;
      this.#write();
    });
    byId("forget").addEventListener("click", () => {
      this.#cases = [];
      this.#kept = false;
      byId("keep").checked = false;
      this.#write();
      this.#render();
      byId("status").textContent = "The list of cases is empty now.";
      byId("image").focus();
    });
    byId("export-csv").addEventListener("click", () => {
      const lines = this.#cases.map((each) => COLUMNS.map((name) => cell(each[name])));
      const text = [COLUMNS, ...lines].map((line) => line.join(",")).join("\r\n");
      // The mark at the start tells spreadsheets that it is UTF-8.
      save(this.#name("csv"), "text/csv", `\ufeff${text}\r\n`);
    });
    byId("export-json").addEventListener("click", () => {
      save(this.#name("json"), "application/json", JSON.stringify({ cases: this.#cases }, null, 2));
    });
    this.#render();
  }

  add(found) {
    // Another tab may have added to it.
    if (this.#kept) this.#cases = this.#read("localStorage")?.cases ?? this.#cases;
    this.#cases = [{ when: new Date().toISOString(), ...found }, ...this.#cases].slice(0, MOST);
    this.#write();
    this.#render();
  }

  #name(kind) {
    return `lesion-cases-${new Date().toISOString().slice(0, 19).replaceAll(":", "-")}.${kind}`;
  }

  #render() {
    byId("history").hidden = this.#cases.length === 0;
    byId("history-rows").replaceChildren(...this.#cases.map((each) => {
      const row = document.createElement("tr");
      const texts = [
        new Date(each.when).toLocaleString(), each.file, each.decision,
        percent(each.probability), percent(each.threshold), each.model,
      ];
      row.append(...texts.map((text) => {
        const made = document.createElement("td");
        made.textContent = text;
        return made;
      }));
      return row;
    }));
  }

  #write() {
    this.#remove("localStorage");
    this.#remove("sessionStorage");
    if (!this.#cases.length) return;
    const text = JSON.stringify({ owner: this.#owner, cases: this.#cases });
    try {
      window[this.#kept ? "localStorage" : "sessionStorage"].setItem(NAME, text);
    } catch {
      // Full or forbidden: what is on the page stays there.
    }
  }

  #read(store) {
    try {
      const found = JSON.parse(window[store].getItem(NAME));
      return Array.isArray(found?.cases) ? found : null;
    } catch {
      return null;
    }
  }

  #remove(store) {
    try {
      window[store].removeItem(NAME);
    } catch {
      // Nothing can be there either.
    }
  }
}
