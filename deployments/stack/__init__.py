"""The whole stack on one Debian machine, an acceptance run against it, and kills at random moments."""
