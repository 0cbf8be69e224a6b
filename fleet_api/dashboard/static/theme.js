// Runs before the first paint, so that a theme chosen earlier does not flash. Not a module, as modules wait.
"use strict";
try {
  const chosen = localStorage.getItem("fleet.theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
} catch {
  // Storage may be forbidden; then the system's theme it is.
}
