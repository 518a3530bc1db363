// Which images are to be classified: dropped, pasted, picked or photographed, one after the other.

const byId = (id) => document.getElementById(id);

function preview(file) {
  const picture = document.createElement("img");
  picture.alt = "";
  picture.addEventListener("load", () => URL.revokeObjectURL(picture.src));
  picture.addEventListener("error", () => {
    // Some formats that the server reads, a browser can't show.
    URL.revokeObjectURL(picture.src);
    const sign = document.createElement("span");
    sign.className = "tray__none";
    sign.textContent = "no preview";
    picture.replaceWith(sign);
  });
  picture.src = URL.createObjectURL(file);
  return picture;
}

function megabytes(bytes) {
  return (bytes / 1024 ** 2).toFixed(1);
}

export class Intake {
  #chosen = [];
  #form;
  #run;
  #input = byId("image");
  #tray = byId("tray");
  #problem = byId("form-problem");
  #submit = byId("submit");
  #clear = byId("clear");
  #drop = byId("drop");

  constructor(form, run) {
    this.#form = form;
    this.#run = run;
    form.noValidate = true;
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send();
    });
    this.#input.addEventListener("change", () => this.#take(this.#input));
    this.#clear.addEventListener("click", () => {
      this.#set([]);
      this.#input.focus();
    });
    const camera = byId("camera");
    byId("photograph").addEventListener("click", () => camera.click());
    camera.addEventListener("change", () => this.#take(camera));
    this.#watchPage();
    // A page that comes back from the history may hold a choice already.
    if (this.#input.files.length) this.#take(this.#input);
  }

  #take(input) {
    const files = [...input.files];
    // So that the same file can be chosen again.
    input.value = "";
    this.#add(files);
  }

  #add(files) {
    if (!files.length) return;
    this.#set([...this.#chosen, ...files]);
    this.#submit.focus();
  }

  #set(files) {
    this.#chosen = files;
    this.#tray.replaceChildren(...files.map((file) => this.#item(file)));
    this.#tray.classList.toggle("tray--one", files.length === 1);
    this.#tray.hidden = files.length === 0;
    this.#clear.hidden = files.length === 0;
    this.#drop.classList.toggle("drop--filled", files.length > 0);
    this.#submit.textContent = files.length > 1 ? `Classify ${files.length} images` : "Classify";
    this.#complain(this.#objection());
  }

  #item(file) {
    const item = document.createElement("li");
    const name = document.createElement("span");
    name.className = "file";
    name.textContent = file.name;
    const remove = document.createElement("button");
    remove.type = "button";
    remove.className = "tray__remove";
    remove.textContent = "×";
    remove.setAttribute("aria-label", `Remove ${file.name}`);
    remove.addEventListener("click", () => {
      this.#set(this.#chosen.filter((other) => other !== file));
      (this.#tray.querySelector("button") ?? this.#input).focus();
    });
    item.append(preview(file), name, remove);
    return item;
  }

  #objection() {
    const limit = Number(this.#form.dataset.maxBytes);
    // The form's own fields take a little of the limit, too.
    const large = this.#chosen.find((file) => file.size + 4096 > limit);
    if (!large) return "";
    return `${large.name} has ${megabytes(large.size)} MB, at most ${this.#form.dataset.maxMb} MB are accepted: remove it or make it smaller.`;
  }

  #complain(text) {
    this.#problem.textContent = text;
    this.#problem.hidden = !text;
  }

  async #send() {
    const objection = this.#chosen.length ? this.#objection() : "Choose an image first.";
    if (objection) {
      this.#complain(objection);
      return;
    }
    const files = this.#chosen;
    this.#set([]);
    this.#submit.disabled = true;
    const left = await this.#run(files);
    this.#submit.disabled = false;
    // What is known of this patient must not go with the images of the next one.
    if (!left.length) {
      for (const field of this.#form.querySelectorAll("#patient input, #patient select")) {
        field.value = "";
      }
    }
    if (left.length) this.#set([...left, ...this.#chosen]);
  }

  // Anywhere on the page, so that a file dropped beside the field doesn't replace the page.
  #watchPage() {
    let depth = 0;
    const carries = (event) => event.dataTransfer?.types.includes("Files");
    const over = (on) => this.#drop.classList.toggle("drop--over", on);
    document.addEventListener("dragenter", (event) => {
      if (carries(event) && ++depth === 1) over(true);
    });
    document.addEventListener("dragleave", (event) => {
      if (carries(event) && --depth <= 0) {
        depth = 0;
        over(false);
      }
    });
    document.addEventListener("dragover", (event) => {
      if (carries(event)) event.preventDefault();
    });
    document.addEventListener("drop", (event) => {
      if (!carries(event)) return;
      event.preventDefault();
      depth = 0;
      over(false);
      this.#add([...event.dataTransfer.files]);
    });
    document.addEventListener("paste", (event) => {
      this.#add([...(event.clipboardData?.files ?? [])]);
    });
  }
}
