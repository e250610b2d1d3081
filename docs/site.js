// The copy button of a block of the console copies its commands, without `$ ` and without output.
document.addEventListener(
  "click",
  (event) => {
    const button = event.target.closest("[data-clipboard-target]");
    const block = button?.closest(".language-console");
    if (!block) return;
    const commands = [];
    let goesOn = false;
    for (const line of block.querySelector("code").textContent.split("\n")) {
      if (line.startsWith("$ ") || goesOn) {
        commands.push(goesOn ? line : line.slice(2));
        goesOn = line.endsWith("\\");
      }
    }
    button.setAttribute("data-clipboard-text", `${commands.join("\n")}\n`);
  },
  true, // before the theme's own listener
);
