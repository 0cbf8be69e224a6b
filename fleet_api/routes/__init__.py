"""One thin file a chapter of the contract: parse, authorise, call a domain, answer."""
