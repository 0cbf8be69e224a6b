// JSON with exact seeds: they run to 2^63, where a Number is exact to 2^53 alone. Here a long seed is a text of digits.
// Inside a JSON text a quote is escaped, so the pattern can only meet a real key.

const LONG_SEED = /"seed":\s*(\d{16,19})(?=\s*[,}])/g;

export function parse(text) {
  return JSON.parse(text.replace(LONG_SEED, '"seed":"$1"'));
}

// Return the JSON of an object; its seed, if it has one, is written digit by digit.
export function write(object) {
  const { seed, ...rest } = object;
  const text = JSON.stringify(rest);
  if (seed === undefined) return text;
  const digits = /^\d+$/.test(seed) ? BigInt(seed).toString() : JSON.stringify(seed);
  return `${text.slice(0, -1)}${text === "{}" ? "" : ","}"seed":${digits}}`;
}
