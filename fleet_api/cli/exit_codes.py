"""What the command's exit codes mean; ``fleet --help`` prints them."""

OK = 0
FAILED = 1
USAGE = 2
UNREACHABLE = 3
REFUSED = 4
CONFLICT = 5
UNUSABLE = 6
INTERRUPTED = 130

MEANINGS = {
    OK: "it went well",
    FAILED: "the job failed or was cancelled",
    USAGE: "the command was written wrongly",
    UNREACHABLE: "no control plane answers",
    REFUSED: "the control plane refused; it says why",
    CONFLICT: "the data folder or the port is in use",
    UNUSABLE: "the data folder or the database cannot be used",
    INTERRUPTED: "stopped by Ctrl-C",
}
