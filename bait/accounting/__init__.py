"""Accounting of cloud VMs: wallclock out of the ledger, into APEL's messages."""
