// Everything works without scripts; with them, several images are sent one by one, and the list of
// cases is kept. The results themselves are always the server's: there is one way to show them.
import { History } from "./history.js";
import { Intake } from "./intake.js";
import { Results } from "./results.js";

const history = new History();
const form = document.getElementById("form");
if (form) {
  const results = new Results(form, history);
  new Intake(form, (files) => results.run(files));
  history.show();
}
