// A button on each listing that copies it: of an example at Python's prompt, what is typed there.
for (const code of document.querySelectorAll(".highlight pre")) {
    const button = document.createElement("button");
    button.className = "copy";
    button.type = "button";
    button.textContent = "Copy";
    button.addEventListener("click", async () => {
        const copy = code.cloneNode(true);
        copy.querySelectorAll(".linenos").forEach((number) => number.remove());
        const lines = copy.textContent.trimEnd().split("\n");
        const typed = lines.filter((line) => /^(>>>|\.\.\.)( |$)/.test(line)).map((line) => line.slice(4));
        try {
            await navigator.clipboard.writeText((typed.length ? typed : lines).join("\n") + "\n");
            button.textContent = "Copied";
        } catch {
            getSelection().selectAllChildren(code); // no leave to write there: the keyboard still can
            button.textContent = "Selected";
        }
        setTimeout(() => (button.textContent = "Copy"), 1500);
    });
    code.parentElement.append(button);
}
