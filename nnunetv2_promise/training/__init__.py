"""What a trainer needs besides the network: losses and prompt sampling."""
