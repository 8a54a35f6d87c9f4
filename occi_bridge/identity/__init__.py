"""Who a client is and what they may do: certificates, VOMS, grid files."""
