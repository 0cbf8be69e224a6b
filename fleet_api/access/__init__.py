"""Who may: keys and roles, sign-in, enrolment, the doors and guards, the audit log, certificates."""
