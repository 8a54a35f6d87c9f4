"""What a user is told of a restart that was asked for and was not seen. The bait says it, as the
reason of a running VM's state; the bridge shows it."""

DEAF = (
    "the guest does not react to its power button: it has not been restarted. A restart that is"
    " warm or cold does not ask it"
)
UNSEEN = "whether the guest has restarted, as was asked for, is not known"
TOLD = (DEAF, UNSEEN)
