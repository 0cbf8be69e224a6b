"""Who may: enrolment tokens and agent credentials."""
