// The few things done to the document. Texts go in as text, never as markup.

export const byId = (id) => document.getElementById(id);

export function setText(element, text) {
  if (element && element.textContent !== text) element.textContent = text;
}

export const part = (element, name) => element.querySelector(`[data-part="${name}"]`);

export function setParts(element, texts) {
  for (const [name, text] of Object.entries(texts)) setText(part(element, name), text);
}

export const copyOf = (templateId) => byId(templateId).content.firstElementChild.cloneNode(true);

// Make a list show these rows, in this order. Elements are kept by key, so that focus and scrolling stay where they are.
export function reconcile(list, rows, keyOf, templateId, update) {
  const wanted = new Set(rows.map(keyOf));
  const known = new Map();
  let focusLost = false;
  for (const element of [...list.children]) {
    if (wanted.has(element.dataset.key)) {
      known.set(element.dataset.key, element);
    } else {
      focusLost ||= element.contains(document.activeElement);
      element.remove();
    }
  }
  let next = list.firstElementChild;
  for (const row of rows) {
    const key = keyOf(row);
    const element = known.get(key) ?? copyOf(templateId);
    element.dataset.key = key;
    update(element, row);
    if (element === next) next = next.nextElementSibling;
    else list.insertBefore(element, next);
  }
  if (focusLost) focusNear(list);
}

// What had the focus is gone: give it to what came into its place, or to the heading.
export function focusNear(list) {
  const target = list.querySelector("button, a[href]") ?? list.closest("section")?.querySelector("h2");
  if (!target) return;
  if (target.tagName === "H2") target.tabIndex = -1;
  target.focus({ preventScroll: true });
}
