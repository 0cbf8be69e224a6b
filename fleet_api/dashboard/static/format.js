// How values are written; fleet_api/dashboard/wording.py writes them the same way for the first paint.

const EXCERPT = 200;
const NO_VALUE = "–";

const whole = (value) => Math.floor(value + 0.5);

export function excerpt(text) {
  const line = text.split(/\s+/u).filter(Boolean).join(" ");
  const letters = Array.from(line);
  return letters.length <= EXCERPT ? line : `${letters.slice(0, EXCERPT - 1).join("").trimEnd()}…`;
}

export const percentage = (value) => (value === null ? NO_VALUE : `${whole(value)}%`);

export const celsius = (value) => (value === null ? NO_VALUE : `${whole(value)} °C`);

export const noValue = () => NO_VALUE;

export const size = (width, height) => `${width} × ${height}`;

export const grouped = (number) => number.toLocaleString("en-US");

export const counted = (number, one, many) => `${grouped(number)} ${number === 1 ? one : many}`;

export function soon(seconds) {
  if (seconds === null || seconds === undefined) return "";
  if (seconds < 1) return "starts next";
  if (seconds < 100) return `starts in about ${whole(seconds)} s`;
  if (seconds < 5700) return `starts in about ${whole(seconds / 60)} min`;
  return `starts in about ${whole(seconds / 3600)} h`;
}

export const joined = (...parts) => parts.filter(Boolean).join(" · ");

// How long ago a moment was; from a week on, the day.
export function ago(rfc3339) {
  if (!rfc3339) return "never";
  const seconds = (Date.now() - Date.parse(rfc3339)) / 1000;
  if (seconds < 45) return "just now";
  if (seconds < 5400) return `${Math.max(1, whole(seconds / 60))} min ago`;
  if (seconds < 129600) return `${whole(seconds / 3600)} h ago`;
  if (seconds < 604800) return `${whole(seconds / 86400)} days ago`;
  return new Date(rfc3339).toLocaleDateString();
}

export const exactly = (rfc3339) => (rfc3339 ? new Date(rfc3339).toLocaleString() : "");
