// What can go wrong: the API says no, or nobody answers. Anything else is a mistake of the page's own, and shown as one.

export class ApiError extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }

  // Whether nobody answered, as opposed to an answer that says no.
  get unreachable() {
    return this.status === 0;
  }
}

// For work that nobody waits for: a lost connection is told of elsewhere.
export function report(error) {
  if (!(error instanceof ApiError)) reportError(error);
}
