"""Object stores: a folder of this machine, or S3."""
